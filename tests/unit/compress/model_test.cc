#include "workers/compress/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using ::testing::Contains;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Shape;
using testing::Tensor;

const LayerInfo& layer(const ModelInfo& info, const std::string& name) {
  for (const LayerInfo& candidate : info.layers) {
    if (candidate.name == name) return candidate;
  }
  throw std::runtime_error("no layer " + name);
}

TEST(Prepare, DescribesLayers) {
  GraphBuilder b;
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 3, 8, 8}), 3, 8, 3, 1, 2));
  x = b.relu("r2", b.conv("dw", x, 8, 8, 3, 8));
  b.gemm("fc", b.flatten("flat", b.op("gap", "GlobalAveragePool", {x})), 8, 10);
  const auto model = prepare(b.finish({"fc"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const ModelInfo& info = model->info;
  ASSERT_EQ(info.layers.size(), 3U);
  const LayerInfo& conv = layer(info, "conv1");
  EXPECT_EQ(conv.op, "Conv");
  EXPECT_EQ(conv.input_shape, (Shape{1, 3, 8, 8}));
  EXPECT_EQ(conv.output_shape, (Shape{1, 8, 4, 4}));
  EXPECT_EQ(conv.weight_shape, (Shape{8, 3, 3, 3}));
  EXPECT_EQ(conv.macs, 8 * 4 * 4 * 27);
  EXPECT_EQ(conv.params, 8 * 27 + 8);
  EXPECT_EQ(conv.prune_group, "conv1");
  EXPECT_THAT(conv.prune_structures, Contains("channel"));
  EXPECT_THAT(conv.weight_bits, Contains(Json(4)));
  EXPECT_THAT(conv.activation_bits, Contains(Json(8)));
  EXPECT_EQ(layer(info, "dw").macs, 8 * 4 * 4 * 9);
  EXPECT_EQ(layer(info, "dw").prune_group, "conv1");
  EXPECT_EQ(layer(info, "fc").macs, 80);
  EXPECT_THAT(layer(info, "fc").channels_stay_because, HasSubstr("graph output"));
  EXPECT_THAT(layer(info, "fc").prune_structures, Not(Contains("channel")));
  EXPECT_EQ(info.macs, 8 * 4 * 4 * 27 + 8 * 4 * 4 * 9 + 80);
  EXPECT_EQ(info.params, 8 * 27 + 8 + 8 * 9 + 8 + 80 + 10);
  ASSERT_EQ(info.groups.size(), 1U);
  EXPECT_EQ(info.inputs[0].shape[0], -1);
}

TEST(Prepare, FoldsBatchNormalizationAndKeepsTheLayersName) {
  GraphBuilder b;
  b.input("x", {1, 3, 8, 8});
  b.constant("w", b.numbers.tensor({4, 3, 3, 3}));
  b.op("conv", "Conv", {"x", "w"});
  for (const std::string p : {"scale", "shift", "mean"}) b.constant(p, b.numbers.tensor({4}));
  b.constant("var", Tensor::f32({4}, {1, 2, 3, 4}));
  b.op("bn", "BatchNormalization", {"conv", "scale", "shift", "mean", "var"});
  b.gemm("fc", b.flatten("flat", b.relu("r", "bn")), 144, 3);
  const auto model = prepare(b.finish({"fc"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  EXPECT_EQ(model->info.layers[0].name, "conv");
  EXPECT_EQ(model->info.layers[0].params, 4 * 27 + 4);
  for (const auto& node : model->graph.nodes) EXPECT_NE(node.op, "BatchNormalization");
}

TEST(Prepare, PutsGemmFactorsIntoTheWeights) {
  GraphBuilder b;
  b.gemm("fc", b.input("x", {1, 4}), 4, 2);
  b.graph.nodes[0].attributes["alpha"] = 0.5F;
  b.graph.nodes[0].attributes["beta"] = 2.0F;
  const auto graph = b.finish({"fc"});
  const auto model = prepare(graph);
  ASSERT_TRUE(model.has_value());
  const auto* node = find_node(model->graph, "fc");
  EXPECT_EQ(node->real("alpha", 1), 1);
  EXPECT_FLOAT_EQ(model->graph.constant(node->inputs[1])->to_floats()[0],
                  graph.constant("fc.weight")->to_floats()[0] * 0.5F);
  EXPECT_FLOAT_EQ(model->graph.constant(node->inputs[2])->to_floats()[1],
                  graph.constant("fc.bias")->to_floats()[1] * 2);
}

TEST(Prepare, RefusesWeightsThatAreNotFinite) {
  GraphBuilder b;
  b.gemm("fc", b.input("x", {1, 2}), 2, 1);
  b.constant("fc.weight", Tensor::f32({1, 2}, {1, std::numeric_limits<float>::quiet_NaN()}));
  const auto model = prepare(b.finish({"fc"}));
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(model.error().message,
              HasSubstr("layer 'fc': element 1 of its weights is not finite"));
}

TEST(Prepare, OffersNoIntegersWhereThereAreNoKernelsForThem) {
  GraphBuilder b;
  b.input("x", {1, 4, 6, 6});
  b.constant("w", b.numbers.tensor({4, 3, 2, 2}));
  b.op("up", "ConvTranspose", {"x", "w"});
  const auto model = prepare(b.finish({"up"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  EXPECT_EQ(model->info.layers[0].activation_bits, std::vector<Json>{Json(32)});
  EXPECT_EQ(model->info.layers[0].macs, 4 * 36 * 3 * 4);
}

}  // namespace
}  // namespace kerf::compress
