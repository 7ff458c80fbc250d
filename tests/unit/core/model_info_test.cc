#include "core/model_info.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

ModelInfo model() {
  ModelInfo info;
  info.inputs = {{"x", "f32", {-1, 8}}};
  info.outputs = {{"y", "f32", {-1, 4}}};
  info.groups = {{"c1", {"c1", "c3"}, 16, {}}, {"c2", {"c2"}, 8, {}}};
  return info;
}

TEST(ModelInfo, ChannelCostsComeBackFromADocumentAsTheyWere) {
  ModelInfo info = model();
  info.set_channel_costs({"abc", {{"c1", {{16, 12.5}, {8, 7.25}}}, {"gone", {{4, 1}}}}});
  const auto back = ModelInfo::parse(info.to_json());
  ASSERT_TRUE(back.has_value()) << back.error().message;
  const ChannelCosts costs = back->channel_costs();
  EXPECT_EQ(costs.hardware, "abc");
  ASSERT_EQ(costs.groups.size(), 1U) << "no group of another name";
  ASSERT_EQ(costs.groups.at("c1").size(), 2U);
  EXPECT_EQ(costs.groups.at("c1")[1].channels, 8);
  EXPECT_EQ(costs.groups.at("c1")[1].us, 7.25);
  const auto kept = ChannelCosts::parse(costs.to_json());
  ASSERT_TRUE(kept.has_value()) << kept.error().message;
  EXPECT_EQ(kept->to_json(), costs.to_json());
}

TEST(ModelInfo, OfADocumentThatNamesNoHardwareNobodyKnowsWhereItsCostsCameFrom) {
  Json document = model().to_json();
  document["groups"][0]["costs"] = Json::array({Json::array({16, 12.5})});
  const auto info = ModelInfo::parse(document);
  ASSERT_TRUE(info.has_value()) << info.error().message;
  EXPECT_EQ(info->channel_costs().hardware, "");
  EXPECT_EQ(info->groups[0].costs.size(), 1U);
}

TEST(ModelInfo, CostsThatAreNoPairsAreRefused) {
  EXPECT_FALSE(ChannelCosts::parse({{"hardware", "a"}, {"groups", {{"c1", {1, 2}}}}}).has_value());
  EXPECT_FALSE(ChannelCosts::parse({{"groups", Json::object()}}).has_value());
}

}  // namespace
}  // namespace kerf
