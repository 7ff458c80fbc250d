#include "workers/compress/prune_channels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using ::testing::AllOf;
using testing::distance;
using testing::Graph;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Node;
using testing::Numbers;
using testing::Shape;
using testing::Tensor;

CompressionPlan plan_of(const std::string& text) {
  const auto json = parse_json(text);
  EXPECT_TRUE(json.has_value()) << text;
  const auto plan = CompressionPlan::parse(*json);
  EXPECT_TRUE(plan.has_value()) << (plan.has_value() ? "" : plan.error().message);
  return *plan;
}

/// The graph with the weights and biases of removed channels set to zero instead.
Graph masked(const Graph& graph, const ChannelGroups& groups, const std::vector<bool>& keep) {
  Graph out = graph;
  for (const Node& node : graph.nodes) {
    const auto own = groups.outputs.find(node.name);
    if (own == groups.outputs.end()) continue;
    for (const std::size_t input : {std::size_t{1}, std::size_t{2}}) {
      Tensor& tensor = out.initializers.at(node.inputs[input]);
      const std::size_t axis = input == 2 ? 0 : output_channel_axis(node);
      std::size_t inner = 1;
      for (std::size_t i = axis + 1; i < tensor.rank(); ++i)
        inner *= static_cast<std::size_t>(tensor.dim(i));
      const auto values = tensor.mutable_as<float>();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto channel = own->second[i / inner % own->second.size()];
        if (!keep[static_cast<std::size_t>(channel)]) values[i] = 0;
      }
    }
  }
  return out;
}

/// A random network of everything that keeps a zero channel zero: convolutions (also depthwise,
/// also with a multiplier, also in groups), sums, products, concatenations, pools, PRelu, then
/// Flatten or Reshape, Gemms, and a LayerNormalization of their rows, of which no channel may go.
Graph random_graph(std::uint32_t seed) {
  GraphBuilder b(seed);
  Numbers& dice = b.numbers;
  struct Value {
    std::string name;
    std::int64_t channels;
    std::int64_t side;
  };
  std::vector<Value> values = {{b.input("x", {2, 3, 8, 8}), 3, 8}};
  const int nodes = 4 + static_cast<int>(dice.below(9));
  for (int i = 0; i < nodes; ++i) {
    const std::string name = "n" + std::to_string(i);
    const Value from =
        values[static_cast<std::size_t>(dice.below(static_cast<std::int64_t>(values.size())))];
    const auto same_shape = [&] {
      std::vector<Value> out;
      for (const Value& v : values) {
        if (v.channels == from.channels && v.side == from.side && v.name != "x" &&
            v.name != from.name) {
          out.push_back(v);
        }
      }
      return out;
    };
    switch (dice.below(9)) {
      case 8: {
        if (from.channels % 2 != 0) break;
        const std::int64_t out = 2 + 2 * dice.below(4);
        values.push_back({b.conv(name, from.name, from.channels, out, 3, 2), out, from.side});
        break;
      }
      case 0:
      case 1: {
        const std::int64_t out = 1 + dice.below(7);
        values.push_back(
            {b.relu(name + ".relu", b.conv(name, from.name, from.channels, out)), out, from.side});
        break;
      }
      case 2: {
        const std::int64_t multiplier = 1 + dice.below(2);
        const std::int64_t out = from.channels * multiplier;
        values.push_back(
            {b.conv(name, from.name, from.channels, out, 3, from.channels), out, from.side});
        break;
      }
      case 3: {
        const auto others = same_shape();
        if (others.empty()) break;
        const auto& other =
            others[static_cast<std::size_t>(dice.below(static_cast<std::int64_t>(others.size())))];
        values.push_back({b.op(name, dice.below(2) == 0 ? "Add" : "Sub", {from.name, other.name}),
                          from.channels, from.side});
        break;
      }
      case 4: {
        const Value& other =
            values[static_cast<std::size_t>(dice.below(static_cast<std::int64_t>(values.size())))];
        if (other.side != from.side || from.channels + other.channels > 20) break;
        values.push_back(
            {b.concat(name, {from.name, other.name}), from.channels + other.channels, from.side});
        break;
      }
      case 5:
        if (from.side < 4) break;
        values.push_back({b.max_pool(name, from.name), from.channels, from.side / 2});
        break;
      case 6:
        b.constant(name + ".slope", dice.tensor({from.channels, 1, 1}));
        values.push_back(
            {b.op(name, dice.below(2) == 0 ? "PRelu" : "Mul", {from.name, name + ".slope"}),
             from.channels, from.side});
        break;
      default: {
        // Another convolution to the shape of an earlier value, so that sums find partners.
        const Value& shape =
            values[static_cast<std::size_t>(dice.below(static_cast<std::int64_t>(values.size())))];
        if (shape.side != from.side) break;
        values.push_back(
            {b.conv(name, from.name, from.channels, shape.channels, 1), shape.channels, from.side});
        break;
      }
    }
  }
  const Value last = values.back();
  const std::int64_t width = last.channels * last.side * last.side;
  std::string rows = "flat";
  switch (dice.below(3)) {
    case 0: b.flatten("flat", last.name); break;
    case 1: b.op("flat", "Reshape", {last.name, b.constant("target", Tensor::s64({2}, {0, -1}))}); break;
    default: b.op("flat", "Reshape", {last.name, b.constant("target", Tensor::s64({2}, {2, width}))});
  }
  std::string hidden =
      b.relu("hidden", b.gemm("fc1", rows, width, 6, dice.below(2) == 0));
  if (dice.below(3) == 0) {
    b.constant("norm.scale", dice.tensor({6}));
    b.constant("norm.shift", dice.tensor({6}));
    b.node("norm", "LayerNormalization", {hidden, "norm.scale", "norm.shift"}).attributes["axis"] = std::int64_t{-1};
    hidden = "norm";
  }
  hidden = b.relu("second", b.gemm("fc2", hidden, 6, 5, dice.below(2) == 0));
  b.gemm("fc3", hidden, 5, 4, dice.below(2) == 0);
  return b.finish({"fc3"});
}

