#include "workers/engine/contest.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace kerf::engine {
namespace {

/// A machine of which the test says how fast it is, with a clock of its own.
class Machine {
 public:
  /// A contender that takes `us` a run at full speed.
  Contender contender(double us) {
    return {[this, us] {
              ++runs;
              now_ += us * slowness(now_);
            },
            {}};
  }
  ContestWorld world() {
    return {[this] { return now_; }, disturbed};
  }
  [[nodiscard]] double now() const { return now_; }

  std::function<double(double now)> slowness = [](double) { return 1.0; };
  std::function<bool()> disturbed;
  int runs = 0;

 private:
  double now_ = 0;
};

TEST(Contest, TheFastestWins) {
  Machine machine;
  const std::vector<Contender> all = {machine.contender(100), machine.contender(80), machine.contender(90)};
  EXPECT_EQ(fastest(all, machine.world()), 1U);
}

TEST(Contest, OneContenderIsntTimed) {
  Machine machine;
  const std::vector<Contender> all = {machine.contender(100)};
  EXPECT_EQ(fastest(all, machine.world()), 0U);
  EXPECT_EQ(machine.runs, 0);
}

TEST(Contest, EndsWhereNobodyIsLeftToBeatTheFirst) {
  Machine machine;
  ContestWorld world = machine.world();
  world.block_us = 300;
  const std::vector<Contender> all = {machine.contender(10), machine.contender(20)};
  EXPECT_EQ(fastest(all, world), 0U);
  EXPECT_LT(machine.now(), 2 * 2 * (300 + 2 * 20)) << "two rounds are enough";
}

TEST(Contest, TheFirstIsKeptWhereNothingIsClear) {
  Machine machine;
  const std::vector<Contender> all = {machine.contender(100), machine.contender(99.5)};
  EXPECT_EQ(fastest(all, machine.world()), 0U);
}

TEST(Contest, AClockThatSlowsDownDecidesNothing) {
  Machine machine;
  machine.slowness = [](double now) { return 1.0 + now / 20000; };
  const std::vector<Contender> all = {machine.contender(100), machine.contender(90), machine.contender(110)};
  EXPECT_EQ(fastest(all, machine.world()), 1U);
}

TEST(Contest, BurstsOfANeighbourDecideNothing) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Machine machine;
    std::mt19937_64 random(seed);
    const double phase = static_cast<double>(random() % 20000);
    // Twice as slow for 4 of 20 ms: two blocks of a round, whoever's turn it is.
    machine.slowness = [phase](double now) { return std::fmod(now + phase, 20000) < 4000 ? 2.0 : 1.0; };
    const std::vector<Contender> all = {machine.contender(100), machine.contender(85), machine.contender(120)};
    EXPECT_EQ(fastest(all, machine.world()), 1U) << "seed " << seed;
  }
}

TEST(Contest, RoundsOfADisturbedMachineDontCount) {
  Machine machine;
  // What is faster as a rule is slower in the first rounds.
  int asked = 0;
  machine.disturbed = [&] { return ++asked <= 3; };
  const Contender other{[&, run = machine.contender(50).run] {
                          for (int i = 0; i < (asked < 3 ? 4 : 1); ++i) run();
                        },
                        {}};
  const std::vector<Contender> all = {machine.contender(100), other};
  EXPECT_EQ(fastest(all, machine.world()), 1U);
}

TEST(Contest, AMachineThatStaysDisturbedGivesNoAnswer) {
  Machine machine;
  machine.disturbed = [] { return true; };
  const std::vector<Contender> all = {machine.contender(100), machine.contender(50)};
  EXPECT_EQ(fastest(all, machine.world()), std::nullopt);
  EXPECT_LT(machine.now(), 100000);
}

TEST(Contest, LongRunsTakeThreeRounds) {
  Machine machine;
  const std::vector<Contender> all = {machine.contender(300000), machine.contender(250000)};
  EXPECT_EQ(fastest(all, machine.world()), 1U);
  EXPECT_EQ(machine.runs, 2 * 2 * 3);  // one that isn't timed and one that is, a round each
}

TEST(Contest, WhoIsFarBehindLeaves) {
  Machine machine;
  int slow_runs = 0;
  const Contender slow{[&, run = machine.contender(1000).run] {
                         ++slow_runs;
                         run();
                       },
                       {}};
  const std::vector<Contender> all = {machine.contender(100), slow};
  EXPECT_EQ(fastest(all, machine.world()), 0U);
  EXPECT_EQ(slow_runs, 2 * 3);
}

TEST(Median, OfOddAndEvenNumbers) {
  EXPECT_EQ(median_of({3.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(median_of({4.0, 1.0, 2.0, 3.0}), 2.5);
  EXPECT_EQ(median_of({7.0}), 7.0);
}

}  // namespace
}  // namespace kerf::engine
