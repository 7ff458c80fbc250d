#include "workers/measure/host_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace kerf::measure {
namespace {

using std::chrono::duration;
using std::chrono::microseconds;
using std::chrono::steady_clock;

std::string own_directory() { return "/tmp/kerf-" + std::to_string(geteuid()); }

Error unavailable(const std::string& path, int code) {
  return {ErrorCode::kUnavailable,
          "host lock: " + path + " can't be used (" + std::generic_category().message(code) + ")"};
}

/// A waiter's state over the two files: flock() has no time limit, so we ask again and again, at
/// first often.
class Waiter {
 public:
  Waiter(const WaitLimits& limits, std::string directory)
      : limits_(limits), directory_(std::move(directory)), start_(steady_clock::now()) {}

  Result<void> take(int fd, int how) {
    while (flock(fd, how | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return unavailable(directory_, errno);
      if (limits_.cancelled && limits_.cancelled()) {
        return Error{ErrorCode::kCancelled, "host lock: cancelled while waiting for it"};
      }
      if (steady_clock::now() - start_ >= limits_.limit) {
        return Error{ErrorCode::kDeadlineExceeded,
                     "host lock: " + directory_ + " was held by others of this host for " +
                         std::to_string(limits_.limit.count()) + " ms, the limit"};
      }
      const double seconds = waited_ms() / 1e3;
      if (limits_.waiting && seconds >= next_report_) {
        limits_.waiting(seconds);
        next_report_ = seconds + 1;
      }
      std::this_thread::sleep_for(pause_);
      pause_ = std::min(pause_ * 2, kLongestPause);
    }
    return {};
  }

  [[nodiscard]] double waited_ms() const {
    return duration<double, std::milli>(steady_clock::now() - start_).count();
  }

 private:
  static constexpr microseconds kLongestPause{2000};
  const WaitLimits& limits_;
  std::string directory_;
  steady_clock::time_point start_;
  microseconds pause_{50};
  double next_report_ = 1;
};

}  // namespace

std::string HostLock::default_directory() {
  const char* given = std::getenv("KERF_LOCK_DIR");
  return given != nullptr && *given != '\0' ? given : own_directory();
}

Result<HostLock> HostLock::open(const std::string& directory) {
  std::error_code failed;
  // A folder that somebody chose is theirs to guard; the one in /tmp could be laid as a trap.
  const bool chosen = directory != own_directory();
  if (chosen) {
    std::filesystem::create_directories(directory, failed);
    if (failed) return unavailable(directory, failed.value());
  } else {
    if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return unavailable(directory, errno);
    struct stat status {};
    if (lstat(directory.c_str(), &status) != 0) return unavailable(directory, errno);
    if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
      return Error{ErrorCode::kPermissionDenied,
                   "host lock: " + directory + " isn't a folder of ours alone; expected one with "
                   "mode 0700, or KERF_LOCK_DIR naming another"};
    }
  }
  const auto open_file = [&](const char* name) {
    const std::string path = directory + "/" + name;
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    // Another user's file needs no writing to be locked.
    return fd >= 0 ? fd : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  };
  const int lock = open_file("host.lock");
  if (lock < 0) return unavailable(directory + "/host.lock", errno);
  const int turnstile = open_file("turnstile.lock");
  if (turnstile < 0) {
    const int code = errno;
    close(lock);
    return unavailable(directory + "/turnstile.lock", code);
  }
  return HostLock(directory, lock, turnstile);
}

HostLock::HostLock(std::string directory, int lock_fd, int turnstile_fd)
    : directory_(std::move(directory)), lock_fd_(lock_fd), turnstile_fd_(turnstile_fd) {}

HostLock::HostLock(HostLock&& other) noexcept
    : directory_(std::move(other.directory_)),
      lock_fd_(std::exchange(other.lock_fd_, -1)),
      turnstile_fd_(std::exchange(other.turnstile_fd_, -1)),
      held_(std::exchange(other.held_, false)) {}

HostLock& HostLock::operator=(HostLock&& other) noexcept {
  std::swap(directory_, other.directory_);
  std::swap(lock_fd_, other.lock_fd_);
  std::swap(turnstile_fd_, other.turnstile_fd_);
  std::swap(held_, other.held_);
  return *this;
}

HostLock::~HostLock() {
  if (lock_fd_ >= 0) close(lock_fd_);
  if (turnstile_fd_ >= 0) close(turnstile_fd_);
}

Result<HostLock::Turn> HostLock::shared(const WaitLimits& limits) {
  return take(LOCK_SH, limits);
}

Result<HostLock::Turn> HostLock::exclusive(const WaitLimits& limits) {
  return take(LOCK_EX, limits);
}

Result<HostLock::Turn> HostLock::take(int how, const WaitLimits& limits) {
  if (held_) throw std::logic_error("host lock: a second turn was asked for");
  Waiter waiter(limits, directory_);
  KERF_TRY(waiter.take(turnstile_fd_, how));
  const auto entered = waiter.take(lock_fd_, how);
  flock(turnstile_fd_, LOCK_UN);
  if (!entered.has_value()) return entered.error();
  held_ = true;
  return Turn(this, waiter.waited_ms());
}

bool HostLock::contended() const {
  if (flock(turnstile_fd_, LOCK_SH | LOCK_NB) != 0) return true;
  flock(turnstile_fd_, LOCK_UN);
  return false;
}

void HostLock::release() {
  if (!held_) return;
  flock(lock_fd_, LOCK_UN);
  held_ = false;
}

HostLock::Turn::Turn(Turn&& other) noexcept
    : lock_(std::exchange(other.lock_, nullptr)), waited_ms_(other.waited_ms_) {}

HostLock::Turn& HostLock::Turn::operator=(Turn&& other) noexcept {
  if (this != &other) {
    release();
    lock_ = std::exchange(other.lock_, nullptr);
    waited_ms_ = other.waited_ms_;
  }
  return *this;
}

HostLock::Turn::~Turn() { release(); }

void HostLock::Turn::release() {
  if (lock_ != nullptr) std::exchange(lock_, nullptr)->release();
}

SharedTurn::SharedTurn(HostLock* lock, WaitLimits limits, std::chrono::milliseconds piece)
    : lock_(lock), limits_(std::move(limits)), piece_(piece), since_(steady_clock::now()) {}

Result<void> SharedTurn::next() {
  if (lock_ == nullptr) return {};
  if (turn_.held()) {
    if (steady_clock::now() - since_ < piece_) return {};
    if (!lock_->contended()) {
      since_ = steady_clock::now();
      return {};
    }
    turn_.release();
  }
  auto turn = lock_->shared(limits_);
  if (!turn.has_value()) return turn.error();
  turn_ = std::move(*turn);
  waited_ms_ += turn_.waited_ms();
  since_ = steady_clock::now();
  return {};
}

}  // namespace kerf::measure
