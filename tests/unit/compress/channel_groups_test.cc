#include "workers/compress/channel_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using ::testing::ElementsAre;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Tensor;

const TiedGroup* group_of(const ChannelGroups& groups, const std::string& layer) {
  const auto name = groups.group_of.find(layer);
  if (name == groups.group_of.end()) return nullptr;
  for (const TiedGroup& group : groups.groups) {
    if (group.name == name->second) return &group;
  }
  return nullptr;
}

TEST(ChannelGroups, ChainHasAGroupALayerAndTheLastOneStays) {
  GraphBuilder b;
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {1, 3, 8, 8}), 3, 6));
  x = b.max_pool("pool", b.relu("r2", b.conv("conv2", x, 6, 4)));
  b.gemm("fc", b.flatten("flat", x), 64, 10);
  const ChannelGroups groups = find_channel_groups(b.finish({"fc"}));
  ASSERT_EQ(groups.groups.size(), 2U);
  EXPECT_THAT(groups.groups[0].layers, ElementsAre("conv1"));
  EXPECT_EQ(groups.groups[0].channels, 6);
  EXPECT_THAT(groups.groups[1].layers, ElementsAre("conv2"));
  EXPECT_THAT(groups.stays.at("fc"), HasSubstr("graph output 'fc'"));
  // Each channel of conv2 owns 16 columns of fc.
  const auto fc = std::find_if(groups.constants.begin(), groups.constants.end(),
                               [](const ConstantAxis& c) { return c.node == "fc" && c.axis == 1; });
  ASSERT_NE(fc, groups.constants.end());
  ASSERT_EQ(fc->channels.size(), 64U);
  EXPECT_EQ(fc->channels[0], groups.outputs.at("conv2")[0]);
  EXPECT_EQ(fc->channels[15], groups.outputs.at("conv2")[0]);
  EXPECT_EQ(fc->channels[16], groups.outputs.at("conv2")[1]);
}

TEST(ChannelGroups, ResidualSumTiesItsBranches) {
  GraphBuilder b;
  const auto stem = b.relu("r0", b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 8));
  const auto inner = b.relu("r1", b.conv("a", stem, 8, 5));
  const auto sum = b.relu("r2", b.op("add", "Add", {b.conv("b", inner, 5, 8), stem}));
  b.conv("last", sum, 8, 2);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  ASSERT_NE(group_of(groups, "stem"), nullptr);
  EXPECT_THAT(group_of(groups, "stem")->layers, ElementsAre("stem", "b"));
  EXPECT_EQ(group_of(groups, "stem")->channels, 8);
  EXPECT_THAT(group_of(groups, "a")->layers, ElementsAre("a"));
  EXPECT_EQ(groups.outputs.at("stem"), groups.outputs.at("b"));
}

TEST(ChannelGroups, DepthwiseLayerFollowsItsInput) {
  GraphBuilder b;
  const auto stem = b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 6);
  const auto depthwise = b.conv("dw", stem, 6, 6, 3, 6);
  b.conv("last", depthwise, 6, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_THAT(group_of(groups, "dw")->layers, ElementsAre("stem", "dw"));
  EXPECT_THAT(groups.depthwise, ElementsAre("dw"));
}

