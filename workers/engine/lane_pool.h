#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

namespace kerf::engine {

/// Keeps the threads of a team on cores of their own.
///
/// A kernel may leave a woken thread on its waker's core for a whole time slice although another
/// core is free; of two threads that wait for each other there, one then burns the slice that the
/// other one needs. So whoever helps the caller goes to the next allowed core after the caller's.
class Placement {
 public:
  /// Helper `index` (0…) is the thread of this id from now on.
  void set_helper(std::size_t index, pid_t thread);

  /// On the caller's thread, before work: takes the helpers to their cores where the caller has
  /// moved since the last time. Where the kernel refuses they stay: slower, not wrong.
  void follow();

 private:
  std::vector<pid_t> helpers_;
  int core_ = -1;  ///< The caller's.
};

/// Threads that wait for one caller's work, each on a core of its own. They look for work for some
/// tens of microseconds after the last and sleep then, so that they don't hold cores that others need.
///
/// Threads:  one caller at a time, which takes part as lane 0.
class LanePool {
 public:
  /// Throws std::system_error where no thread can be had.
  explicit LanePool(int lanes);
  ~LanePool();
  LanePool(const LanePool&) = delete;
  LanePool& operator=(const LanePool&) = delete;

  /// Calls work(lane) for every lane at the same time and waits for all. Allocates nothing. Throws
  /// what one of them threw.
  template <class Work>
  void run(Work& work) {
    run([](void* context, int lane) { (*static_cast<Work*>(context))(lane); }, &work);
  }

 private:
  using Call = void (*)(void* context, int lane);
  void run(Call call, void* context);
  void end();
  void serve(int lane);
  void work(int lane) noexcept;

  std::vector<std::thread> threads_;
  std::vector<std::atomic<pid_t>> ids_;  ///< Of threads_, once they run.
  Placement placement_;
  Call call_ = nullptr;
  void* context_ = nullptr;
  bool ending_ = false;
  alignas(64) std::atomic<std::uint32_t> turn_{0};       ///< Counts pieces of work given.
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};
  alignas(64) std::atomic<bool> failed_{false};
  std::exception_ptr failure_;
};

}  // namespace kerf::engine
