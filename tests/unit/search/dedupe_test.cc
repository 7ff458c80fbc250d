#include "search/dedupe.h"

#include <gmock/gmock.h>

#include <set>

namespace kerf::search {
namespace {

using testing::ElementsAre;

/// Proposes what it is told to, over and over.
class StubbornProposer final : public Proposer {
 public:
  explicit StubbornProposer(Choices choices) : choices_(std::move(choices)) {}
  Result<Choices> propose(std::int64_t) override {
    if (broken) return Error{ErrorCode::kUnavailable, "gone"};
    return choices_;
  }
  void tell(const Observation&) override { ++told; }
  void pending(const Choices& choices) override { pending_points.push_back(choices); }

  bool broken = false;
  int told = 0;
  std::vector<Choices> pending_points;

 private:
  Choices choices_;
};

SamplerProblem problem(std::int64_t dimensions, std::int64_t choices) {
  SamplerProblem out;
  for (std::int64_t d = 0; d < dimensions; ++d) {
    out.dimensions.push_back({"d" + std::to_string(d), choices, false});
  }
  out.directions = {Direction::kMinimize};
  return out;
}

Observation failed(std::int64_t number, Choices choices) {
  Observation out;
  out.number = number;
  out.choices = std::move(choices);
  out.state = TrialState::kFailed;
  return out;
}

TEST(UniqueSampler, WalksToNeighboursOfWhatIsKnown) {
  UniqueSampler sampler(problem(12, 4), std::make_unique<StubbornProposer>(Choices(12, 1)));
  const auto points = sampler.ask(20);
  ASSERT_TRUE(points.has_value());
  ASSERT_EQ(points->size(), 20U);
  EXPECT_EQ((*points)[0], Choices(12, 1));
  for (const Choices& point : *points) {
    const auto changed = std::count_if(point.begin(), point.end(), [](int c) { return c != 1; });
    EXPECT_LE(changed, 3);
  }
  EXPECT_EQ(std::set<Choices>(points->begin(), points->end()).size(), 20U);
}

TEST(UniqueSampler, EnumeratesASmallSpaceToItsEnd) {
  UniqueSampler sampler(problem(5, 3), std::make_unique<StubbornProposer>(Choices(5, 0)));
  const auto points = sampler.ask(1000);
  ASSERT_TRUE(points.has_value());
  EXPECT_EQ(points->size(), 243U);
  EXPECT_EQ(std::set<Choices>(points->begin(), points->end()).size(), 243U);
  EXPECT_TRUE(sampler.ask(1)->empty());
}

TEST(UniqueSampler, CountsCandidatesByTheirFingerprint) {
  SamplerProblem merged = problem(2, 4);
  merged.fingerprint = [](const Choices& choices) { return std::to_string(choices[0] / 2); };
  UniqueSampler sampler(merged, std::make_unique<StubbornProposer>(Choices{3, 0}));
  const auto points = sampler.ask(10);
  ASSERT_TRUE(points.has_value());
  EXPECT_EQ(points->size(), 2U);
}

TEST(UniqueSampler, AnchorsGoFirstUnlessTheyAreKnown) {
  SamplerProblem anchored = problem(3, 3);
  anchored.anchors = {{0, 0, 0}, {1, 1, 1}, {0, 0, 0}, {9, 9, 9}, {2, 2, 2}};
  UniqueSampler sampler(anchored, std::make_unique<StubbornProposer>(Choices{2, 1, 0}));
  ASSERT_TRUE(sampler.tell(failed(0, {1, 1, 1})).has_value());
  EXPECT_THAT(*sampler.ask(3), ElementsAre(Choices{0, 0, 0}, Choices{2, 2, 2}, Choices{2, 1, 0}));
}

TEST(UniqueSampler, KeepsWhatItFoundBeforeTheProposerBroke) {
  SamplerProblem anchored = problem(3, 3);
  anchored.anchors = {{0, 0, 0}};
  auto owned = std::make_unique<StubbornProposer>(Choices{2, 1, 0});
  StubbornProposer* proposer = owned.get();
  proposer->broken = true;
  UniqueSampler sampler(anchored, std::move(owned));
  EXPECT_THAT(*sampler.ask(2), ElementsAre(Choices{0, 0, 0}));
  const auto nothing = sampler.ask(2);
  ASSERT_FALSE(nothing.has_value());
  EXPECT_EQ(nothing.error().code, ErrorCode::kUnavailable);
  proposer->broken = false;
  EXPECT_EQ(sampler.ask(1)->size(), 1U);
}

TEST(UniqueSampler, RefusesPointsOfOtherSpacesAndUnfinishedTrials) {
  UniqueSampler sampler(problem(2, 2), std::make_unique<StubbornProposer>(Choices{0, 0}));
  EXPECT_EQ(sampler.tell(failed(0, {0, 2})).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(sampler.tell(failed(0, {0})).error().code, ErrorCode::kInvalidArgument);
  Observation running = failed(0, {0, 0});
  running.state = TrialState::kRunning;
  EXPECT_EQ(sampler.tell(running).error().code, ErrorCode::kInvalidArgument);
}

TEST(UniqueSampler, TrialOutsideOfTheSpaceTeachesNothing) {
  auto owned = std::make_unique<StubbornProposer>(Choices{0, 0});
  StubbornProposer* proposer = owned.get();
  UniqueSampler sampler(problem(2, 2), std::move(owned));
  EXPECT_TRUE(sampler.tell(failed(0, {})).has_value());
  EXPECT_EQ(proposer->told, 0);
}

TEST(UniqueSampler, TellsTheProposerEachTrialOnce) {
  auto owned = std::make_unique<StubbornProposer>(Choices{0, 0});
  StubbornProposer* proposer = owned.get();
  UniqueSampler sampler(problem(2, 2), std::move(owned));
  EXPECT_TRUE(sampler.tell(failed(7, {0, 1})).has_value());
  EXPECT_TRUE(sampler.tell(failed(7, {0, 1})).has_value());
  EXPECT_EQ(proposer->told, 1);
}

TEST(UniqueSampler, SpaceWithoutDimensionsHasOnePoint) {
  UniqueSampler sampler(problem(0, 0), std::make_unique<StubbornProposer>(Choices{}));
  EXPECT_THAT(*sampler.ask(3), ElementsAre(Choices{}));
}

}  // namespace
}  // namespace kerf::search
