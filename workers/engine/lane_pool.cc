#include "workers/engine/lane_pool.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

namespace kerf::engine {
namespace {

/// Some tens of microseconds: longer than the gaps between timed runs, and several times what it
/// costs to wake a sleeper.
constexpr int kLooks = 2000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Waits until `value` isn't `old` any more.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int look = 0; look < kLooks; ++look) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

void Placement::set_helper(std::size_t index, pid_t thread) {
  if (index >= helpers_.size()) helpers_.resize(index + 1, 0);
  helpers_[index] = thread;
  core_ = -1;
}

void Placement::follow() {
  const int now = sched_getcpu();
  if (now < 0 || now == core_) return;
  core_ = now;
  // The caller's: the helpers' own say one core only.
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
  int core = now;
  for (const pid_t helper : helpers_) {
    do core = (core + 1) % CPU_SETSIZE;
    while (!CPU_ISSET(core, &allowed));
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(core, &own);
    // From here, as a helper that waits for the caller's core can't go by itself.
    if (helper > 0) sched_setaffinity(helper, sizeof own, &own);
  }
}

LanePool::LanePool(int lanes) : ids_(static_cast<std::size_t>(lanes) - 1) {
  threads_.reserve(static_cast<std::size_t>(lanes) - 1);
  try {
    for (int lane = 1; lane < lanes; ++lane) threads_.emplace_back([this, lane] { serve(lane); });
  } catch (...) {
    end();
    throw;
  }
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    ids_[i].wait(0);
    placement_.set_helper(i, ids_[i]);
  }
}

LanePool::~LanePool() { end(); }

void LanePool::end() {
  ending_ = true;
  turn_.fetch_add(1, std::memory_order_release);
  turn_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void LanePool::run(Call call, void* context) {
  call_ = call;
  context_ = context;
  placement_.follow();
  unfinished_.store(static_cast<std::uint32_t>(threads_.size()), std::memory_order_relaxed);
  turn_.fetch_add(1, std::memory_order_release);
  turn_.notify_all();
  work(0);
  for (std::uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    wait_for_change(unfinished_, left);
  }
  if (failed_.exchange(false)) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void LanePool::serve(int lane) {
  // A lane is one thread: what it calls mustn't make a team of its own.
  omp_set_num_threads(1);
  std::atomic<pid_t>& id = ids_[static_cast<std::size_t>(lane) - 1];
  id = gettid();
  id.notify_one();
  for (std::uint32_t seen = 0;;) {
    wait_for_change(turn_, seen);
    // Nobody gives work before all have done the last.
    ++seen;
    if (ending_) return;
    work(lane);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

void LanePool::work(int lane) noexcept {
  try {
    call_(context_, lane);
  } catch (...) {
    if (!failed_.exchange(true)) failure_ = std::current_exception();
  }
}

}  // namespace kerf::engine
