#include "workers/measure/step_times.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "workers/measure/intervals.h"
#include "workers/measure/latency.h"

namespace kerf::measure {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

constexpr double kSecondsEach = 0.004;  // of profiled runs of one executor
constexpr double kTurnSeconds = 0.001;
constexpr double kRoundSeconds = 0.1;   // that the machine is held for
constexpr std::size_t kFewestRuns = 8;
constexpr std::size_t kFewestInARow = 2;
constexpr std::size_t kMostRuns = 400;
constexpr double kQuantile = 0.25;

/// What runs, and on how much; how the weights were made doesn't matter.
std::string kernels_of(const engine::Executor& executor) {
  std::string out;
  for (const engine::StepInfo& step : executor.steps()) {
    const std::string precision = step.executes_as.substr(0, step.executes_as.find(" ("));
    out += step.name + '\n' + step.op + '\n' + step.kernel + '\n' + precision + '\n' + std::to_string(step.weight_bytes) + '\n';
  }
  return out;
}

}  // namespace

std::size_t StepTimes::add(Compiled compiled) {
  const std::size_t index = all_.size();
  const std::string kernels = kernels_of(compiled.executor());
  Timed timed{std::move(compiled), by_kernels_.try_emplace(kernels, index).first->second, 0, {}, 0};
  if (timed.like == index) {
    const auto start = steady_clock::now();
    timed.compiled.run();
    timed.run_us = duration<double, std::micro>(steady_clock::now() - start).count();
    timed.times.resize(timed.compiled.executor().steps().size());
  }
  all_.push_back(std::move(timed));
  return index;
}

double StepTimes::seconds_left() const {
  double us = 0;
  for (std::size_t i = 0; i < all_.size(); ++i) {
    if (all_[i].like == i) us += std::max(kSecondsEach * 1e6, static_cast<double>(kFewestRuns) * all_[i].run_us);
  }
  return us / 1e6;
}

bool StepTimes::Timed::wants_more() const {
  if (times.empty() || runs() >= kMostRuns) return false;
  return runs() < kFewestRuns || spent_us < kSecondsEach * 1e6;
}

// Runs after one that brings its data into the caches.
void StepTimes::Timed::time_some() {
  compiled.run();
  double taken_us = 0;
  for (std::size_t run = 0; run < kFewestInARow || taken_us < kTurnSeconds * 1e6; ++run) {
    const std::vector<double> us = compiled.run_profiled();
    for (std::size_t step = 0; step < times.size(); ++step) {
      times[step].push_back(us[step]);
      taken_us += us[step];
    }
  }
  spent_us += taken_us;
}

Result<void> StepTimes::time(int threads, const std::function<bool()>& cancelled, const Lock& lock) {
  const auto wants_more = [](const Timed& timed) { return timed.wants_more(); };
  while (std::any_of(all_.begin(), all_.end(), wants_more)) {
    HostLock::Turn turn;
    if (lock.lock != nullptr) {
      lock.phase("wait_lock");
      KERF_ASSIGN(turn, lock.lock->exclusive(lock.wait));
      lock.waited(turn.waited_ms());
    }
    lock.phase("look_latency");
    const PinnedThread pin(threads);
    const auto start = steady_clock::now();
    const auto held = [&] { return duration<double>(steady_clock::now() - start).count(); };
    // Whole turns of all, so that the hour is the same for each.
    do {
      for (Timed& timed : all_) {
        if (cancelled && cancelled()) return Error{ErrorCode::kCancelled, "looks: cancelled"};
        if (timed.wants_more()) timed.time_some();
      }
    } while (held() < kRoundSeconds && std::any_of(all_.begin(), all_.end(), wants_more));
  }
  return {};
}

std::vector<double> StepTimes::us(std::size_t index) const {
  std::vector<double> out(all_[index].compiled.executor().steps().size(), 0.0);
  const Timed& timed = all_[all_[index].like];
  for (std::size_t step = 0; step < timed.times.size() && step < out.size(); ++step) {
    std::vector<double> times = timed.times[step];
    std::sort(times.begin(), times.end());
    if (!times.empty()) out[step] = quantile(times, kQuantile);
  }
  return out;
}

}  // namespace kerf::measure
