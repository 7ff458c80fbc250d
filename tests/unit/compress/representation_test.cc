// Every form of weights and inputs that a plan may name, through compress, executor and packed file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "tests/unit/engine/support.h"
#include "workers/compress/compress.h"
#include "workers/compress/export.h"
#include "workers/compress/layer.h"
#include "workers/compress/packed/packed_file.h"
#include "workers/engine/executor.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::GraphBuilder;
using testing::Numbers;
using testing::Tensor;

struct Form {
  const char* plan;
  const char* executes_as;  // of fc1
  int weight_bits;
  double tolerance;  // of executor and reference, as a share of the largest output
};

const std::vector<Form>& forms() {
  static const std::vector<Form> list = {
      {R"({"*": {"codebook": 16}})", "f32 (16 shared values)", 4, 1e-4},
      {R"({"*": {"codebook": {"entries": 5, "init": "density"}, "weight_bits": 16}})",
       "bf16 (5 shared values)", 3, 0.05},
      {R"({"*": {"codebook": 8, "weight_bits": 8, "activation_bits": 8}})", "s8", 3, 0.02},
      {R"({"*": {"codebook": {"entries": 8, "init": "random"}, "prune": {"structure": "unstructured", "ratio": 0.5}}})",
       "f32 (8 shared values)", 3, 1e-4},
      {R"({"*": {"weight_bits": 1}})", "f32 (1-bit weights)", 1, 1e-4},
      {R"({"*": {"weight_bits": 1, "activation_bits": 16}})", "bf16 (1-bit weights)", 1, 0.05},
      {R"({"*": {"weight_bits": 1, "activation_bits": 8}})", "s8", 1, 0.02},
      {R"({"*": {"weight_bits": 1, "activation_bits": 1}})", "s8", 1, 1e-4},
      {R"({"*": {"weight_bits": "ternary"}})", "f32 (2-bit weights)", 2, 1e-4},
      {R"({"*": {"weight_bits": "ternary", "activation_bits": 8}})", "s8", 2, 0.02},
      {R"({"*": {"weight_bits": "ternary", "granularity": "tensor", "activation_bits": 1}})", "s8", 2, 1e-4},
      {R"({"*": {"weight_bits": 4, "symmetric": false, "weight_range": "mse"}})", "f32 (4-bit weights)", 4, 1e-4},
      {R"({"*": {"weight_bits": 8, "symmetric": false, "granularity": "tensor"}})", "f32 (8-bit weights)", 8, 1e-4},
      {R"({"*": {"weight_bits": 4}, "fc1": {"weight_bits": 4, "granularity": "group:32"}})", "f32 (4-bit weights)", 4, 1e-4},
      {R"({"fc1": {"weight_bits": 3, "granularity": "group:48", "symmetric": false, "weight_range": "percentile"}})",
       "f32 (3-bit weights)", 3, 1e-4},
      {R"({"*": {"weight_bits": 8, "activation_bits": 8, "activation_range": "dynamic"}})", "s8", 8, 1e-3},
      {R"({"*": {"weight_bits": 4, "activation_bits": 8, "activation_range": "dynamic"}, "conv1": {"weight_bits": 8, "activation_bits": 8, "activation_range": "static"}})",
       "s8", 4, 0.02},
  };
  return list;
}

CompressionPlan plan_with(const std::string& layers) {
  const auto json = parse_json("{\"layers\": " + layers + "}");
  EXPECT_TRUE(json.has_value()) << layers;
  const auto plan = CompressionPlan::parse(*json);
  EXPECT_TRUE(plan.has_value()) << (plan.has_value() ? "" : plan.error().message);
  return *plan;
}

/// conv1 → relu → conv2 (+ residual) → fc1 → relu → fc2.
PreparedModel mixed_model() {
  GraphBuilder b(31);
  const auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 3, 6, 6}), 3, 6));
  const auto sum = b.relu("r2", b.op("add", "Add", {b.conv("conv2", x, 6, 6), x}));
  b.gemm("fc2", b.relu("r3", b.gemm("fc1", b.flatten("flat", sum), 216, 10)), 10, 4, false);
  auto model = prepare(b.finish({"fc2"}));
  EXPECT_TRUE(model.has_value()) << (model.has_value() ? "" : model.error().message);
  return *model;
}

class RepresentationTest : public ::testing::Test {
 protected:
  PreparedModel model_ = mixed_model();
  Tensor data_ = Numbers(32).tensor({24, 3, 6, 6});
  Calibration calibration_{model_, {data_}, 1};
};