TEST(ChannelGroups, DepthwiseLayerOnTheInputStays) {
  GraphBuilder b;
  const auto depthwise = b.conv("dw", b.input("x", {1, 3, 8, 8}), 3, 6, 3, 3);
  b.conv("last", depthwise, 6, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_EQ(group_of(groups, "dw"), nullptr);
  EXPECT_THAT(groups.stays.at("dw"), HasSubstr("graph input 'x'"));
}

TEST(ChannelGroups, GroupedConvolutionStaysAndHoldsItsInput) {
  GraphBuilder b;
  const auto stem = b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 8);
  const auto grouped = b.conv("grouped", stem, 8, 8, 3, 2);
  b.conv("last", grouped, 8, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_TRUE(groups.groups.empty());
  EXPECT_THAT(groups.stays.at("grouped"), HasSubstr("grouped convolution (2 groups)"));
  EXPECT_THAT(groups.stays.at("stem"), HasSubstr("Conv 'grouped'"));
}

TEST(ChannelGroups, ConcatenationKeepsItsPartsApart) {
  GraphBuilder b;
  const auto x = b.input("x", {1, 3, 8, 8});
  const auto both = b.concat("cat", {b.conv("a", x, 3, 4), b.conv("b", x, 3, 6)});
  b.conv("last", both, 10, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_THAT(group_of(groups, "a")->layers, ElementsAre("a"));
  EXPECT_THAT(group_of(groups, "b")->layers, ElementsAre("b"));
}

TEST(ChannelGroups, SumOverAConcatenationMakesOneGroupOfTwoBlocks) {
  GraphBuilder b;
  const auto x = b.input("x", {1, 3, 8, 8});
  const auto both = b.concat("cat", {b.conv("a", x, 3, 4), b.conv("b", x, 3, 6)});
  const auto sum = b.op("add", "Add", {both, b.conv("c", x, 3, 10)});
  b.conv("last", sum, 10, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  ASSERT_NE(group_of(groups, "a"), nullptr);
  EXPECT_THAT(group_of(groups, "a")->layers, ElementsAre("a", "b", "c"));
  EXPECT_EQ(group_of(groups, "a")->channels, 10);
  ASSERT_EQ(groups.blocks.at("a").size(), 2U);
  EXPECT_EQ(groups.blocks.at("a")[0].size() + groups.blocks.at("a")[1].size(), 10U);
}

TEST(ChannelGroups, PadThatAddsChannelsHoldsBothSidesOfTheSum) {
  GraphBuilder b;
  const auto stem = b.relu("r0", b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 4));
  const auto inner = b.relu("r1", b.conv("a", stem, 4, 5, 3, 1, 2));
  const auto deep = b.conv("b", inner, 5, 8);
  b.constant("starts", Tensor::s64({2}, {0, 0}));
  b.constant("ends", Tensor::s64({2}, {8, 8}));
  b.constant("axes", Tensor::s64({2}, {2, 3}));
  b.constant("steps", Tensor::s64({2}, {2, 2}));
  const auto slice = b.op("slice", "Slice", {stem, "starts", "ends", "axes", "steps"});
  b.constant("pads", Tensor::s64({8}, {0, 2, 0, 0, 0, 2, 0, 0}));
  const auto pad = b.op("shortcut.pad", "Pad", {slice, "pads"});
  b.conv("last", b.relu("r2", b.op("add", "Add", {deep, pad})), 8, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_EQ(groups.stays.at("stem"), "op Pad 'shortcut.pad' adds channels");
  EXPECT_EQ(groups.stays.at("b"), "op Pad 'shortcut.pad' adds channels");
  EXPECT_NE(group_of(groups, "a"), nullptr);
}

TEST(ChannelGroups, SliceOfChannelsHoldsThem) {
  GraphBuilder b;
  const auto stem = b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 4);
  b.constant("starts", Tensor::s64({1}, {0}));
  b.constant("ends", Tensor::s64({1}, {2}));
  b.constant("axes", Tensor::s64({1}, {1}));
  b.conv("last", b.op("slice", "Slice", {stem, "starts", "ends", "axes"}), 2, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_EQ(groups.stays.at("stem"), "op Slice 'slice' takes some of the channels");
}

TEST(ChannelGroups, SqueezeAndExcitationTiesTheGateToWhatItGates) {
  GraphBuilder b;
  const auto stem = b.relu("r0", b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 8));
  const auto squeezed =
      b.relu("r1", b.conv("down", b.op("gap", "GlobalAveragePool", {stem}), 8, 2, 1));
  const auto gate = b.op("gate", "Sigmoid", {b.conv("up", squeezed, 2, 8, 1)});
  b.conv("last", b.op("mul", "Mul", {stem, gate}), 8, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_THAT(group_of(groups, "stem")->layers, ElementsAre("stem", "up"));
  EXPECT_THAT(group_of(groups, "down")->layers, ElementsAre("down"));
}

TEST(ChannelGroups, SpatialGateOfOneChannelTiesNothing) {
  GraphBuilder b;
  const auto stem = b.relu("r0", b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 8));
  const auto gate = b.op("gate", "Sigmoid", {b.conv("mask", stem, 8, 1)});
  b.conv("last", b.op("mul", "Mul", {stem, gate}), 8, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_THAT(group_of(groups, "stem")->layers, ElementsAre("stem"));
}

TEST(ChannelGroups, SharedWeightsStay) {
  GraphBuilder b;
  const auto stem = b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 4);
  const auto first = b.conv("first", stem, 4, 4);
  b.node("second", "Conv", {first, "first.weight", "first.bias"}).attributes =
      std::map(b.graph.nodes.back().attributes);
  b.conv("last", "second", 4, 2, 1);
  const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
  EXPECT_THAT(groups.stays.at("first"), HasSubstr("shared with Conv 'second'"));
  EXPECT_THAT(groups.stays.at("second"), HasSubstr("shared with Conv 'first'"));
  EXPECT_EQ(group_of(groups, "stem"), nullptr) << "its reader can't lose input channels";
}

TEST(ChannelGroups, OperatorsThatMixOrHideChannelsHoldThem) {
  for (const std::string op : {"Softmax", "LayerNormalization", "Expand"}) {
    GraphBuilder b;
    const auto stem = b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 4);
    if (op == "Softmax") {
      b.node("mixer", op, {stem}).attributes["axis"] = std::int64_t{1};
    } else if (op == "LayerNormalization") {
      b.constant("scale", b.numbers.tensor({4, 8, 8}));
      b.node("mixer", op, {stem, "scale"}).attributes["axis"] = std::int64_t{1};
    } else {
      b.constant("shape", Tensor::s64({4}, {1, 4, 8, 8}));
      b.node("mixer", op, {stem, "shape"});
    }
    b.conv("last", "mixer", 4, 2, 1);
    const ChannelGroups groups = find_channel_groups(b.finish({"last"}));
    ASSERT_TRUE(groups.stays.contains("stem")) << op;
    EXPECT_THAT(groups.stays.at("stem"), HasSubstr(op + " 'mixer'"));
  }
}

TEST(ChannelGroups, TransposeIsFollowedWhereItLeads) {
  GraphBuilder b;
  const auto stem = b.relu("r", b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 4));
  b.node("nhwc", "Transpose", {stem}).attributes["perm"] = std::vector<std::int64_t>{0, 2, 3, 1};
  b.constant("w", b.numbers.tensor({4, 7}));
  b.op("dense", "MatMul", {"nhwc", "w"});
  const ChannelGroups groups = find_channel_groups(b.finish({"dense"}));
  EXPECT_NE(group_of(groups, "stem"), nullptr);
}