TEST(PruneChannels, RemovedChannelsGiveTheSameOutputsAsZeroedOnes) {
  int pruned_graphs = 0;
  std::map<std::string, int> pruned_with;  // kinds of nodes in graphs that lost channels
  for (std::uint32_t seed = 1; seed <= 300; ++seed) {
    const Graph graph = random_graph(seed);
    const ChannelGroups groups = find_channel_groups(graph);
    Numbers dice(seed + 1000);
    std::map<std::string, ChannelPruning> pruning;
    for (const TiedGroup& group : groups.groups) {
      const double ratios[] = {0, 0.2, 0.5, 0.75, 0.99};
      pruning[group.name] = {ratios[dice.below(5)], dice.below(2) == 0 ? "l1" : "l2"};
    }
    const auto keep = choose_channels(graph, groups, pruning);
    const auto pruned = remove_channels(graph, groups, keep);
    ASSERT_TRUE(pruned.has_value()) << "seed " << seed << ": " << pruned.error().message;
    ASSERT_TRUE(pruned->check().has_value()) << "seed " << seed;
    const Tensor x = dice.tensor({2, 3, 8, 8});
    const auto expected = engine::run_reference(masked(graph, groups, keep), {x});
    const auto got = engine::run_reference(*pruned, {x});
    ASSERT_TRUE(expected.has_value()) << "seed " << seed << ": " << expected.error().message;
    ASSERT_TRUE(got.has_value()) << "seed " << seed << ": " << got.error().message;
    double scale = 1;
    for (const float value : (*expected)[0].to_floats())
      scale = std::max(scale, std::fabs(static_cast<double>(value)));
    EXPECT_LE(distance((*expected)[0], (*got)[0]), 1e-5 * scale) << "seed " << seed;
    if (std::find(keep.begin(), keep.end(), false) == keep.end()) continue;
    ++pruned_graphs;
    std::set<std::string> kinds;
    for (const Node& node : graph.nodes) {
      const std::int64_t parts = node.integer("group", 1);
      kinds.insert(parts == 1 ? node.op
                   : graph.constant(node.inputs[1])->dim(1) == 1 ? "depthwise" : "grouped");
    }
    for (const std::string& kind : kinds) ++pruned_with[kind];
  }
  for (const char* kind : {"Add", "Sub", "Mul", "PRelu", "Concat", "MaxPool", "depthwise", "grouped", "Flatten",
                           "Reshape", "Gemm", "LayerNormalization"}) {
    EXPECT_GT(pruned_with[kind], 10) << kind;
  }
  EXPECT_GT(pruned_graphs, 200) << "the random graphs must have something to prune";
}