TEST_F(RepresentationTest, ExecutorRunsEveryFormAsTheReportSaysAndAsTheReferenceComputesIt) {
  for (const Form& form : forms()) {
    SCOPED_TRACE(form.plan);
    const auto out = compress(model_, plan_with(form.plan), &calibration_);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const auto report = std::find_if(out->layers.begin(), out->layers.end(), [](const auto& l) { return l.name == "fc1"; });
    EXPECT_EQ(report->executes_as, form.executes_as);
    EXPECT_EQ(report->weight_bits, form.weight_bits);

    engine::ExecutorOptions options;
    options.batch = 0;
    auto executor = engine::Executor::compile(out->graph, options);
    ASSERT_TRUE(executor.has_value()) << executor.error().message;
    for (const engine::StepInfo& step : (*executor)->steps()) {
      const auto layer = std::find_if(out->layers.begin(), out->layers.end(), [&](const auto& l) { return l.name == step.name; });
      if (step.is_layer && layer != out->layers.end()) {
        // Integers of one bit on both sides may be counted instead of multiplied.
        const bool bits = step.executes_as == "bits" && layer->weight_bits == 1 && layer->activation_bits == 1;
        const std::string kind = layer->executes_as.substr(0, layer->executes_as.find(' '));
        // What this processor has no exact or no fast kernel for runs in f32.
        const bool instead = step.executes_as.starts_with("f32") &&
                             ((kind == "s8" && !engine::has_vnni()) || (kind == "bf16" && !engine::testing::has_bf16()));
        EXPECT_TRUE(instead || (bits ? "s8" : step.executes_as) == layer->executes_as)
            << step.name << ": " << step.executes_as << ", reported as " << layer->executes_as;
      }
    }
    for (int sample = 0; sample < 4; ++sample) {
      Tensor x(graph::DType::kF32, {1, 3, 6, 6});
      std::copy_n(data_.as<float>().begin() + sample * 108, 108, x.mutable_as<float>().begin());
      const auto expected = engine::run_reference(out->graph, {x});
      ASSERT_TRUE(expected.has_value()) << expected.error().message;
      std::vector<float> got(4);
      const void* in = x.raw();
      void* to = got.data();
      (*executor)->run({&in, 1}, {&to, 1});
      const auto wanted = (*expected)[0].to_floats();
      float largest = 0;
      for (const float value : wanted) largest = std::max(largest, std::fabs(value));
      for (std::size_t i = 0; i < 4; ++i) {
        ASSERT_TRUE(std::isfinite(got[i]));
        EXPECT_NEAR(got[i], wanted[i], form.tolerance * largest);
      }
    }
  }
}

TEST_F(RepresentationTest, StorageBytesAreThePackedFilesAndItGivesTheGraphBack) {
  std::vector<std::string> plans = {"{}", R"({"*": {"weight_bits": 8, "activation_bits": 8}})",
                                    R"({"*": {"weight_bits": 16}})",
                                    R"({"*": {"prune": {"structure": "unstructured", "ratio": 0.9}}})"};
  for (const Form& form : forms()) plans.emplace_back(form.plan);
  for (const std::string& text : plans) {
    SCOPED_TRACE(text);
    const CompressionPlan plan = plan_with(text);
    const auto out = compress(model_, plan, &calibration_);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const auto standard = to_standard_onnx(*out, export_metadata(plan, "sha256:" + std::string(64, 'a')));
    ASSERT_TRUE(standard.has_value());
    const auto bytes = pack(*standard);
    ASSERT_TRUE(bytes.has_value());
    EXPECT_EQ(out->storage_bytes, static_cast<std::int64_t>(bytes->size()));
    const auto back = unpack(*bytes);
    ASSERT_TRUE(back.has_value()) << back.error().message;
    EXPECT_EQ(back->metadata, standard->metadata);
    EXPECT_EQ(back->initializers.size(), standard->initializers.size());
    for (const auto& [name, tensor] : standard->initializers) {
      const Tensor& other = back->initializers.at(name);
      ASSERT_EQ(other.dtype(), tensor.dtype());
      ASSERT_EQ(other.shape(), tensor.shape());
      EXPECT_TRUE(std::equal(tensor.raw(), tensor.raw() + tensor.bytes(), other.raw())) << name;
    }
  }
}

TEST_F(RepresentationTest, FourBitIntegersAreExportedAsFourBitsOrAsBytes) {
  const auto out = compress(model_, plan_with(R"({"*": {"weight_bits": 4}})"), nullptr);
  ASSERT_TRUE(out.has_value());
  for (const bool bytes : {false, true}) {
    const auto standard = to_standard_onnx(*out, {}, {.int4_as_int8 = bytes});
    ASSERT_TRUE(standard.has_value());
    const auto* node = standard->producer(find_node(*standard, "fc1")->inputs[1]);
    for (const std::size_t input : {0U, 2U}) {
      EXPECT_EQ(standard->constant(node->inputs[input])->dtype(),
                bytes ? graph::DType::kS8 : graph::DType::kS4);
    }
  }
}

