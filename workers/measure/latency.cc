#include "workers/measure/latency.h"

#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace kerf::measure {
namespace {

constexpr double kSecond = 1e6;             // µs
constexpr double kClockShare = 0.005;       // of a run, where single runs are timed
constexpr double kLongRun = 50000;          // µs
constexpr int kMostRunsPerBlock = 1 << 20;
constexpr std::size_t kMostSingleRuns = 1U << 20U;

/// One of the two things that are timed.
class Side {
 public:
  Side(const TimedRun& run, RunClock& clock) : run_(run), clock_(clock) {}

  struct Block {
    double us = 0;  ///< Of one run, mean.
    bool interrupted = false;
  };

  /// One run that isn't timed (where runs are short), then a block of timed ones.
  Block block() {
    if (refreshes_caches_) run_();
    latest_.clear();
    const std::int64_t interruptions = clock_.interruptions();
    const double start = clock_.now_us();
    double end = start;
    if (times_runs_) {
      for (int i = 0; i < runs_; ++i) {
        run_();
        const double now = clock_.now_us();
        latest_.push_back(now - end);
        end = now;
      }
    } else {
      for (int i = 0; i < runs_; ++i) run_();
      end = clock_.now_us();
    }
    return {(end - start) / runs_, clock_.interruptions() != interruptions};
  }

  /// Chooses how many runs a block has.
  void fit_block(double run_us, double block_us, double clock_us) {
    runs_ = static_cast<int>(std::clamp(std::ceil(block_us / std::max(run_us, 1e-3)), 1.0,
                                        double{kMostRunsPerBlock}));
    refreshes_caches_ = run_us < kLongRun;
    times_runs_ = clock_us <= run_us * kClockShare;
    latest_.reserve(static_cast<std::size_t>(runs_));
  }

  void keep(const Block& block) {
    blocks_.push_back(block.us);
    if (single_.size() + latest_.size() <= kMostSingleRuns) {
      single_.insert(single_.end(), latest_.begin(), latest_.end());
    }
  }

  [[nodiscard]] const std::vector<double>& blocks() const { return blocks_; }

  [[nodiscard]] RunTimes times() const {
    RunTimes out;
    const MedianEstimate median = estimate_median(blocks_);
    out.p50_us = median.median;
    out.p50_ci95 = median.ci95;
    std::vector<double> tail = single_.empty() ? blocks_ : single_;
    std::sort(tail.begin(), tail.end());
    out.p90_us = std::max(out.p50_us, quantile(tail, 0.9));
    out.p99_us = std::max(out.p90_us, quantile(tail, 0.99));
    out.blocks = static_cast<std::int64_t>(blocks_.size());
    out.runs_per_block = runs_;
    return out;
  }

 private:
  const TimedRun& run_;
  RunClock& clock_;
  int runs_ = 1;
  bool times_runs_ = false;
  bool refreshes_caches_ = true;
  std::vector<double> blocks_;  // kept, in time order
  std::vector<double> single_;
  std::vector<double> latest_;
};

double half_width(const Interval& interval) { return (interval[1] - interval[0]) / 2; }

/// An interval of a time or a ratio, wider by `share` on both sides.
Interval widened(const Interval& interval, double share) {
  return {interval[0] * (1 - share), interval[1] * (1 + share)};
}

/// What reading the clock costs, µs: the least of some tries.
double clock_cost(RunClock& clock) {
  double least = 1e9;
  double before = clock.now_us();
  for (int i = 0; i < 32; ++i) {
    const double now = clock.now_us();
    least = std::min(least, now - before);
    before = now;
  }
  return std::max(least, 0.0);
}

/// One measurement from beginning to end.
class Session {
 public:
  Session(const TimedRun& candidate, const TimedRun* baseline, RunClock& clock,
          const LatencySettings& settings)
      : clock_(clock), settings_(settings), random_(settings.seed), begin_us_(clock.now_us()) {
    sides_.emplace_back(candidate, clock);
    if (baseline != nullptr) sides_.emplace_back(*baseline, clock);
  }

  Result<LatencyResult> run() {
    KERF_TRY(warm_up());
    KERF_TRY(take_pairs());
    return finish();
  }

 private:
  using Pair = std::vector<Side::Block>;

  [[nodiscard]] double elapsed() { return (clock_.now_us() - begin_us_) / kSecond; }
  [[nodiscard]] bool cancelled() const { return settings_.cancelled && settings_.cancelled(); }
  [[nodiscard]] static Error cancelled_error() {
    return {ErrorCode::kCancelled, "latency: cancelled while it was measured"};
  }

  Result<void> warm_up() {
    const double clock_us = clock_cost(clock_);
    const double limit = settings_.max_seconds * settings_.warmup_share;
    std::vector<double> before(sides_.size(), 0);
    for (Side& side : sides_) {  // the first run may allocate, fault pages in and fetch weights
      const double once = side.block().us;
      side.fit_block(once, settings_.block_us, clock_us);
    }
    result_.warm = false;
    while (!result_.warm && elapsed() < limit) {
      if (cancelled()) return cancelled_error();
      bool stable = true;
      for (std::size_t i = 0; i < sides_.size(); ++i) {
        std::vector<double> window;
        for (int block = 0; block < settings_.warmup_window; ++block) {
          window.push_back(sides_[i].block().us);
          if (elapsed() >= limit) break;
        }
        const double now = median_of(std::move(window));
        stable = stable && before[i] > 0 &&
                 std::abs(now - before[i]) <= settings_.warmup_tolerance * before[i];
        before[i] = now;
        sides_[i].fit_block(now, settings_.block_us, clock_us);
      }
      result_.warm = stable;
    }
    return {};
  }