TEST(PruneChannels, KeepsTheRoundedShareAndTheLargestNorms) {
  GraphBuilder b;
  const auto x = b.relu("r", b.conv("a", b.input("x", {1, 2, 4, 4}), 2, 5, 1));
  b.conv("last", x, 5, 2, 1);
  // l1 norms 6, 1, 3, 9, 3.
  b.constant("a.weight", Tensor::f32({5, 2, 1, 1}, {3, -3, 0.5F, 0.5F, 0, 3, -9, 0, 2, -1}));
  const Graph graph = b.finish({"last"});
  const ChannelGroups groups = find_channel_groups(graph);
  const auto scores = channel_scores(graph, groups, "l1");
  const auto& ids = groups.outputs.at("a");
  EXPECT_NEAR(scores[static_cast<std::size_t>(ids[0])], 6 / 4.4, 1e-6);
  EXPECT_NEAR(scores[static_cast<std::size_t>(ids[3])], 9 / 4.4, 1e-6);
  const auto keep = choose_channels(graph, groups, {{"a", {0.5, "l1"}}});  // round(2.5) = 3
  std::vector<bool> kept;
  for (const auto id : ids) kept.push_back(keep[static_cast<std::size_t>(id)]);
  EXPECT_EQ(kept, (std::vector<bool>{true, false, true, true, false}))
      << "of equal scores the lower index stays";
  const auto pruned = remove_channels(graph, groups, keep);
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->constant("a.weight")->shape(), (Shape{3, 2, 1, 1}));
  EXPECT_EQ(pruned->constant("a.weight")->to_floats(), (std::vector<float>{3, -3, 0, 3, -9, 0}));
  EXPECT_EQ(pruned->constant("a.bias")->shape(), (Shape{3}));
  EXPECT_EQ(pruned->constant("last.weight")->shape(), (Shape{2, 3, 1, 1}));
  EXPECT_EQ(pruned->value("r")->shape, (Shape{1, 3, 4, 4}));
}

TEST(PruneChannels, ScoresOfTiedLayersAddUpRelativeToTheirMeans) {
  GraphBuilder b;
  const auto x = b.input("x", {1, 1, 4, 4});
  const auto sum = b.op("add", "Add", {b.conv("a", x, 1, 2, 1), b.conv("b", x, 1, 2, 1)});
  b.conv("last", sum, 2, 1, 1);
  b.constant("a.weight", Tensor::f32({2, 1, 1, 1}, {3, 1}));       // means 2: 1.5, 0.5
  b.constant("b.weight", Tensor::f32({2, 1, 1, 1}, {100, -900}));  // mean 500: 0.2, 1.8
  const Graph graph = b.finish({"last"});
  const ChannelGroups groups = find_channel_groups(graph);
  const auto scores = channel_scores(graph, groups, "l2");
  EXPECT_NEAR(scores[static_cast<std::size_t>(groups.outputs.at("a")[0])], 1.7, 1e-6);
  EXPECT_NEAR(scores[static_cast<std::size_t>(groups.outputs.at("a")[1])], 2.3, 1e-6);
}

TEST(PruneChannels, OneChannelLayersAndZeroWeightsKeepAChannel) {
  GraphBuilder b;
  const auto x = b.relu("r1", b.conv("one", b.input("x", {1, 1, 4, 4}), 1, 1));
  const auto y = b.relu("r2", b.conv("zeros", x, 1, 4));
  b.conv("last", y, 4, 1);
  b.constant("zeros.weight", Tensor(graph::DType::kF32, {4, 1, 3, 3}));
  const Graph graph = b.finish({"last"});
  const ChannelGroups groups = find_channel_groups(graph);
  const auto keep =
      choose_channels(graph, groups, {{"one", {0.99, "l1"}}, {"zeros", {0.99, "l2"}}});
  const auto pruned = remove_channels(graph, groups, keep);
  ASSERT_TRUE(pruned.has_value());
  EXPECT_EQ(pruned->constant("one.weight")->dim(0), 1);
  EXPECT_EQ(pruned->constant("zeros.weight")->dim(0), 1);
}

TEST(PruneChannels, BiasSharedWithAnUnprunedLayerIsCutInACopy) {
  GraphBuilder b;
  const auto x = b.input("x", {1, 2, 4, 4});
  b.conv("a", x, 2, 4);
  b.conv("b", x, 2, 4);
  b.graph.nodes.back().inputs[2] = "a.bias";
  b.graph.initializers.erase("b.bias");
  b.conv("c", "a", 4, 4, 1);
  const Graph graph = b.finish({"c", "b"});  // b's channels are an output
  const ChannelGroups groups = find_channel_groups(graph);
  const auto pruned =
      remove_channels(graph, groups, choose_channels(graph, groups, {{"a", {0.5, "l1"}}}));
  ASSERT_TRUE(pruned.has_value()) << pruned.error().message;
  EXPECT_EQ(pruned->constant("a.bias")->dim(0), 4);
  EXPECT_EQ(pruned->constant(find_node(*pruned, "a")->inputs[2])->dim(0), 2);
}

TEST(PruneChannels, FixedReshapeTargetsAreReplaced) {
  GraphBuilder b;
  const auto x = b.relu("r", b.conv("a", b.input("x", {1, 2, 4, 4}), 2, 4));
  b.constant("target", Tensor::s64({2}, {1, 64}));
  b.gemm("fc", b.op("rows", "Reshape", {x, "target"}), 64, 3);
  const Graph graph = b.finish({"fc"});
  const ChannelGroups groups = find_channel_groups(graph);
  const auto pruned =
      remove_channels(graph, groups, choose_channels(graph, groups, {{"a", {0.5, "l1"}}}));
  ASSERT_TRUE(pruned.has_value()) << pruned.error().message;
  EXPECT_EQ(pruned->value("rows")->shape, (Shape{1, 32}));
  EXPECT_EQ(pruned->constant("fc.weight")->shape(), (Shape{3, 32}));
}

