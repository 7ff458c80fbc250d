#include "workers/compress/bias_correction.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Numbers;
using testing::Tensor;

/// Mean of each channel (axis 1, or the last one of a matrix) over everything else.
std::vector<double> channel_means(const Tensor& tensor, bool matrix) {
  const auto values = tensor.to_floats();
  const std::size_t axis = matrix ? tensor.rank() - 1 : 1;
  const auto channels = static_cast<std::size_t>(tensor.dim(axis));
  std::size_t inner = 1;
  for (std::size_t i = axis + 1; i < tensor.rank(); ++i)
    inner *= static_cast<std::size_t>(tensor.dim(i));
  std::vector<double> out(channels, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) out[i / inner % channels] += values[i];
  for (double& value : out) value /= static_cast<double>(values.size() / channels);
  return out;
}

/// Weights that are all rounded up: a bias in every output.
Tensor rounded_up(const Tensor& weights, float step) {
  Tensor out = weights;
  for (float& value : out.mutable_as<float>()) value = std::ceil(value / step) * step;
  return out;
}

struct Case {
  std::string name;
  Graph graph;
  Tensor x;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  const auto add = [&](const std::string& name, GraphBuilder& b, const std::string& layer) {
    const auto shape = b.graph.inputs[0].shape;
    Tensor x = Numbers(99).tensor(shape);
    for (float& value : x.mutable_as<float>()) value += 0.7F;  // a mean that isn't zero
    out.push_back({name, b.finish({layer}), x});
  };
  {
    GraphBuilder b(1);
    add("padded", b, b.conv("layer", b.input("x", {4, 3, 7, 6}), 3, 5));
  }
  {
    GraphBuilder b(2);
    add("strided", b, b.conv("layer", b.input("x", {4, 3, 7, 6}), 3, 5, 3, 1, 2));
  }
  {
    GraphBuilder b(3);
    add("depthwise", b, b.conv("layer", b.input("x", {4, 6, 7, 6}), 6, 12, 3, 6));
  }
  {
    GraphBuilder b(4);
    b.conv("layer", b.input("x", {4, 3, 9, 9}), 3, 5);
    b.graph.nodes[0].attributes["dilations"] = std::vector<std::int64_t>{2, 2};
    b.graph.nodes[0].attributes["pads"] = std::vector<std::int64_t>{1, 0, 2, 1};
    add("dilated, uneven pads", b, "layer");
  }
  for (const std::string mode : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
    GraphBuilder b(5);
    b.conv("layer", b.input("x", {4, 3, 8, 8}), 3, 5, 4, 1, 3);
    b.graph.nodes[0].attributes.erase("pads");
    b.graph.nodes[0].attributes["auto_pad"] = mode;
    add(mode, b, "layer");
  }
  {
    GraphBuilder b(6);
    b.input("x", {4, 3, 12});
    b.node("layer", "Conv", {"x", "w"}).attributes["pads"] = std::vector<std::int64_t>{1, 1};
    b.constant("w", b.numbers.tensor({5, 3, 3}));
    add("one-dimensional, no bias", b, "layer");
  }
  for (const bool transposed : {true, false}) {
    GraphBuilder b(7);
    add(transposed ? "Gemm" : "Gemm, not transposed", b,
        b.gemm("layer", b.input("x", {16, 9}), 9, 4, transposed));
  }
  {
    GraphBuilder b(8);
    b.constant("w", b.numbers.tensor({9, 4}));
    add("MatMul", b, b.op("layer", "MatMul", {b.input("x", {16, 9}), "w"}));
  }
  return out;
}

TEST(BiasCorrection, ErrorIsExactlyTheMeanDifferenceOfTheOutputs) {
  for (Case& c : cases()) {
    const Node& layer = c.graph.nodes[0];
    const Tensor before = c.graph.initializers.at(layer.inputs[1]);
    const Tensor after = rounded_up(before, 0.25F);
    ValueStatistics input;
    input.sample_shape.assign(c.x.shape().begin() + 1, c.x.shape().end());
    ASSERT_TRUE(input.add(c.x.as<float>(), c.x.dim(0)));
    const auto error = mean_output_error(c.graph, layer, before, after, input);
    ASSERT_TRUE(error.has_value()) << c.name;

    Graph rounded = c.graph;
    rounded.initializers[layer.inputs[1]] = after;
    const bool matrix = layer.op != "Conv";
    const auto y = channel_means((*engine::run_reference(c.graph, {c.x}))[0], matrix);
    const auto z = channel_means((*engine::run_reference(rounded, {c.x}))[0], matrix);
    ASSERT_EQ(error->size(), y.size()) << c.name;
    for (std::size_t o = 0; o < y.size(); ++o)
      EXPECT_NEAR((*error)[o], z[o] - y[o], 1e-4) << c.name << " " << o;

    // And taken off the bias, nothing of it is left.
    ASSERT_TRUE(correct_bias(rounded, layer.name, *error)) << c.name;
    ASSERT_TRUE(rounded.check().has_value()) << c.name;
    const auto corrected = channel_means((*engine::run_reference(rounded, {c.x}))[0], matrix);
    for (std::size_t o = 0; o < y.size(); ++o)
      EXPECT_NEAR(corrected[o], y[o], 1e-4) << c.name << " " << o;
  }
}