  Result<void> take_pairs() {
    const auto fewest = static_cast<std::size_t>(settings_.fewest_blocks);
    while (true) {
      if (cancelled()) return cancelled_error();
      const std::size_t kept = sides_[0].blocks().size();
      const std::size_t taken = kept + interrupted_.size();
      const double seconds = elapsed();
      if (kept >= static_cast<std::size_t>(settings_.most_blocks)) break;
      if (seconds >= settings_.max_seconds * settings_.hard_limit_factor && taken > 0) break;
      // On a machine where every block is interrupted, waiting for a quiet one has an end.
      if (seconds >= settings_.max_seconds && (kept >= fewest || taken >= 3 * fewest)) break;
      if (seconds >= settings_.least_seconds && kept >= next_check_) {
        if (narrow_enough()) break;
        next_check_ = kept + std::max<std::size_t>(10, kept / 4);
      }
      take_pair();
    }
    return {};
  }

  void take_pair() {
    Pair pair(sides_.size());
    const bool swapped = sides_.size() > 1 && (random_() & 1U) != 0;
    for (std::size_t i = 0; i < sides_.size(); ++i) {
      const std::size_t side = swapped ? sides_.size() - 1 - i : i;
      pair[side] = sides_[side].block();
    }
    if (std::any_of(pair.begin(), pair.end(), [](const auto& block) { return block.interrupted; })) {
      interrupted_.push_back(std::move(pair));
      return;
    }
    keep(pair);
  }

  void keep(const Pair& pair) {
    for (std::size_t i = 0; i < sides_.size(); ++i) sides_[i].keep(pair[i]);
    if (pair.size() > 1) ratios_.push_back(pair[0].us / pair[1].us);
  }

  [[nodiscard]] bool narrow_enough() const {
    const MedianEstimate own = estimate_median(sides_[0].blocks());
    if (half_width(own.ci95) > settings_.target * own.median) return false;
    if (ratios_.empty()) return true;
    const MedianEstimate ratio = estimate_median(ratios_);
    return half_width(ratio.ci95) <= settings_.target * ratio.median;
  }

  LatencyResult finish() {
    const std::size_t undisturbed = sides_[0].blocks().size();
    const bool too_few = undisturbed < static_cast<std::size_t>(settings_.fewest_blocks);
    result_.dropped = static_cast<std::int64_t>(interrupted_.size());
    if (too_few) {
      result_.warnings.push_back(
          "latency: only " + std::to_string(undisturbed) + " of " +
          std::to_string(undisturbed + interrupted_.size()) +
          " timed blocks kept their core; the others were used too");
      for (const Pair& pair : interrupted_) keep(pair);
      result_.dropped = 0;
    } else if (interrupted_.size() > undisturbed) {
      result_.warnings.push_back("latency: " + std::to_string(interrupted_.size()) + " of " +
                                 std::to_string(undisturbed + interrupted_.size()) +
                                 " timed blocks lost their core and were dropped; the machine is busy");
    }
    result_.candidate = sides_[0].times();
    result_.candidate.p50_ci95 = widened(result_.candidate.p50_ci95, settings_.placement);
    double half = half_width(result_.candidate.p50_ci95) / result_.candidate.p50_us;
    double to_show = settings_.resolution;
    if (sides_.size() > 1) {
      result_.baseline = sides_[1].times();
      result_.baseline->p50_ci95 = widened(result_.baseline->p50_ci95, settings_.placement);
      const MedianEstimate ratio = estimate_median(ratios_);
      result_.ratio = ratio.median;
      result_.ratio_ci95 = widened(ratio.ci95, settings_.placement);
      half = half_width(result_.ratio_ci95);
      to_show = std::max(to_show, std::abs(ratio.median - 1));
    }
    result_.noisy = too_few || half > to_show;
    if (!result_.warm) {
      result_.warnings.push_back("latency: warm-up wasn't stable within " +
                                 std::to_string(settings_.warmup_tolerance * 100).substr(0, 3) +
                                 " % when its time was over");
    }
    result_.seconds = elapsed();
    return result_;
  }

  RunClock& clock_;
  const LatencySettings& settings_;
  std::mt19937_64 random_;
  double begin_us_;
  std::vector<Side> sides_;  // candidate, then baseline
  std::vector<double> ratios_;
  std::vector<Pair> interrupted_;
  std::size_t next_check_ = static_cast<std::size_t>(settings_.least_blocks);
  LatencyResult result_;
};

cpu_set_t set_of(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(static_cast<std::size_t>(core), &set);
  return set;
}

}  // namespace

double ThreadClock::now_us() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

std::int64_t ThreadClock::interruptions() {
  rusage usage{};
  getrusage(whole_process_ ? RUSAGE_SELF : RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

Result<LatencyResult> measure_latency(const TimedRun& candidate, const TimedRun* baseline,
                                      RunClock& clock, const LatencySettings& settings) {
  return Session(candidate, baseline, clock, settings).run();
}

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &set)) cores.push_back(core);
  }
  return cores;
}

PinnedThread::PinnedThread(int threads) : before_(allowed_cores()) {
  // The last ones: the first core serves most interrupts.
  const auto wanted = std::min(before_.size(), static_cast<std::size_t>(std::max(threads, 1)));
  cores_.assign(before_.end() - static_cast<std::ptrdiff_t>(wanted), before_.end());
  if (cores_.empty()) return;
  const cpu_set_t set = set_of(cores_);
  pinned_ = sched_setaffinity(0, sizeof set, &set) == 0;
}

PinnedThread::~PinnedThread() {
  if (!pinned_) return;
  const cpu_set_t set = set_of(before_);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace kerf::measure
