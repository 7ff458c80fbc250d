#include "workers/compress/compress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/export.h"
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
using testing::Tensor;

CompressionPlan plan_of(const std::string& text) {
  const auto json = parse_json(text);
  EXPECT_TRUE(json.has_value()) << text;
  const auto plan = CompressionPlan::parse(*json);
  EXPECT_TRUE(plan.has_value()) << (plan.has_value() ? "" : plan.error().message);
  return *plan;
}

/// conv1 → conv2 (+ residual) → pool → fc.
PreparedModel small_model() {
  GraphBuilder b(21);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 3, 8, 8}), 3, 8));
  const auto inner = b.relu("r2", b.conv("conv2", x, 8, 6));
  x = b.relu("r3", b.op("add", "Add", {b.conv("conv3", inner, 6, 8), x}));
  b.gemm("fc", b.flatten("flat", b.max_pool("pool", x)), 128, 5);
  auto model = prepare(b.finish({"fc"}));
  EXPECT_TRUE(model.has_value()) << (model.has_value() ? "" : model.error().message);
  return *model;
}

class CompressTest : public ::testing::Test {
 protected:
  Result<CompressedModel> run(const std::string& plan) {
    return compress(model_, plan_of(plan), &calibration_);
  }

  std::vector<float> outputs(const Graph& graph) {
    const auto out = engine::run_reference(graph, {data_});
    EXPECT_TRUE(out.has_value()) << (out.has_value() ? "" : out.error().message);
    return (*out)[0].to_floats();
  }

  double sqnr_db(const Graph& graph) {
    const auto y = outputs(model_.graph);
    const auto z = outputs(graph);
    double signal = 0;
    double noise = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      signal += std::pow(y[i], 2);
      noise += std::pow(static_cast<double>(y[i]) - z[i], 2);
    }
    return 10 * std::log10(signal / noise);
  }

  PreparedModel model_ = small_model();
  Tensor data_ = Numbers(22).tensor({40, 3, 8, 8});
  Calibration calibration_{model_, {data_}, 1};
};

// Where weights have few bits, the step of a sum isn't small beside the output's: a bias that is rounded
// in the file only would move values there.
TEST_F(CompressTest, ACandidateComputesWhatItsFileComputes) {
  for (const char* bits : {"8", "4", "2", "\"ternary\""}) {
    const auto out = run(std::string(R"({"layers": {"*": {"weight_bits": )") + bits + R"(, "activation_bits": 8}}})");
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const auto standard = to_standard_onnx(*out, {});
    ASSERT_TRUE(standard.has_value()) << standard.error().message;
    EXPECT_EQ(outputs(out->graph), outputs(*standard)) << bits;
  }
}

TEST_F(CompressTest, EmptyPlanLeavesTheModelAlone) {
  const auto out = compress(model_, plan_of("{}"), nullptr);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->graph.nodes.size(), model_.graph.nodes.size());
  EXPECT_EQ(out->macs, model_.info.macs);
  EXPECT_EQ(out->recovery_seconds, 0);
  ASSERT_EQ(out->layers.size(), 4U);
  EXPECT_EQ(out->layers[0].executes_as, "f32");
  EXPECT_EQ(out->layers[0].weight_bits_total, 8 * 27 * 32);
  // Exponents repeat themselves, mantissas don't.
  EXPECT_GT(out->storage_bytes, model_.info.params * 3);
  EXPECT_LT(out->storage_bytes, model_.info.params * 4 + 2000);
}

TEST_F(CompressTest, EightBitsAreCloseForEveryRange) {
  for (const std::string range : {"minmax", "percentile", "entropy", "mse"}) {
    const auto out = run(R"({"global": {"range": ")" + range +
                         R"("}, "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})");
    ASSERT_TRUE(out.has_value()) << out.error().message;
    ASSERT_TRUE(out->graph.check().has_value());
    EXPECT_GT(sqnr_db(out->graph), range == "entropy" ? 20 : 28) << range;
    for (const LayerReport& layer : out->layers) EXPECT_EQ(layer.executes_as, "s8");
  }
}

TEST_F(CompressTest, EveryIntegerLayerReadsAPairAndIntegerWeights) {
  const auto out = run(R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})");
  ASSERT_TRUE(out.has_value());
  for (const Node& node : out->graph.nodes) {
    if (!graph::is_layer(out->graph, node)) continue;
    EXPECT_EQ(out->graph.producer(node.inputs[0])->op, "DequantizeLinear") << node.name;
    EXPECT_EQ(out->graph.producer(node.inputs[1])->op, "DequantizeLinear") << node.name;
  }
}

TEST_F(CompressTest, FewerBitsAreStoredInLessAndAreLessExact) {
  double last_sqnr = 1e9;
  std::int64_t last_size = 1 << 30;
  for (const int bits : {8, 6, 4, 3}) {
    const auto out = run(R"({"layers": {"*": {"weight_bits": )" + std::to_string(bits) + "}}}");
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const double sqnr = sqnr_db(out->graph);
    EXPECT_LT(sqnr, last_sqnr);
    EXPECT_LT(out->storage_bytes, last_size);
    EXPECT_EQ(out->layers[1].executes_as, "f32 (" + std::to_string(bits) + "-bit weights)");
    last_sqnr = sqnr;
    last_size = out->storage_bytes;
  }
}