/// stem and b tied by a sum; a alone; last is the output.
Graph residual() {
  GraphBuilder b;
  const auto stem = b.relu("r0", b.conv("stem", b.input("x", {1, 3, 8, 8}), 3, 8));
  const auto inner = b.relu("r1", b.conv("a", stem, 8, 4));
  b.conv("last", b.op("add", "Add", {b.conv("b", inner, 4, 8), stem}), 8, 2);
  return b.finish({"last"});
}

TEST(ResolveChannelPruning, OwnEntryBeatsStarForTheWholeGroup) {
  const ChannelGroups groups = find_channel_groups(residual());
  const auto resolved = resolve_channel_pruning(
      groups, plan_of(R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}},
                                     "b": {"prune": {"structure": "channel", "ratio": 0.25}}}})"));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().message;
  EXPECT_EQ(resolved->at("stem").ratio, 0.25);
  EXPECT_EQ(resolved->at("a").ratio, 0.5);
}

TEST(ResolveChannelPruning, AnEntryWithoutPruneLeavesTheWordToStar) {
  const ChannelGroups groups = find_channel_groups(residual());
  const auto resolved = resolve_channel_pruning(
      groups, plan_of(R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}},
                                     "stem": {"weight_bits": 8}}})"));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().message;
  EXPECT_EQ(resolved->at("stem").ratio, 0.5);
}

TEST(ResolveChannelPruning, TiedLayersThatDisagreeAreRefusedByName) {
  const ChannelGroups groups = find_channel_groups(residual());
  const auto resolved = resolve_channel_pruning(
      groups, plan_of(R"({"layers": {"stem": {"prune": {"structure": "channel", "ratio": 0.5}},
                                     "b": {"prune": {"structure": "channel", "ratio": 0.25}}}})"));
  ASSERT_FALSE(resolved.has_value());
  EXPECT_EQ(resolved.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(resolved.error().message, AllOf(HasSubstr("plan.layers.b.prune"), HasSubstr("0.25"),
                                              HasSubstr("'stem'"), HasSubstr("0.5")));
}

TEST(ResolveChannelPruning, LayersWhoseChannelsStayRefuseTheirOwnEntryAndIgnoreStar) {
  const ChannelGroups groups = find_channel_groups(residual());
  const auto star = resolve_channel_pruning(
      groups, plan_of(R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}}}})"));
  ASSERT_TRUE(star.has_value());
  EXPECT_FALSE(star->contains("last"));
  const auto own = resolve_channel_pruning(
      groups,
      plan_of(R"({"layers": {"last": {"prune": {"structure": "channel", "ratio": 0.5}}}})"));
  ASSERT_FALSE(own.has_value());
  EXPECT_THAT(own.error().message,
              AllOf(HasSubstr("plan.layers.last.prune"), HasSubstr("graph output 'last'")));
}

TEST(PruneChannels, OneRatioForAllRemovesTheWeakestWhereverTheyAre) {
  GraphBuilder b;
  const auto x = b.relu("r1", b.conv("a", b.input("x", {1, 1, 4, 4}), 1, 4, 1));
  const auto y = b.relu("r2", b.conv("b", x, 4, 4, 1));
  b.conv("last", y, 4, 1, 1);
  b.constant("a.weight", Tensor::f32({4, 1, 1, 1}, {1, 1, 1, 1}));  // all 1 of the mean
  std::vector<float> rows(16, 0.0F);
  rows[0] = 4;  // scores 4 / 1.75 …
  rows[5] = 1;
  rows[10] = 1;
  rows[15] = 1;
  b.constant("b.weight", Tensor::f32({4, 4, 1, 1}, rows));
  const Graph graph = b.finish({"last"});
  const ChannelGroups groups = find_channel_groups(graph);
  std::vector<bool> keep(static_cast<std::size_t>(groups.channel_count), true);
  choose_channels_globally(graph, groups, 0.375, {}, keep);  // 3 of 8
  std::vector<bool> a;
  std::vector<bool> second;
  for (const auto id : groups.outputs.at("a")) a.push_back(keep[static_cast<std::size_t>(id)]);
  for (const auto id : groups.outputs.at("b")) second.push_back(keep[static_cast<std::size_t>(id)]);
  EXPECT_EQ(a, (std::vector<bool>{true, true, true, true}));
  EXPECT_EQ(second, (std::vector<bool>{true, false, false, false}));
}

}  // namespace
}  // namespace kerf::compress
