#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/measure/intervals.h"

namespace kerf::measure {

/// Runs one batch, once.
using TimedRun = std::function<void()>;

/// Where the protocol gets time and interruptions from; tests bring their own.
class RunClock {
 public:
  virtual ~RunClock() = default;
  [[nodiscard]] virtual double now_us() = 0;               ///< Monotonic.
  [[nodiscard]] virtual std::int64_t interruptions() = 0;  ///< Grows when a thread lost its core.
};

/// CLOCK_MONOTONIC_RAW and involuntary context switches: of the calling thread, or of the whole
/// process where the runs use several threads.
class ThreadClock final : public RunClock {
 public:
  explicit ThreadClock(int threads) : whole_process_(threads > 1) {}
  [[nodiscard]] double now_us() override;
  [[nodiscard]] std::int64_t interruptions() override;

 private:
  bool whole_process_;
};

struct LatencySettings {
  double block_us = 100;          ///< A block repeats a run until it takes at least this long.
  double max_seconds = 1.0;       ///< For warm-up and blocks; passed only to get `fewest_blocks`.
  double least_seconds = 0.15;    ///< Before stopping early: a moment may be all fast or all slow.
  double hard_limit_factor = 10;  ///< Stops at max_seconds × this, whatever is missing.
  double target = 0.005;          ///< Stops early where the intervals' half-widths are below this share.
  int least_blocks = 30;          ///< Kept blocks before stopping early.
  int fewest_blocks = 7;          ///< Kept blocks before max_seconds may stop.
  int most_blocks = 20000;
  double warmup_share = 0.2;      ///< Of max_seconds, at most.
  double warmup_tolerance = 0.02; ///< Warm when the medians of two windows in a row are this close.
  int warmup_window = 5;          ///< Blocks of a window.
  double resolution = 0.02;       ///< The smallest difference that a measurement has to show.
  double placement = 0.0025;      ///< Share by which both ends of an interval move outwards, for what
                                  ///< blocks can't see: where buffers came to lie in memory.
  std::uint64_t seed = 1;         ///< Of the order within pairs.
  std::function<bool()> cancelled;  ///< Asked between blocks; may be empty.
};

/// What was seen of one side.
struct RunTimes {
  double p50_us = 0;
  double p90_us = 0;
  double p99_us = 0;
  Interval p50_ci95 = {0, 0};
  std::int64_t blocks = 0;      ///< Kept.
  int runs_per_block = 1;
};

struct LatencyResult {
  RunTimes candidate;
  std::optional<RunTimes> baseline;
  std::optional<double> ratio;       ///< Median of candidate / baseline over pairs.
  Interval ratio_ci95 = {0, 0};
  bool noisy = false;
  bool warm = true;                  ///< Warm-up became stable in its share of the time.
  std::int64_t dropped = 0;          ///< Blocks (pairs) that were interrupted.
  double seconds = 0;
  std::vector<std::string> warnings;
};

/// Times a candidate, and the baseline beside it.
///
/// Protocol: 1. Warm-up: blocks of each side until the median of 5 differs from that of the 5
///              before by less than 2 %, or its share of the time is used. It also sets how many
///              runs a block has.
///           2. Pairs: one block of each side, the order within a pair tossed by the seed. Before
///              each block one run that isn't timed brings its data into the caches, so that a
///              side isn't charged for what the other one evicted (not where a run takes 50 ms or
///              more, of which the caches are a small part).
///           3. A pair in which the thread lost its core is dropped. Where fewer than
///              `fewest_blocks` are left at the end, dropped ones are used and the result is noisy.
///           4. Stops when the intervals are narrow enough, or at a limit.
/// Figures:  p50 is the median over blocks of a run's mean time in the block, with the
///           distribution-free interval of order statistics, widened for autocorrelation; p90 and
///           p99 are over single runs where reading the clock costs less than 0.5 % of a run, else
///           over blocks; ratio is the median over pairs, in which drift cancels.
/// Noisy:    half the interval of the ratio is wider than both |ratio − 1| and `resolution`: the
///           noise is larger than the difference it would have to show. Without a baseline: half
///           the interval of p50 is wider than `resolution` × p50. Also where fewer than
///           `fewest_blocks` undisturbed blocks were had.
/// Limits:   blocks tell of the executors as they lie in memory. The same small model compiled again
///           differs by 0.1 to 0.2 % as a rule, which `placement` allows for, and now and then by 1
///           or 2 %, which is why `resolution` is 2 %.
/// Errors:   cancelled.
/// Threads:  the calling thread runs everything; pin it first (PinnedThread).
[[nodiscard]] Result<LatencyResult> measure_latency(const TimedRun& candidate,
                                                    const TimedRun* baseline, RunClock& clock,
                                                    const LatencySettings& settings = {});

/// Keeps the calling thread (and the threads that it starts) on `threads` of the cores that it may
/// use, and gives it back its old set at the end.
class PinnedThread {
 public:
  /// `threads` above the number of allowed cores takes them all. Where the kernel refuses,
  /// pinned() is false: measuring goes on, with more noise.
  explicit PinnedThread(int threads);
  ~PinnedThread();
  PinnedThread(const PinnedThread&) = delete;
  PinnedThread& operator=(const PinnedThread&) = delete;

  [[nodiscard]] bool pinned() const { return pinned_; }
  [[nodiscard]] const std::vector<int>& cores() const { return cores_; }

 private:
  std::vector<int> before_;
  std::vector<int> cores_;
  bool pinned_ = false;
};

/// The cores that the calling thread may use.
[[nodiscard]] std::vector<int> allowed_cores();

}  // namespace kerf::measure
