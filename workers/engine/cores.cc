#include "workers/engine/cores.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <limits>

namespace kerf::engine {
namespace {

using Clock = std::chrono::steady_clock;

/// Independent sums, more than the units need to be full; the compiler makes vectors of them.
float multiply() {
  constexpr std::size_t kSums = 160;
  constexpr int kTimes = 2000;
  std::array<float, kSums> sums;
  sums.fill(1.0F);
  for (int i = 0; i < kTimes; ++i) {
    for (float& sum : sums) sum = sum * 1.0000001F + 0.0000001F;
  }
  float all = 0;
  for (const float sum : sums) all += sum;
  return all;
}

}  // namespace

CoreProbe::CoreProbe(int threads) : pool_(threads), threads_(threads) {}

/// The time of the slowest of the first `threads` lanes, which begin together.
double CoreProbe::slowest_us(int threads) {
  std::atomic<int> arrived{0};
  std::atomic<double> slowest{0};
  std::atomic<float> sink{0};
  auto work = [&](int lane) {
    if (lane >= threads) return;
    ++arrived;
    while (arrived.load(std::memory_order_acquire) < threads) {
    }
    const auto start = Clock::now();
    sink.store(multiply(), std::memory_order_relaxed);
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    double known = slowest.load();
    while (us > known && !slowest.compare_exchange_weak(known, us)) {
    }
  };
  pool_.run(work);
  return slowest;
}

bool CoreProbe::shared() {
  if (threads_ < 2) return false;
  constexpr int kTimes = 3;
  constexpr double kApart = 1.4;
  double alone = std::numeric_limits<double>::infinity();
  double together = alone;
  for (int i = 0; i < kTimes; ++i) {
    alone = std::min(alone, slowest_us(1));
    together = std::min(together, slowest_us(threads_));
  }
  return together > kApart * alone;
}

bool CoreProbe::wait_until_apart(int most_ms) {
  const auto end = Clock::now() + std::chrono::milliseconds(most_ms);
  bool apart = !shared();
  // Once isn't enough after it was otherwise: it may come and go for a while.
  for (int in_a_row = apart ? 2 : 0; in_a_row < 2 && Clock::now() < end;) {
    apart = !shared();
    in_a_row = apart ? in_a_row + 1 : 0;
  }
  return apart;
}

}  // namespace kerf::engine
