#include "search/snap_channels.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "search/space.h"

namespace kerf::search {
namespace {

// As f32 convolutions were measured on AVX-512: 60 channels cost what 64 do, 44 more than 48.
const std::vector<ChannelCost> kStepped = {{64, 100}, {60, 100}, {56, 90}, {48, 75}, {44, 80},
                                           {40, 70},  {32, 50},  {28, 50}, {16, 25}};

TEST(SnapChannels, WhatCostsNoMoreKeepsMoreChannels) {
  EXPECT_EQ(snapped_count(44, 64, kStepped), 48) << "48 take less than 44";
  EXPECT_EQ(snapped_count(28, 64, kStepped), 32);
  EXPECT_EQ(snapped_count(48, 64, kStepped), 48);
  EXPECT_EQ(snapped_count(32, 64, kStepped), 32);
}

TEST(SnapChannels, WhatGainsNothingGoesDownToTheNextStep) {
  EXPECT_EQ(snapped_count(60, 64, kStepped), 56);
}

TEST(SnapChannels, WhereNothingGainsTheRatioStays) {
  EXPECT_EQ(snapped_count(12, 16, {{16, 10}, {12, 10}, {8, 9.9}, {4, 9.8}}), 12);
}

TEST(SnapChannels, CountsThatNobodyTimedStay) {
  EXPECT_EQ(snapped_count(50, 64, kStepped), 50);
  EXPECT_EQ(snapped_count(48, 64, {}), 48);
  EXPECT_EQ(snapped_count(48, 64, {{48, 1}}), 48);
}

ModelInfo two_groups(bool timed) {
  ModelInfo info;
  for (const char* name : {"a", "b"}) {
    LayerInfo layer;
    layer.name = layer.prune_group = name;
    layer.op = "Conv";
    layer.prune_structures = {"channel"};
    info.layers.push_back(layer);
  }
  info.groups = {{"a", {"a"}, 64, {}}, {"b", {"b"}, 40, {}}};
  // 30 of 40 channels take what 40 do; 20 take as long as 24.
  if (timed) info.groups[1].costs = {{40, 10}, {32, 10}, {30, 10}, {24, 6}, {20, 6}, {16, 4}};
  return info;
}

Json prune_values(const SearchSpace& space, std::size_t dimension) {
  Json out = Json::array();
  for (const Json& value : space.dimensions().at(dimension).values) {
    out.push_back(value.contains("prune") ? value["prune"]["ratio"] : Json(0));
  }
  return out;
}

TEST(SnapChannels, RatiosOfTheSpaceMoveOnlyWhereTheStudyLeavesThemToUs) {
  const Json prune = {{"structure", "channel"}, {"ratios", {0, 0.25, 0.5}}};
  Json study = {{"model", "m"}, {"data", "d"}, {"space", {{"default", {{"prune", prune}}}}}};
  const auto build = [&](bool timed) {
    const auto space = SearchSpace::build(StudyDefinition::parse(study)->space, two_groups(timed));
    EXPECT_TRUE(space.has_value());
    return *space;
  };
  EXPECT_EQ(prune_values(build(true), 1), Json({0, 0.25, 0.5})) << "named by the user";
  study["space"]["snap_channels"] = true;
  EXPECT_EQ(prune_values(build(true), 0), Json({0, 0.25, 0.5})) << "nobody timed this group";
  EXPECT_EQ(prune_values(build(true), 1), Json({0, 0.4})) << "30 gain nothing, 20 no more than 24";
  EXPECT_EQ(prune_values(build(false), 1), Json({0, 0.25, 0.5}));
}

TEST(SnapChannels, TheDefaultSpaceLeavesThemToUs) {
  const auto study = StudyDefinition::parse({{"model", "m"}, {"data", "d"}});
  EXPECT_TRUE(study->space.snap_channels);
  EXPECT_EQ(StudyDefinition::parse(study->to_json())->space, study->space);
}

}  // namespace
}  // namespace kerf::search
