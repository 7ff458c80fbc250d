#include "workers/compress/insert_qdq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::distance;
using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Tensor;

QuantizedLayer quantized(const Graph& graph, const std::string& layer, bool integer, int bits = 8) {
  const Node* node = find_node(graph, layer);
  return {*quantize_weights(*graph.constant(node->inputs[1]), output_channel_axis(*node),
                            {bits, true, "minmax"}),
          bits, integer ? InputForm::kStatic : InputForm::kFloat};
}

const ActivationRange kUnsigned{graph::DType::kU8, 0.02F, 0};
const ActivationRange kSigned{graph::DType::kS8, 0.05F, 0};

/// x → a → relu → b, and relu → add (with b).
GraphBuilder residual() {
  GraphBuilder b;
  const auto r = b.relu("r", b.conv("a", b.input("x", {1, 3, 6, 6}), 3, 4));
  b.op("add", "Add", {b.conv("b", r, 4, 4), r});
  return b;
}

TEST(InsertQdq, PairStandsBehindTheValueAndAllReadIt) {
  auto b = residual();
  const Graph graph = b.finish({"add"});
  const auto out =
      insert_qdq(graph, {{"a", quantized(graph, "a", true)}, {"b", quantized(graph, "b", true)}},
                 {{"x", kSigned}, {"r", kUnsigned}});
  ASSERT_TRUE(out.has_value()) << out.error().message;
  const Node* conv = find_node(*out, "b");
  const Node* dequantize = out->producer(conv->inputs[0]);
  ASSERT_EQ(dequantize->op, "DequantizeLinear");
  const Node* quantize = out->producer(dequantize->inputs[0]);
  ASSERT_EQ(quantize->op, "QuantizeLinear");
  EXPECT_EQ(quantize->inputs[0], "r");
  EXPECT_EQ(out->constant(quantize->inputs[2])->dtype(), graph::DType::kU8);
  EXPECT_EQ(find_node(*out, "add")->inputs[1], conv->inputs[0])
      << "the sum reads the dequantized value too";
  const Node* first = find_node(*out, "a");
  const Node* of_input = out->producer(out->producer(first->inputs[0])->inputs[0]);
  EXPECT_EQ(of_input->inputs[0], "x");
  EXPECT_EQ(out->constant(of_input->inputs[2])->dtype(), graph::DType::kS8);
  // Weights: s8 with a scale and a zero for each channel.
  const Node* weights = out->producer(conv->inputs[1]);
  EXPECT_EQ(weights->op, "DequantizeLinear");
  EXPECT_EQ(weights->integer("axis", -1), 0);
  EXPECT_EQ(weights->integer("kerf_bits", 0), 8);
  EXPECT_EQ(out->constant(weights->inputs[1])->elements(), 4);
  EXPECT_EQ(out->constant(weights->inputs[2])->to_integers(),
            (std::vector<std::int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(out->constant("b.weight"), nullptr) << "the f32 weights are gone";
}

TEST(InsertQdq, ALayerThatStaysF32ReadsTheF32Value) {
  GraphBuilder b;
  const auto r = b.relu("r", b.conv("a", b.input("x", {1, 3, 6, 6}), 3, 4));
  b.conv("b", r, 4, 4);
  b.conv("c", r, 4, 4);
  b.op("add", "Add", {"b", r});
  const Graph graph = b.finish({"add", "c"});
  const auto out = insert_qdq(graph, {{"b", quantized(graph, "b", true)}}, {{"r", kUnsigned}});
  ASSERT_TRUE(out.has_value());
  EXPECT_NE(find_node(*out, "b")->inputs[0], "r");
  EXPECT_EQ(find_node(*out, "c")->inputs[0], "r");
  EXPECT_EQ(find_node(*out, "add")->inputs[1], "r");
  EXPECT_EQ(find_node(*out, "a")->inputs[1], "a.weight");
}

TEST(InsertQdq, WeightsOnlyLayersHaveNoPair) {
  auto b = residual();
  const Graph graph = b.finish({"add"});
  const auto out = insert_qdq(graph, {{"b", quantized(graph, "b", false, 4)}}, {});
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(find_node(*out, "b")->inputs[0], "r");
  EXPECT_EQ(out->producer(find_node(*out, "b")->inputs[1])->integer("kerf_bits", 0), 4);
  for (const Node& node : out->nodes) EXPECT_NE(node.op, "QuantizeLinear");
}

TEST(InsertQdq, GraphOutputsKeepTheirF32Value) {
  GraphBuilder b;
  const auto r = b.relu("r", b.conv("a", b.input("x", {1, 3, 6, 6}), 3, 4));
  b.conv("b", r, 4, 4);
  const Graph graph = b.finish({"b", "r"});
  const auto out = insert_qdq(graph, {{"b", quantized(graph, "b", true)}}, {{"r", kUnsigned}});
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->outputs[1].name, "r");
  EXPECT_EQ(out->producer("r")->op, "Relu");
}

TEST(InsertQdq, LayersThatShareWeightsShareTheirDequantizeLinear) {
  GraphBuilder b;
  const auto x = b.input("x", {1, 4, 6, 6});
  const auto a = b.conv("a", x, 4, 4);
  b.node("b", "Conv", {a, "a.weight", "a.bias"}).attributes = std::map(b.graph.nodes[0].attributes);
  const Graph graph = b.finish({"b"});
  const auto same = insert_qdq(
      graph, {{"a", quantized(graph, "a", false)}, {"b", quantized(graph, "b", false)}}, {});
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(find_node(*same, "a")->inputs[1], find_node(*same, "b")->inputs[1]);
  const auto other = insert_qdq(
      graph, {{"a", quantized(graph, "a", false)}, {"b", quantized(graph, "b", false, 4)}}, {});
  ASSERT_TRUE(other.has_value());
  EXPECT_NE(find_node(*other, "a")->inputs[1], find_node(*other, "b")->inputs[1]);
}

TEST(InsertQdq, RunsLikeRoundedWeightsAndRoundedActivations) {
  GraphBuilder b(5);
  const auto r = b.relu("r", b.conv("a", b.input("x", {2, 3, 6, 6}), 3, 4));
  b.gemm("fc", b.flatten("flat", r), 144, 5, false);
  const Graph graph = b.finish({"fc"});
  const auto fc = quantized(graph, "fc", true);
  const auto out = insert_qdq(graph, {{"fc", fc}}, {{"flat", kUnsigned}});
  ASSERT_TRUE(out.has_value());
  const Tensor x = b.numbers.tensor({2, 3, 6, 6});
  // Reference: round by hand, run the f32 layer.
  auto values = *engine::run_reference_values(graph, {x});
  Tensor flat = values.at("flat");
  for (float& value : flat.mutable_as<float>()) {
    value = 0.02F * std::clamp(std::nearbyint(value / 0.02F), 0.0F, 255.0F);
  }
  const std::vector<Tensor> inputs = {flat, dequantize(fc.weights, 1), *graph.constant("fc.bias")};
  const auto expected = engine::evaluate(*find_node(graph, "fc"), inputs);
  const auto got = engine::run_reference(*out, {x});
  ASSERT_TRUE(got.has_value()) << got.error().message;
  EXPECT_LT(distance((*got)[0], (*expected)[0]), 1e-3);
}

TEST(InsertQdq, NamesAMissingLayerOrRange) {
  auto b = residual();
  const Graph graph = b.finish({"add"});
  EXPECT_THAT(insert_qdq(graph, {{"c", quantized(graph, "b", true)}}, {}).error().message,
              ::testing::HasSubstr("'c'"));
  EXPECT_THAT(insert_qdq(graph, {{"b", quantized(graph, "b", true)}}, {}).error().message,
              ::testing::HasSubstr("'r'"));
}

}  // namespace
}  // namespace kerf::compress
