#include "search/native/chain_order.h"

#include <gmock/gmock.h>

#include "search/native/sampler.h"

namespace kerf::search::native {
namespace {

using testing::ElementsAre;

/// Three precisions with something else between each two: f32 or 8 bits, and three numbers of channels
/// that change nothing. 8 bits save 1 µs a layer and harm the middle one; passing from one to the
/// other costs 5 µs.
SamplerProblem problem() {
  SamplerProblem out;
  out.dimensions = {{"a.precision", 2, true}, {"a.prune", 3, true}, {"b.precision", 2, true}, {"b.prune", 3, true}, {"c.precision", 2, true}};
  out.directions = {Direction::kMinimize, Direction::kMinimize};  // damage, latency
  out.anchors = {{0, 0, 0, 0, 0}};
  out.reference = {2, 30};
  const auto precision = [](double harm) { return std::vector<std::vector<double>>{{0, 0}, {harm, -1}}; };
  const std::vector<std::vector<double>> nothing(3, {0, 0});
  out.profile.alone = {precision(0.01), nothing, precision(1), nothing, precision(0.01)};
  const std::vector<std::vector<double>> reorder = {{0, 5}, {5, 0}};
  out.profile.neighbours = {{0, 1, reorder, 2}, {2, 1, reorder, 4}};
  // Points that differ in channels alone are the same candidate.
  out.fingerprint = [](const Choices& x) {
    return std::to_string(x.at(0)) + std::to_string(x.at(2)) + std::to_string(x.at(4));
  };
  return out;
}

std::vector<double> truth(const Choices& x) {
  const double reorders = (x[0] != x[2] ? 5 : 0) + (x[2] != x[4] ? 5 : 0);
  return {0.01 * x[0] + x[2] + 0.01 * x[4], 20.0 - x[0] - x[2] - x[4] + reorders};
}

Observation seen(const Choices& x, std::int64_t number) {
  Observation out;
  out.number = number;
  out.choices = x;
  out.objectives = truth(x);
  return out;
}

TEST(ChainOrder, NeighboursFollowEachOther) {
  EXPECT_THAT(chain_order(problem()), ElementsAre(0, 2, 4, 1, 3));
}

TEST(ChainOrder, NothingMovesWhereTheyDoAlready) {
  SamplerProblem plain = problem();
  plain.profile.neighbours = {{1, 1, {{0, 1}, {1, 0}, {0, 0}}}};
  EXPECT_THAT(chain_order(plain), ElementsAre(0, 1, 2, 3, 4));
  plain.profile = {};
  EXPECT_THAT(chain_order(plain), ElementsAre(0, 1, 2, 3, 4));
}

TEST(ChainOrder, TheProfileAndPointsMoveWithTheirDimensions) {
  SamplerProblem before = problem();
  before.profile.neighbours[1] = {4, 1, {{0, 7}, {5, 0}}, 2};  // said from behind
  before.profile.leans = {{1, -1.5, 0.1}};
  before.profile.lean_of.assign(5, {-1, -1});
  before.profile.lean_of[2][1] = 0;
  const SamplerProblem after = reordered(before, {0, 2, 4, 1, 3});
  EXPECT_EQ(after.profile.lean_at(1, 1), 0U);
  EXPECT_EQ(after.dimensions[2].name, "c.precision");
  EXPECT_EQ(after.profile.at(1, 1, 0), 1);
  ASSERT_EQ(after.profile.neighbours.size(), 2U);
  EXPECT_EQ(after.profile.neighbours[0].first, 0);
  EXPECT_EQ(after.profile.neighbours[0].other(), 1);
  EXPECT_EQ(after.profile.neighbours[1].first, 1);
  EXPECT_EQ(after.profile.neighbours[1].other(), 2);
  EXPECT_THAT(after.profile.neighbours[1].adds, ElementsAre(ElementsAre(0, 5), ElementsAre(7, 0)));
  EXPECT_EQ(after.fingerprint({1, 0, 1, 2, 2}), "101");
}

TEST(ChainOrder, WhatAPairAddsIsKnownAcrossADimension) {
  SamplerProblem asked = problem();
  asked.anchors.push_back({1, 0, 0, 0, 0});  // two points fix the scale
  const auto sampler = make_sampler("profile", asked);
  ASSERT_TRUE(sampler.has_value());
  Choices third;
  for (int n = 0; n < 3; ++n) {
    const auto found = (*sampler)->ask(1);
    ASSERT_TRUE(found.has_value());
    ASSERT_EQ(found->size(), 1U);
    third = found->front();
    ASSERT_TRUE((*sampler)->tell(seen(third, n)).has_value());
  }
  // All in 8 bits is what saves time; the middle one left out would pay for two reorders.
  EXPECT_THAT((std::vector<int>{third[0], third[2], third[4]}), ElementsAre(1, 1, 1));
}

TEST(ChainOrder, ProposesWhatTheSamplerDoesWithin) {
  const std::vector<std::size_t> order = {0, 2, 4, 1, 3};
  const auto outside = make_native_proposer(problem());
  NativeProposer inside(reordered(problem(), order));
  for (int n = 0; n < 4; ++n) {
    const auto theirs = outside->propose(n);
    const auto own = inside.propose(n);
    ASSERT_TRUE(theirs.has_value() && own.has_value());
    Observation within = seen(*theirs, n);
    for (std::size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(own->at(i), theirs->at(order[i]));
      within.choices[i] = theirs->at(order[i]);
    }
    outside->tell(seen(*theirs, n));
    inside.tell(within);
  }
}

}  // namespace
}  // namespace kerf::search::native