TEST_F(CompressTest, Bf16MarksLayersAndRoundsWeights) {
  const auto out = run(R"({"layers": {"conv1": {"weight_bits": 16}}})");
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(find_node(out->graph, "conv1")->text("kerf_precision", ""), "bf16");
  EXPECT_EQ(out->layers[0].executes_as, "bf16");
  EXPECT_EQ(out->layers[1].executes_as, "f32");
}

TEST_F(CompressTest, PrunedChannelsAreGoneAndReported) {
  const auto out = run(R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}}}})");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->graph.constant("conv2.weight")->shape(), (graph::Shape{3, 4, 3, 3}));
  EXPECT_DOUBLE_EQ(out->layers[0].channel_share_kept, 0.5);
  EXPECT_DOUBLE_EQ(out->layers[3].channel_share_kept, 1);
  EXPECT_LT(out->macs, model_.info.macs / 2);
  EXPECT_EQ(out->graph.value("pool")->shape[1], 4);
}

TEST_F(CompressTest, PruningAndEightBitsTakeRangesOfThePrunedModel) {
  const auto out = run(R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8,
                                            "prune": {"structure": "channel", "ratio": 0.5}}}})");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  const auto pruned =
      run(R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}}}})");
  const auto values = engine::run_reference_values(pruned->graph, {data_});
  float largest = 0;
  for (const float value : values->at("r3").to_floats()) largest = std::max(largest, value);
  const Node* pool_input = out->graph.producer(find_node(out->graph, "fc")->inputs[0]);
  const float scale = out->graph.constant(pool_input->inputs[1])->to_floats()[0];
  float flat = 0;
  for (const float value : values->at("flat").to_floats()) flat = std::max(flat, value);
  EXPECT_NEAR(scale * 255, flat, 1e-3 * flat);
}

TEST_F(CompressTest, UnstructuredAndNOfMAreReportedAsSparsity) {
  const auto out =
      run(R"({"layers": {"conv1": {"prune": {"structure": "unstructured", "ratio": 0.75}},
                                      "conv2": {"weight_bits": 8, "prune": {"structure": "2:4"}}}})");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_NEAR(out->layers[0].sparsity, 0.75, 1e-3);
  EXPECT_GE(out->layers[1].sparsity, 0.5);
  EXPECT_LT(out->layers[1].sparsity, 0.55);
}

TEST_F(CompressTest, BiasCorrectionImprovesLowBitWeights) {
  const auto plain = run(R"({"layers": {"*": {"weight_bits": 3}}})");
  const auto corrected =
      run(R"({"global": {"recovery": "bias_correction"}, "layers": {"*": {"weight_bits": 3}}})");
  ASSERT_TRUE(corrected.has_value()) << corrected.error().message;
  EXPECT_GT(sqnr_db(corrected->graph), sqnr_db(plain->graph));
  EXPECT_GT(corrected->recovery_seconds, 0);
  EXPECT_EQ(plain->recovery_seconds, 0);
}

TEST_F(CompressTest, BiasCorrectionPutsTheMeanOfRemovedChannelsBack) {
  const std::string prune =
      R"("layers": {"*": {"prune": {"structure": "channel", "ratio": 0.25}}}})";
  const auto plain = run("{" + prune);
  const auto corrected = run(R"({"global": {"recovery": "bias_correction"}, )" + prune);
  ASSERT_TRUE(corrected.has_value()) << corrected.error().message;
  EXPECT_EQ(corrected->graph.constant("conv2.weight")->shape(),
            plain->graph.constant("conv2.weight")->shape());
  EXPECT_GT(sqnr_db(corrected->graph), sqnr_db(plain->graph) + 1);
}

TEST_F(CompressTest, SamePlanGivesTheSameGraphInWhateverOrderPlansCome) {
  const std::string plan = R"({"global": {"range": "entropy", "recovery": "bias_correction"},
      "layers": {"*": {"weight_bits": 4, "activation_bits": 8, "prune": {"structure": "channel", "ratio": 0.25}}}})";
  const auto first = run(plan);
  ASSERT_TRUE(run(R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})").has_value());
  const auto again = run(plan);
  Calibration fresh(model_, {data_}, 1);
  const auto other = compress(model_, plan_of(plan), &fresh);
  ASSERT_TRUE(first.has_value() && again.has_value() && other.has_value());
  for (const auto* graph : {&again->graph, &other->graph}) {
    ASSERT_EQ(graph->initializers.size(), first->graph.initializers.size());
    for (const auto& [name, tensor] : first->graph.initializers) {
      EXPECT_EQ(tensor.to_floats(), graph->initializers.at(name).to_floats()) << name;
    }
  }
}

TEST_F(CompressTest, GlobalRatioPrunesWithoutNamingLayers) {
  const auto out = run(R"({"global": {"prune": 0.4}})");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_LT(out->macs, model_.info.macs);
}

