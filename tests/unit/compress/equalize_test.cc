#include "workers/compress/equalize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Numbers;
using testing::Tensor;

/// Scales the output channels of a layer very differently.
void spread(GraphBuilder& b, const std::string& layer, std::size_t channels) {
  auto values = b.graph.initializers[layer + ".weight"].mutable_as<float>();
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] *= static_cast<float>(std::pow(3.0, static_cast<double>(i * channels / values.size()) - 2));
}

/// The largest |w| of each output channel.
std::vector<double> ranges(const Graph& graph, const std::string& layer) {
  const Node& node = *find_node(graph, layer);
  const Tensor& weights = *graph.constant(node.inputs[1]);
  const WeightPlace at(node, weights.shape());
  const auto w = weights.as<float>();
  std::vector<double> out(at.rows, 0.0);
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c)
      out[r] = std::max(out[r], std::fabs(static_cast<double>(w[at(r, c)])));
  }
  return out;
}

void expect_same_bits(const Graph& a, const Graph& b, const Tensor& x) {
  const auto y = engine::run_reference(a, {x});
  const auto z = engine::run_reference(b, {x});
  ASSERT_TRUE(y.has_value() && z.has_value());
  EXPECT_EQ((*y)[0].to_floats(), (*z)[0].to_floats());
}

TEST(Equalize, EveryKindOfPairComputesTheSameBitsWithEvenRanges) {
  GraphBuilder b(110);
  auto x = b.relu("r1", b.conv("first", b.input("x", {-1, 3, 8, 8}), 3, 6));
  x = b.conv("depthwise", x, 6, 6, 3, 6);
  x = b.op("prelu", "PRelu", {x, b.constant("slope", Tensor::f32({6, 1, 1}, {0.1F, 0.2F, 0, 0.3F, 1, 0.5F}))});
  x = b.conv("grouped", x, 6, 8, 3, 2);  // nothing between it and the next
  x = b.max_pool("pool", b.conv("last conv", x, 8, 4, 1));
  x = b.gemm("fc1", b.flatten("flat", x), 64, 7, false);
  b.gemm("fc2", b.relu("r2", x), 7, 3);
  for (const auto& [layer, channels] : {std::pair<std::string, std::size_t>{"first", 6}, {"depthwise", 6},
                                        {"grouped", 8}, {"last conv", 4}})
    spread(b, layer, channels);
  const Graph graph = b.finish({"fc2"});
  const Graph even = equalize(graph);
  ASSERT_TRUE(even.check().has_value());
  expect_same_bits(graph, even, Numbers(111).tensor({3, 3, 8, 8}));
  // A channel's row in `first` and its row in `depthwise`, which reads it, end up alike.
  const auto one = ranges(even, "first");
  const auto two = ranges(even, "depthwise");
  for (std::size_t c = 0; c < 6; ++c) {
    EXPECT_LT(one[c] / two[c], 2.0 + 1e-6) << c;
    EXPECT_GT(one[c] / two[c], 0.5 - 1e-6) << c;
  }
  EXPECT_NE(ranges(even, "grouped"), ranges(graph, "grouped"));
  EXPECT_NE(even.initializers.at("fc1.weight").to_floats(), graph.initializers.at("fc1.weight").to_floats());
}

TEST(Equalize, WhatIsReadTwiceOrNotHomogeneousStays) {
  GraphBuilder b(112);
  const auto a = b.relu("r", b.conv("a", b.input("x", {-1, 3, 6, 6}), 3, 4));
  const auto c = b.conv("c", a, 4, 4);
  const auto sum = b.op("add", "Add", {c, a});  // a is read by c and by the sum
  const auto d = b.op("sig", "Sigmoid", {b.conv("d", sum, 4, 4)});
  b.conv("last", d, 4, 2);
  for (const char* layer : {"a", "c", "d"}) spread(b, layer, 4);
  const Graph graph = b.finish({"last"});
  const Graph same = equalize(graph);
  for (const auto& [name, tensor] : graph.initializers)
    EXPECT_EQ(tensor.to_floats(), same.initializers.at(name).to_floats()) << name;
}

TEST(Equalize, ZeroChannelsDenormalsAndHugeWeightsAreLeftAlone) {
  GraphBuilder b(113);
  b.conv("b", b.relu("r", b.conv("a", b.input("x", {-1, 2, 4, 4}), 2, 4, 1)), 4, 3, 1);
  b.constant("a.weight", Tensor::f32({4, 2, 1, 1}, {0, 0, 1e-42F, 1, 1e20F, 1e-30F, 100, 1}));
  b.constant("a.bias", Tensor::f32({4}, {1, 2, 3, 1e-38F}));
  const Graph graph = b.finish({"b"});
  const Graph even = equalize(graph);
  for (const auto& [name, tensor] : even.initializers) {
    for (const float value : tensor.to_floats()) EXPECT_TRUE(std::isfinite(value)) << name;
  }
  const Tensor x = Numbers(114).tensor({2, 2, 4, 4});
  const auto y = engine::run_reference(graph, {x});
  const auto z = engine::run_reference(even, {x});
  EXPECT_EQ((*y)[0].to_floats(), (*z)[0].to_floats());
}

TEST(Equalize, SharedWeightsStay) {
  GraphBuilder b(115);
  const auto a = b.relu("r", b.conv("a", b.input("x", {-1, 4, 6, 6}), 4, 4));
  b.node("b", "Conv", {a, "a.weight", "a.bias"}).attributes = std::map(b.graph.nodes[0].attributes);
  spread(b, "a", 4);
  const Graph graph = b.finish({"b"});
  EXPECT_EQ(equalize(graph).initializers.at("a.weight").to_floats(),
            graph.initializers.at("a.weight").to_floats());
}

}  // namespace
}  // namespace kerf::compress
