#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "core/result.h"

namespace kerf::measure {

/// How long somebody waits for the host lock.
struct WaitLimits {
  std::chrono::milliseconds limit{std::chrono::minutes(30)};
  std::function<bool()> cancelled;          ///< Asked every few milliseconds; may be empty.
  std::function<void(double)> waiting;      ///< Told the seconds waited, about once a second.
};

/// A reader/writer lock over all workers of a host: who measures latency holds it exclusively and
/// has the machine alone; all other heavy work holds it shared, in pieces of about 100 ms.
///
/// Files:    `host.lock` and `turnstile.lock` in one folder, which stay. flock() follows the open
///           file, so the kernel releases everything when a process dies, however it dies.
/// Fairness: who wants it exclusively holds the turnstile while the holders before it drain; who
///           wants it shared passes the turnstile first. So neither side starves: new shared
///           holders queue behind a waiting exclusive one, and those who queue go before the next.
/// Threads:  one HostLock a thread; it stays where it is while a Turn is out. It holds at most one turn at a time; asking for another one is
///           a broken precondition (std::logic_error).
/// Sandbox:  open() touches the file system, everything later only uses descriptors.
class HostLock {
 public:
  /// Gives the turn back when it goes.
  class Turn {
   public:
    Turn() = default;
    Turn(Turn&& other) noexcept;
    Turn& operator=(Turn&& other) noexcept;
    ~Turn();
    void release();
    [[nodiscard]] bool held() const { return lock_ != nullptr; }
    [[nodiscard]] double waited_ms() const { return waited_ms_; }

   private:
    friend class HostLock;
    Turn(HostLock* lock, double waited_ms) : lock_(lock), waited_ms_(waited_ms) {}
    HostLock* lock_ = nullptr;
    double waited_ms_ = 0;
  };

  /// KERF_LOCK_DIR, else /tmp/kerf-<uid>. (Not XDG_RUNTIME_DIR: batch jobs and services have none,
  /// and all workers of a host must meet.)
  [[nodiscard]] static std::string default_directory();

  /// Makes the folder (mode 0700) and the files where they are missing.
  ///
  /// Errors:   permission_denied where the default folder belongs to somebody else, others may
  ///           write to it, or it is a link (a folder that was named is taken as it is, so that
  ///           several users may share one); unavailable where files can't be made.
  [[nodiscard]] static Result<HostLock> open(const std::string& directory = default_directory());

  HostLock(HostLock&& other) noexcept;
  HostLock& operator=(HostLock&& other) noexcept;
  ~HostLock();

  /// Errors:   deadline_exceeded, cancelled.
  [[nodiscard]] Result<Turn> shared(const WaitLimits& limits = {});
  [[nodiscard]] Result<Turn> exclusive(const WaitLimits& limits = {});

  /// Whether a shared holder should let others in: somebody waits at the turnstile.
  [[nodiscard]] bool contended() const;

 private:
  HostLock(std::string directory, int lock_fd, int turnstile_fd);
  [[nodiscard]] Result<Turn> take(int how, const WaitLimits& limits);
  void release();

  std::string directory_;
  int lock_fd_ = -1;
  int turnstile_fd_ = -1;
  bool held_ = false;
};

/// A shared turn that long work keeps, and gives up for a moment whenever it has held it for long.
class SharedTurn {
 public:
  /// `lock` may be null: then nothing is waited for.
  SharedTurn(HostLock* lock, WaitLimits limits, std::chrono::milliseconds piece = std::chrono::milliseconds(100));

  /// Called between pieces of work: takes the turn at first, later lets it go and takes it again
  /// where the piece's time is over.
  ///
  /// Errors:   those of HostLock::shared().
  [[nodiscard]] Result<void> next();
  void release() { turn_.release(); }
  [[nodiscard]] double waited_ms() const { return waited_ms_; }

 private:
  HostLock* lock_;
  WaitLimits limits_;
  std::chrono::milliseconds piece_;
  HostLock::Turn turn_;
  std::chrono::steady_clock::time_point since_;
  double waited_ms_ = 0;
};

}  // namespace kerf::measure