TEST_F(CompressTest, ExportRunsTheSame) {
  const auto out = run(
      R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8}, "fc": {"weight_bits": 4}}})");
  ASSERT_TRUE(out.has_value());
  const auto standard = to_standard_onnx(*out, {});
  ASSERT_TRUE(standard.has_value()) << standard.error().message;
  EXPECT_GT(sqnr_db(*standard), sqnr_db(out->graph) - 1);
}

TEST_F(CompressTest, UnknownLayerNamesTheNearest) {
  const auto out = run(R"({"layers": {"convX": {"weight_bits": 8}}})");
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(out.error().message, "plan.layers.convX: the model has no such layer; nearest: conv1");
}

TEST_F(CompressTest, EightBitActivationsNeedACalibration) {
  const auto plan = plan_of(R"({"layers": {"conv1": {"weight_bits": 8, "activation_bits": 8}}})");
  EXPECT_TRUE(needs_calibration(model_, plan));
  const auto out = compress(model_, plan, nullptr);
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(out.error().message, "a plan with 8-bit activations needs calibration data (--calibration, or data.calibration in a study)");
  EXPECT_FALSE(needs_calibration(model_, plan_of(R"({"layers": {"conv1": {"weight_bits": 8}}})")));
  EXPECT_TRUE(needs_calibration(
      model_,
      plan_of(
          R"({"global": {"recovery": "bias_correction"}, "layers": {"conv1": {"weight_bits": 8}}})")));
}

TEST_F(CompressTest, WhatThisBuildDoesNotDoIsSaidInOneLine) {
  const std::vector<std::pair<std::string, std::string>> plans = {
      {R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 16}}})",
       "plan.layers.*.activation_bits: 16"},
  };
  for (const auto& [plan, message] : plans) {
    const auto out = run(plan);
    ASSERT_FALSE(out.has_value()) << plan;
    EXPECT_EQ(out.error().code, ErrorCode::kUnimplemented) << plan;
    EXPECT_THAT(out.error().message, AllOf(HasSubstr(message), HasSubstr("available: "))) << plan;
    EXPECT_EQ(out.error().message.find('\n'), std::string::npos);
  }
}

TEST_F(CompressTest, PerTensorScalesAndAsymmetricActivations) {
  const auto out = run(R"({"global": {"granularity": "tensor", "symmetric": false},
                           "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})");
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_GT(sqnr_db(out->graph), 28);
  const Node* input = out->graph.producer(find_node(out->graph, "conv1")->inputs[0]);
  EXPECT_EQ(out->graph.constant(input->inputs[2])->dtype(), graph::DType::kU8);
  EXPECT_GT(out->graph.constant(input->inputs[2])->to_integers()[0], 0);
}

TEST_F(CompressTest, OneCalibrationSampleAndConstantChannelsAreEnough) {
  GraphBuilder b(23);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 1, 4, 4}), 1, 3));
  b.conv("last", x, 3, 2);
  b.constant("conv1.weight", Tensor(graph::DType::kF32, {3, 1, 3, 3}));  // only biases are left
  b.constant("conv1.bias", Tensor::f32({3}, {-1, -2, -3}));              // and the Relu takes those
  const auto model = prepare(b.finish({"last"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const Tensor sample = Numbers(24).tensor({1, 1, 4, 4});
  Calibration calibration(*model, {sample}, 1);
  for (const std::string range : {"minmax", "percentile", "entropy", "mse"}) {
    const auto out = compress(*model,
                              plan_of(R"({"global": {"range": ")" + range +
                                      R"(", "recovery": "bias_correction"},
                                      "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})"),
                              &calibration);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const auto y = engine::run_reference(out->graph, {sample});
    ASSERT_TRUE(y.has_value());
    for (const float value : (*y)[0].to_floats()) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_F(CompressTest, LayersWithSharedWeightsShareTheirIntegers) {
  GraphBuilder b(25);
  const auto a = b.relu("r", b.conv("a", b.input("x", {-1, 4, 6, 6}), 4, 4));
  b.node("b", "Conv", {a, "a.weight", "a.bias"}).attributes = std::map(b.graph.nodes[0].attributes);
  b.conv("last", "b", 4, 2);
  const auto model = prepare(b.finish({"last"}));
  ASSERT_TRUE(model.has_value());
  const auto out = compress(*model, plan_of(R"({"layers": {"*": {"weight_bits": 8}}})"), nullptr);
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(find_node(out->graph, "a")->inputs[1], find_node(out->graph, "b")->inputs[1]);
  const auto refused = compress(
      *model, plan_of(R"({"layers": {"a": {"prune": {"structure": "channel", "ratio": 0.5}}}})"),
      nullptr);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("shared with"));
  const auto one = compress(
      *model,
      plan_of(R"({"layers": {"a": {"prune": {"structure": "unstructured", "ratio": 0.5}}}})"),
      nullptr);
  ASSERT_TRUE(one.has_value());
  EXPECT_NEAR(one->layers[0].sparsity, 0.5, 0.01);
  EXPECT_EQ(one->layers[1].sparsity, 0);
}

}  // namespace
}  // namespace kerf::compress