TEST(ChannelGroups, ReshapeToRowsWithAComputedBatchIsFollowed) {
  GraphBuilder b;
  const auto stem = b.relu("r", b.conv("stem", b.input("x", {-1, 3, 8, 8}), 3, 4));
  b.op("shape", "Shape", {stem});
  b.constant("zero", Tensor::s64({1}, {0}));
  b.constant("minus", Tensor::s64({1}, {-1}));
  b.node("batch", "Gather", {"shape", "zero"});
  b.concat("target", {"batch", "minus"}, 0);
  b.gemm("fc", b.op("rows", "Reshape", {stem, "target"}), 256, 3);
  const ChannelGroups groups = find_channel_groups(b.finish({"fc"}));
  EXPECT_NE(group_of(groups, "stem"), nullptr)
      << (groups.stays.contains("stem") ? groups.stays.at("stem") : "");
}

TEST(ChannelGroups, AskingForTheShapeOfChannelsHoldsThem) {
  GraphBuilder b;
  const auto stem = b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 4);
  b.op("shape", "Shape", {stem});
  b.conv("last", stem, 4, 2, 1);
  b.op("sizes", "Cast", {"shape"});
  b.graph.nodes.back().attributes["to"] = std::int64_t{1};
  const ChannelGroups groups = find_channel_groups(b.finish({"last", "sizes"}));
  EXPECT_EQ(group_of(groups, "stem"), nullptr);
}

}  // namespace
}  // namespace kerf::compress