TEST_F(RepresentationTest, WhatNoKernelStandsForIsRefusedWithTheReason) {
  const std::vector<std::pair<std::string, std::string>> plans = {
      {R"({"fc1": {"weight_bits": 4, "granularity": "group:32", "activation_bits": 8}})",
       "plan.layers.fc1.granularity: \"group:32\" with activations of 8 bits or fewer"},
      {R"({"conv1": {"weight_bits": 4, "granularity": "group:32"}})", "plan.layers.conv1.granularity: group:32"},
      {R"({"fc1": {"weight_bits": 1, "granularity": "group:32"}})", "with signs"},
      {R"({"fc1": {"weight_bits": 1, "codebook": 4}})", "plan.layers.fc1.codebook: 4 with signs"},
      {R"({"fc1": {"weight_bits": 8, "codebook": 4, "granularity": "group:32"}})", "with a codebook"},
      {R"({"fc1": {"weight_bits": "ternary", "symmetric": false}})", "plan.layers.fc1.symmetric: false for signs"},
      {R"({"fc1": {"weight_bits": 1, "activation_bits": 1, "activation_range": "dynamic"}})", "plan.layers.fc1.activation_range"},
  };
  for (const auto& [text, message] : plans) {
    const auto out = compress(model_, plan_with(text), &calibration_);
    ASSERT_FALSE(out.has_value()) << text;
    EXPECT_THAT(out.error().message, ::testing::HasSubstr(message)) << text;
  }
}

TEST_F(RepresentationTest, DefaultsThatDontGoWithALayersOwnBitsArentMeantForIt) {
  const auto plan = CompressionPlan::parse(*parse_json(
      R"({"global": {"rounding": "adaptive", "granularity": "group:4", "activation_range": "dynamic", "symmetric": false},
          "layers": {"fc1": {"weight_bits": 1, "activation_bits": 1}, "fc2": {"weight_bits": 8, "activation_bits": 8}}})"));
  ASSERT_TRUE(plan.has_value());
  const auto out = compress(model_, *plan, &calibration_);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  for (const auto& layer : out->layers) {
    if (layer.name == "fc1" || layer.name == "fc2") {
      EXPECT_EQ(layer.executes_as, "s8") << layer.name;
    }
  }
}

TEST_F(RepresentationTest, GroupsThatOnlyTheStarAsksForLeaveConvolutionsAlone) {
  const auto out = compress(model_, plan_with(R"({"*": {"weight_bits": 4, "granularity": "group:32"}})"), nullptr);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->layers[0].executes_as, "f32");
  EXPECT_EQ(out->layers[2].executes_as, "f32 (4-bit weights)");
}

TEST_F(RepresentationTest, DynamicRangesNeedNoCalibrationAndSignsDo) {
  const auto dynamic = plan_with(R"({"*": {"weight_bits": 8, "activation_bits": 8, "activation_range": "dynamic"}})");
  EXPECT_FALSE(needs_calibration(model_, dynamic));
  EXPECT_TRUE(compress(model_, dynamic, nullptr).has_value());
  const auto signs = plan_with(R"({"*": {"weight_bits": 1, "activation_bits": 1}})");
  EXPECT_TRUE(needs_calibration(model_, signs));
  EXPECT_FALSE(compress(model_, signs, nullptr).has_value());
}

TEST_F(RepresentationTest, HostileWeightsGiveFiniteOutputsInEveryForm) {
  GraphBuilder b(33);
  b.gemm("fc2", b.relu("r", b.gemm("fc1", b.input("x", {-1, 64}), 64, 3)), 3, 1);
  Tensor weights = *b.graph.constant("fc1.weight");
  for (std::size_t i = 0; i < 64; ++i) {
    weights.mutable_as<float>()[i] = 0;           // a channel of zeros
    weights.mutable_as<float>()[64 + i] = 1e-41F;  // one of denormals
  }
  weights.mutable_as<float>()[130] = 1e20F;  // an outlier
  b.constant("fc1.weight", weights);
  const auto model = prepare(b.finish({"fc2"}));
  ASSERT_TRUE(model.has_value());
  const Tensor x = Numbers(34).tensor({5, 64});
  Calibration calibration(*model, {x}, 1);
  for (const Form& form : forms()) {
    if (std::string(form.plan).find("conv") != std::string::npos) continue;
    const auto out = compress(*model, plan_with(form.plan), &calibration);
    ASSERT_TRUE(out.has_value()) << form.plan << out.error().message;
    const auto y = engine::run_reference(out->graph, {x});
    ASSERT_TRUE(y.has_value());
    for (const float value : (*y)[0].to_floats()) EXPECT_TRUE(std::isfinite(value)) << form.plan;
  }
}

}  // namespace
}  // namespace kerf::compress
