#include "workers/measure/latency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

namespace kerf::measure {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

/// A machine whose time is that of its runs alone.
class FakeMachine final : public RunClock {
 public:
  double now_us() override { return now_; }
  std::int64_t interruptions() override { return interruptions_; }

  /// A run that takes `us`, as the machine's speed, noise and interruptions have it.
  TimedRun run(double us, std::string name = "") {
    return [this, us, name] {
      order += name;
      double took = us * speed(now_);
      took *= std::exp(noise * normal_(random_));
      if (interrupt_share > 0 && uniform_(random_) < interrupt_share) {
        ++interruptions_;
        took += 4000;
      }
      now_ += took;
      ++runs;
    };
  }

  std::function<double(double now_us)> speed = [](double) { return 1.0; };
  double noise = 0;
  double interrupt_share = 0;
  std::int64_t runs = 0;
  std::string order;

 private:
  double now_ = 0;
  std::int64_t interruptions_ = 0;
  std::mt19937_64 random_{5};
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> uniform_;
};

LatencyResult measured(FakeMachine& machine, double candidate_us, std::optional<double> baseline_us,
                       const LatencySettings& settings = {}) {
  const TimedRun candidate = machine.run(candidate_us, "c");
  const TimedRun baseline = machine.run(baseline_us.value_or(0), "b");
  const auto result =
      measure_latency(candidate, baseline_us ? &baseline : nullptr, machine, settings);
  EXPECT_TRUE(result.has_value());
  return *result;
}

TEST(Latency, AQuietMachineGivesTheExactTimes) {
  FakeMachine machine;
  const LatencyResult result = measured(machine, 80, 100);
  EXPECT_NEAR(result.candidate.p50_us, 80, 1e-6);
  EXPECT_NEAR(result.candidate.p99_us, 80, 1e-6);
  EXPECT_NEAR(result.baseline->p50_us, 100, 1e-6);
  EXPECT_NEAR(*result.ratio, 0.8, 1e-9);
  EXPECT_NEAR(result.ratio_ci95[0], 0.8 * (1 - 0.0025), 1e-9) << "blocks don't see placement";
  EXPECT_NEAR(result.ratio_ci95[1], 0.8 * (1 + 0.0025), 1e-9);
  EXPECT_FALSE(result.noisy);
  EXPECT_TRUE(result.warm);
  EXPECT_THAT(result.warnings, IsEmpty());
}

TEST(Latency, BlocksAreLongEnoughForTheClock) {
  FakeMachine machine;
  EXPECT_EQ(measured(machine, 3, 1000).candidate.runs_per_block, 34);
  EXPECT_EQ(measured(machine, 250, 1000).candidate.runs_per_block, 1);
}

TEST(Latency, StopsEarlyOnceTheIntervalIsNarrow) {
  FakeMachine machine;
  machine.noise = 0.01;
  LatencySettings settings;
  settings.max_seconds = 100;
  settings.least_seconds = 0.1;
  const LatencyResult result = measured(machine, 100, 100, settings);
  EXPECT_LT(result.seconds, 5);
  EXPECT_GE(result.seconds, 0.1);
  EXPECT_LE((result.ratio_ci95[1] - result.ratio_ci95[0]) / 2,
            (settings.target + 2 * settings.placement) * *result.ratio);
}

TEST(Latency, StopsWhenItsTimeIsOver) {
  FakeMachine machine;
  machine.noise = 0.5;
  LatencySettings settings;
  settings.max_seconds = 0.5;
  const LatencyResult result = measured(machine, 100, 100, settings);
  EXPECT_GE(result.seconds, 0.5);
  EXPECT_LT(result.seconds, 0.51);
}

TEST(Latency, SlowModelsGetTheirFewestBlocksAllTheSame) {
  FakeMachine machine;
  LatencySettings settings;
  settings.max_seconds = 1;
  const LatencyResult result = measured(machine, 150000, 150000, settings);
  EXPECT_EQ(result.candidate.blocks, 7);
  EXPECT_FALSE(result.noisy);
}

TEST(Latency, ButNotWithoutEnd) {
  FakeMachine machine;
  LatencySettings settings;
  settings.max_seconds = 1;
  const LatencyResult result = measured(machine, 4e6, 4e6, settings);
  EXPECT_GE(result.candidate.blocks, 1);
  EXPECT_LE(result.seconds, 4 * 4 + 2 * 4) << "two runs of each side to learn that it's slow, one pair";
  EXPECT_TRUE(result.noisy) << "too few to say anything";
}

TEST(Latency, DriftCancelsInPairs) {
  FakeMachine machine;
  // The machine slows down to a third over the measurement, and jumps now and then.
  machine.speed = [](double now) { return (1 + 2 * now / 1e6) * (std::fmod(now, 9e4) < 3e4 ? 1.4 : 1.0); };
  machine.noise = 0.01;
  LatencySettings settings;
  settings.target = 0;
  const LatencyResult result = measured(machine, 90, 100, settings);
  EXPECT_NEAR(*result.ratio, 0.9, 0.004);
  EXPECT_LE(result.ratio_ci95[0], 0.9);
  EXPECT_GE(result.ratio_ci95[1], 0.9);
  EXPECT_LT(result.ratio_ci95[1] - result.ratio_ci95[0], 0.015);
  EXPECT_FALSE(result.noisy);
  const double absolute = (result.candidate.p50_ci95[1] - result.candidate.p50_ci95[0]) / result.candidate.p50_us;
  EXPECT_GT(absolute, 0.1) << "the time itself isn't that certain, and its interval says so";
}

TEST(Latency, TheOrderWithinPairsIsTossedBySeed) {
  const auto order = [](std::uint64_t seed) {
    FakeMachine machine;
    LatencySettings settings;
    settings.seed = seed;
    measured(machine, 200, 200, settings);
    return machine.order;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
  // Each block is a run that isn't timed and one that is; both orders of a pair occur.
  const std::string seen = order(1);
  EXPECT_THAT(seen, HasSubstr("ccbbbbcc"));
  EXPECT_THAT(seen, HasSubstr("bbccccbb"));
}

TEST(Latency, InterruptedPairsAreDropped) {
  FakeMachine machine;
  machine.interrupt_share = 0.1;  // each adds 4 ms to a run of 0.1 ms
  LatencySettings settings;
  settings.target = 0;
  const LatencyResult result = measured(machine, 90, 100, settings);
  EXPECT_GT(result.dropped, 10);
  EXPECT_NEAR(result.candidate.p99_us, 90, 1e-6) << "none of the interrupted ones is left";
  EXPECT_NEAR(*result.ratio, 0.9, 1e-9);
  EXPECT_FALSE(result.noisy);
}

TEST(Latency, AMachineThatAlwaysInterruptsIsMeasuredAndSaidToBeNoisy) {
  FakeMachine machine;
  machine.interrupt_share = 1;
  const LatencyResult result = measured(machine, 90, 100);
  EXPECT_TRUE(result.noisy);
  EXPECT_GT(result.candidate.p50_us, 4000);
  EXPECT_THAT(result.warnings, Contains(HasSubstr("only 0 of")));
  EXPECT_LT(result.seconds, 1.1) << "it doesn't wait for ever";
}

TEST(Latency, NoisyMeansMoreNoiseThanDifference) {
  // Half-widths of about 4 % and 8 %: more than no difference, less than a large one.
  LatencySettings settings;
  settings.max_seconds = 0.02;
  settings.least_seconds = 0;
  FakeMachine equal;
  equal.noise = 0.3;
  const LatencyResult same = measured(equal, 100, 100, settings);
  EXPECT_GT((same.ratio_ci95[1] - same.ratio_ci95[0]) / 2, settings.resolution);
  EXPECT_TRUE(same.noisy);
  FakeMachine different;
  different.noise = 0.3;
  const LatencyResult faster = measured(different, 20, 100, settings);
  EXPECT_FALSE(faster.noisy) << "the same noise is no matter for a fifth of the time";
}

TEST(Latency, AnEqualCandidateOnAQuietMachineIsNotNoisy) {
  FakeMachine machine;
  machine.noise = 0.005;
  const LatencyResult result = measured(machine, 100, 100);
  EXPECT_NEAR(*result.ratio, 1, 0.005);
  EXPECT_FALSE(result.noisy) << "known to be equal within the resolution";
}

TEST(Latency, ABaselineIsNotNeeded) {
  FakeMachine machine;
  machine.noise = 0.02;
  const LatencyResult result = measured(machine, 100, std::nullopt);
  EXPECT_FALSE(result.ratio.has_value());
  EXPECT_FALSE(result.baseline.has_value());
  EXPECT_NEAR(result.candidate.p50_us, 100, 2);
  EXPECT_FALSE(result.noisy);
}

TEST(Latency, TailsAreThoseOfSingleRuns) {
  FakeMachine machine;
  // Every 50th run takes ten times as long; a block of 10 runs would blur that.
  std::int64_t count = 0;
  machine.speed = [&count](double) { return ++count % 50 == 0 ? 10.0 : 1.0; };
  LatencySettings settings;
  settings.target = 0;
  settings.max_seconds = 0.3;
  const LatencyResult result = measured(machine, 10, std::nullopt, settings);
  EXPECT_NEAR(result.candidate.p50_us, 10, 0.01);
  EXPECT_NEAR(result.candidate.p90_us, 10, 0.01);
  EXPECT_NEAR(result.candidate.p99_us, 100, 0.01);
}

TEST(Latency, AColdStartIsNotMeasured) {
  FakeMachine machine;
  machine.speed = [](double now) { return now < 5e4 ? 5.0 : 1.0; };  // slow for the first 50 ms
  LatencySettings settings;
  settings.target = 0;
  const LatencyResult result = measured(machine, 100, 100, settings);
  EXPECT_NEAR(result.candidate.p50_us, 100, 1e-6);
  EXPECT_NEAR(result.candidate.p90_us, 100, 1e-6);
}

TEST(Latency, AWarmUpThatNeverSettlesIsSaid) {
  FakeMachine machine;
  machine.speed = [](double now) { return std::exp(now / 2e4); };
  const LatencyResult result = measured(machine, 100, 100);
  EXPECT_FALSE(result.warm);
  EXPECT_THAT(result.warnings, Contains(HasSubstr("warm-up wasn't stable")));
}

TEST(Latency, CanBeCancelled) {
  FakeMachine machine;
  LatencySettings settings;
  int asked = 0;
  settings.cancelled = [&] { return ++asked > 5; };
  const TimedRun run = machine.run(100);
  const auto result = measure_latency(run, nullptr, machine, settings);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
}

TEST(Latency, PinningKeepsToOneCoreAndGivesTheOthersBack) {
  const std::vector<int> before = allowed_cores();
  ASSERT_FALSE(before.empty());
  {
    const PinnedThread pin(1);
    ASSERT_TRUE(pin.pinned());
    EXPECT_EQ(allowed_cores(), pin.cores());
    EXPECT_EQ(pin.cores().size(), 1U);
  }
  EXPECT_EQ(allowed_cores(), before);
  const PinnedThread all(100000);
  EXPECT_EQ(all.cores(), before);
}

TEST(Latency, TheMachinesClockMovesForward) {
  ThreadClock clock(1);
  const double before = clock.now_us();
  double now = before;
  while (now == before) now = clock.now_us();
  EXPECT_GT(now, before);
  EXPECT_GE(clock.interruptions(), 0);
}

}  // namespace
}  // namespace kerf::measure