TEST(BiasCorrection, ImprovesTheSignalToNoiseRatioOfBiasedRounding) {
  GraphBuilder b(11);
  const auto x = b.relu("r1", b.conv("a", b.input("x", {8, 3, 8, 8}), 3, 8));
  b.conv("layer", x, 8, 6);
  Graph graph = b.finish({"layer"});
  const Tensor input = Numbers(12).tensor({8, 3, 8, 8});
  const auto values = *engine::run_reference_values(graph, {input});
  ValueStatistics seen;
  seen.sample_shape = {8, 8, 8};
  ASSERT_TRUE(seen.add(values.at("r1").as<float>(), 8));
  Graph rounded = graph;
  const Tensor before = graph.initializers.at("layer.weight");
  rounded.initializers["layer.weight"] = rounded_up(before, 0.25F);
  const auto sqnr = [&](const Graph& candidate) {
    const auto y = values.at("layer").to_floats();
    const auto z = (*engine::run_reference(candidate, {input}))[0].to_floats();
    double signal = 0;
    double noise = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      signal += std::pow(y[i], 2);
      noise += std::pow(static_cast<double>(y[i]) - z[i], 2);
    }
    return 10 * std::log10(signal / noise);
  };
  const double plain = sqnr(rounded);
  const auto error = mean_output_error(graph, *find_node(graph, "layer"), before,
                                       rounded.initializers.at("layer.weight"), seen);
  ASSERT_TRUE(error.has_value());
  ASSERT_TRUE(correct_bias(rounded, "layer", *error));
  EXPECT_GT(sqnr(rounded), plain + 3);
}

TEST(BiasCorrection, SpreadsReducedWeightsOverTheirOldShape) {
  // [out 3, in 3]; output 1 and input 2 went.
  const Tensor whole = Tensor::f32({3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Tensor reduced = Tensor::f32({2, 2}, {10, 20, 70, 80});
  const auto out =
      spread_weights(whole, reduced, 0, {{0, {true, false, true}}, {1, {true, true, false}}});
  EXPECT_EQ(out.to_floats(), (std::vector<float>{10, 20, 0, 4, 5, 6, 70, 80, 0}));
  EXPECT_EQ(spread_weights(whole, whole, 0, {}).to_floats(), whole.to_floats());
}

TEST(BiasCorrection, NeverWritesWhatIsNotFinite) {
  GraphBuilder b(13);
  Graph graph = (b.gemm("layer", b.input("x", {1, 2}), 2, 2), b.finish({"layer"}));
  const auto bias = graph.initializers.at("layer.bias").to_floats();
  EXPECT_FALSE(correct_bias(graph, "layer", {0, std::nan("")}));
  EXPECT_FALSE(correct_bias(graph, "layer", {0, std::numeric_limits<double>::max()}));
  EXPECT_EQ(graph.initializers.at("layer.bias").to_floats(), bias);
}

TEST(BiasCorrection, BiasOfTwoLayersChangesForOneOnly) {
  GraphBuilder b(14);
  const auto x = b.input("x", {1, 2});
  b.gemm("a", x, 2, 2);
  b.gemm("b", x, 2, 2);
  b.graph.nodes[1].inputs[2] = "a.bias";
  Graph graph = b.finish({"a", "b"});
  const auto bias = graph.initializers.at("a.bias").to_floats();
  ASSERT_TRUE(correct_bias(graph, "b", {1, 2}));
  EXPECT_EQ(graph.initializers.at("a.bias").to_floats(), bias);
  EXPECT_FLOAT_EQ(graph.initializers.at(find_node(graph, "b")->inputs[2]).to_floats()[1],
                  bias[1] - 2);
}

}  // namespace
}  // namespace kerf::compress
