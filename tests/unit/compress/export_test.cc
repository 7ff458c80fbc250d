#include "workers/compress/export.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/bf16.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::distance;
using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Tensor;

/// x → a → relu → b (integers), c (4-bit weights), d (bf16).
CompressedModel model(bool per_channel) {
  GraphBuilder b(3);
  const auto r = b.relu("r", b.conv("a", b.input("x", {2, 3, 6, 6}), 3, 4));
  b.conv("c", b.relu("r2", b.conv("b", r, 4, 5)), 5, 3);
  b.conv("d", "c", 3, 2);
  Graph graph = b.finish({"d"});
  EXPECT_TRUE(make_bf16(graph, "d"));
  const auto rounded = [&](const std::string& layer, int bits, bool integer) {
    return QuantizedLayer{
        *quantize_weights(*graph.constant(layer + ".weight"), 0, {bits, per_channel, "minmax"}),
        bits, integer ? InputForm::kStatic : InputForm::kFloat};
  };
  CompressedModel out;
  out.graph = *insert_qdq(graph, {{"b", rounded("b", 8, true)}, {"c", rounded("c", 4, false)}},
                          {{"r", {graph::DType::kU8, 0.04F, 0}}});
  return out;
}

TEST(Export, BiasOfAnIntegerLayerIsS32OfTheProductScale) {
  for (const bool per_channel : {true, false}) {
    const CompressedModel compressed = model(per_channel);
    const auto out = to_standard_onnx(compressed, {});
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const Node* bias = out->producer(find_node(*out, "b")->inputs[2]);
    ASSERT_NE(bias, nullptr);
    EXPECT_EQ(bias->op, "DequantizeLinear");
    const Tensor* integers = out->constant(bias->inputs[0]);
    ASSERT_EQ(integers->dtype(), graph::DType::kS32);
    const auto scales = out->constant(bias->inputs[1])->to_floats();
    const Node* weights = out->producer(find_node(*out, "b")->inputs[1]);
    const auto weight_scales = out->constant(weights->inputs[1])->to_floats();
    ASSERT_EQ(scales.size(), weight_scales.size());
    const auto values = integers->to_integers();
    const auto bias_values = compressed.graph.constant("b.bias")->to_floats();
    for (std::size_t c = 0; c < values.size(); ++c) {
      const float scale = scales[scales.size() == 1 ? 0 : c];
      EXPECT_FLOAT_EQ(scale, 0.04F * weight_scales[scales.size() == 1 ? 0 : c]);
      EXPECT_NEAR(static_cast<double>(values[c]) * scale, bias_values[c], scale * 0.51);
    }
    // Layers without integer inputs keep their f32 bias.
    EXPECT_NE(out->constant(find_node(*out, "a")->inputs[2]), nullptr);
    EXPECT_NE(out->constant(find_node(*out, "c")->inputs[2]), nullptr);
  }
}

TEST(Export, ComputesTheSame) {
  const CompressedModel compressed = model(true);
  const auto out = to_standard_onnx(compressed, {{"kerf.plan", "{}"}});
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->metadata.at("kerf.plan"), "{}");
  const Tensor x = testing::Numbers(4).tensor({2, 3, 6, 6});
  const auto a = engine::run_reference(compressed.graph, {x});
  const auto b = engine::run_reference(*out, {x});
  ASSERT_TRUE(b.has_value()) << b.error().message;
  EXPECT_LT(distance((*a)[0], (*b)[0]), 0.02);
}

TEST(Export, HasNoAttributeOfOurs) {
  const auto out = to_standard_onnx(model(true), {});
  ASSERT_TRUE(out.has_value());
  for (const Node& node : out->nodes) {
    for (const auto& [name, value] : node.attributes)
      EXPECT_FALSE(name.starts_with("kerf_")) << node.name;
  }
}

TEST(Export, BiasThatWouldSaturateStaysF32) {
  CompressedModel compressed = model(true);
  compressed.graph.initializers["b.bias"] = Tensor::f32({5}, {1e9F, 0, 0, 0, 0});
  const auto out = to_standard_onnx(compressed, {});
  ASSERT_TRUE(out.has_value());
  ASSERT_NE(out->constant("b.bias"), nullptr);
  EXPECT_EQ(out->constant("b.bias")->dtype(), graph::DType::kF32);
}

TEST(Bf16, RoundsToTheNearestWithTiesToEven) {
  const Tensor out =
      round_to_bf16(Tensor::f32({4}, {1.0F, 1.00390625F, 1.01171875F, -3.14159265F}));
  EXPECT_EQ(out.to_floats(), (std::vector<float>{1.0F, 1.0F, 1.015625F, -3.140625F}));
}

TEST(Bf16, SharedWeightsStayAsTheyAreForOthers) {
  GraphBuilder b;
  const auto a = b.conv("a", b.input("x", {1, 4, 6, 6}), 4, 4);
  b.node("b", "Conv", {a, "a.weight", "a.bias"}).attributes = std::map(b.graph.nodes[0].attributes);
  Graph graph = b.finish({"b"});
  const auto before = graph.constant("a.weight")->to_floats();
  ASSERT_TRUE(make_bf16(graph, "b"));
  EXPECT_EQ(graph.constant("a.weight")->to_floats(), before);
  EXPECT_NE(graph.constant(find_node(graph, "b")->inputs[1])->to_floats(), before);
  EXPECT_FALSE(make_bf16(graph, "nobody"));
}

}  // namespace
}  // namespace kerf::compress
