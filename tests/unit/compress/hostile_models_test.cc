// Every technique on models and data that are degenerate: right results or a refusal in one line, never
// a value that is not finite.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/compress/export.h"
#include "workers/engine/executor.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Numbers;
using testing::Tensor;

struct Technique {
  const char* plan;
  /// Largest error of an output, of the largest output; 0: the technique promises none.
  double tolerance = 0;
};

const std::vector<Technique>& techniques() {
  static const std::vector<Technique> all = {
      {R"({})", 1e-5},
      {R"({"layers": {"*": {"weight_bits": 16}}})", 0.05},
      {R"({"layers": {"*": {"weight_bits": 8}}})", 0.05},
      {R"({"global": {"symmetric": false}, "layers": {"*": {"weight_bits": 8}}})", 0.05},
      {R"({"global": {"weight_range": "percentile"}, "layers": {"*": {"weight_bits": 8}}})"},
      {R"({"global": {"weight_range": "mse", "symmetric": false}, "layers": {"*": {"weight_bits": 3}}})"},
      {R"({"global": {"granularity": "tensor"}, "layers": {"*": {"weight_bits": 8}}})"},
      {R"({"global": {"granularity": "group:4"}, "layers": {"*": {"weight_bits": 8}}})", 0.05},
      {R"({"global": {"granularity": "group:4", "symmetric": false}, "layers": {"*": {"weight_bits": 4}}})"},
      {R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})", 0.15},
      {R"({"global": {"symmetric": false}, "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})", 0.15},
      {R"({"global": {"range": "moving_average"}, "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})"},
      {R"({"global": {"range": "percentile"}, "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})"},
      {R"({"global": {"range": "entropy"}, "layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})"},
      {R"({"global": {"range": "mse", "symmetric": false}, "layers": {"*": {"weight_bits": 5, "activation_bits": 8}}})"},
      {R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8, "activation_range": "dynamic"}}})", 0.15},
      {R"({"layers": {"*": {"weight_bits": 4, "rounding": "adaptive", "weight_range": "mse"}}})"},
      {R"({"layers": {"*": {"weight_bits": 4, "activation_bits": 8, "rounding": "adaptive"}}})"},
      {R"({"layers": {"*": {"weight_bits": 4, "rounding": "adaptive", "granularity": "group:4", "symmetric": false}}})"},
      {R"({"layers": {"*": {"weight_bits": "ternary"}}})"},
      {R"({"layers": {"*": {"weight_bits": 1, "activation_bits": 16}}})"},
      {R"({"layers": {"*": {"weight_bits": 1, "activation_bits": 8}}})"},
      {R"({"layers": {"*": {"weight_bits": 1, "activation_bits": 1}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": "l1"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": "l2"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": "bn"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": "apoz"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": "mean_output"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": "taylor"}}}})"},
      {R"({"global": {"prune": 0.5}})"},
      {R"({"layers": {"*": {"prune": {"structure": "unstructured", "ratio": 0.5}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "unstructured", "ratio": 0.9, "score": "wanda"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "unstructured", "ratio": 0.5, "score": "taylor"}}}})"},
      {R"({"layers": {"*": {"prune": {"structure": "2:4", "score": "wanda"}}}})"},
      {R"({"layers": {"*": {"rank": 0.5}}})"},
      {R"({"layers": {"*": {"rank": {"energy": 0.9}}}})"},
      {R"({"layers": {"*": {"rank": {"energy": 0.9, "data_aware": true}}}})"},
      {R"({"layers": {"*": {"rank": {"share": 0.5, "form": "spatial", "data_aware": true}}}})"},
      {R"({"layers": {"*": {"rank": {"share": 0.5, "form": "tucker", "data_aware": true}}}})"},
      {R"({"layers": {"*": {"codebook": 4}}})"},
      {R"({"layers": {"*": {"codebook": {"entries": 16, "init": "density"}}}})"},
      {R"({"layers": {"*": {"codebook": {"entries": 8, "init": "random"}, "weight_bits": 8, "activation_bits": 8}}})"},
      {R"({"global": {"equalize": true}, "layers": {"*": {"weight_bits": 8}}})"},
      {R"({"global": {"recovery": "bias_correction"}, "layers": {"*": {"weight_bits": 3, "activation_bits": 8}}})"},
      {R"({"global": {"recovery": "bias_correction"}, "layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}}}})"},
      {R"({"global": {"recovery": "reconstruct"}, "layers": {"*": {"weight_bits": 3, "activation_bits": 8}}})"},
      {R"({"global": {"recovery": "reconstruct"}, "layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}}}})"},
      {R"({"global": {"recovery": ["reconstruct", "bias_correction"]}, "layers": {"*": {"rank": 0.5, "weight_bits": 4}}})"},
      {R"({"global": {"recovery": "distill", "distill": {"epochs": 2, "seconds": 1000}},
           "layers": {"*": {"weight_bits": 4, "activation_bits": 8}}})"},
      {R"({"global": {"recovery": "distill", "distill": {"epochs": 2, "seconds": 1000, "optimizer": "sgd", "learning_rate": 1}},
           "layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5}}}})"}};
  return all;
}

struct Hostile {
  const char* name;
  void (*spoil)(GraphBuilder& builder);
  float data = 1;     ///< Scale of the samples.
  bool exact = true;  ///< Tolerances hold: no weight is so large that its neighbours round to 0.
  float outlier = 0;  ///< Takes the place of one number of the first sample, where it isn't 0.
};

void fill(GraphBuilder& b, const std::string& constant, std::size_t begin, std::size_t count, float value) {
  const auto all = b.graph.initializers.at(constant).mutable_as<float>();
  for (std::size_t i = begin; i < std::min(begin + count, all.size()); ++i) all[i] = value;
}

// conv1 [6, 2, 3, 3], conv2 [6, 6, 3, 3], fc1 [8, 96], fc2 [8, 4].
const std::vector<Hostile>& hostile() {
  static const std::vector<Hostile> all = {
      {"Plain", [](GraphBuilder&) {}},
      {"ConstantChannels", [](GraphBuilder& b) {
         fill(b, "conv1.weight", 0, 18, 0.25F);
         fill(b, "conv2.weight", 54, 54, -1.0F);
         fill(b, "fc1.weight", 0, 1000000, 0.5F);
       }},
      {"ZeroChannels", [](GraphBuilder& b) {
         fill(b, "conv1.weight", 18, 36, 0.0F);
         fill(b, "conv1.bias", 1, 2, 0.0F);
         fill(b, "fc1.weight", 96, 96, 0.0F);
       }},
      {"NothingButZeros", [](GraphBuilder& b) {
         for (const char* layer : {"conv1", "conv2", "fc1", "fc2"}) {
           fill(b, std::string(layer) + ".weight", 0, 1000000, 0.0F);
           fill(b, std::string(layer) + ".bias", 0, 1000000, 0.0F);
         }
       }},
      {"DeadRelu", [](GraphBuilder& b) { fill(b, "conv1.bias", 0, 100, -1000.0F); }},
      {"HugeOutlier", [](GraphBuilder& b) { fill(b, "conv1.weight", 7, 1, 1e30F); }},
      {"HugeOutlierInAMatrix", [](GraphBuilder& b) { fill(b, "fc2.weight", 3, 1, -1e30F); }, 1, false},
      {"HugeBias", [](GraphBuilder& b) { fill(b, "fc1.bias", 1, 1, 1e30F); }},
      {"Denormals", [](GraphBuilder& b) {
         fill(b, "conv1.weight", 0, 18, 1e-41F);
         fill(b, "conv2.weight", 0, 1000000, 1e-42F);
         fill(b, "fc1.weight", 96, 96, -1e-44F);
       }},
      {"ConstantSamples", [](GraphBuilder&) {}, 0},
      {"TinySamples", [](GraphBuilder&) {}, 1e-38F},
      {"HugeSamples", [](GraphBuilder&) {}, 1e15F},
      {"HugeOutlierInASample", [](GraphBuilder&) {}, 1, true, 1e30F},
      {"HugeNegativeOutlierInASample", [](GraphBuilder&) {}, 1, true, -1e30F},
  };
  return all;
}

class HostileTest : public ::testing::Test {
 protected:
  static void expect_finite(const Tensor& tensor, const std::string& what) {
    for (const float value : tensor.to_floats()) {
      if (!std::isfinite(value)) {
        ADD_FAILURE() << what << " holds " << value;
        return;
      }
    }
  }

  /// Every technique, calibrated and run on these samples.
  static void expect_right_or_refused(const PreparedModel& model, const Tensor& x, bool exact = true) {
    const auto whole = engine::run_all(model.graph, {x}, 1);
    ASSERT_TRUE(whole.has_value()) << whole.error().message;
    double largest = std::numeric_limits<float>::min();
    for (const float value : (*whole)[0].to_floats()) {
      ASSERT_TRUE(std::isfinite(value)) << "the model itself must be sound";
      largest = std::max(largest, std::fabs(static_cast<double>(value)));
    }
    Calibration calibration(model, {x}, 1);
    int done = 0;
    for (const Technique& technique : techniques()) {
      const auto plan = CompressionPlan::parse(*parse_json(technique.plan));
      ASSERT_TRUE(plan.has_value()) << technique.plan;
      const auto out = compress(model, *plan, &calibration);
      if (!out.has_value()) {
        EXPECT_EQ(out.error().message.find('\n'), std::string::npos) << technique.plan;
        EXPECT_TRUE(out.error().code == ErrorCode::kInvalidArgument || out.error().code == ErrorCode::kUnimplemented ||
                    out.error().code == ErrorCode::kFailedPrecondition)
            << technique.plan << ": " << out.error().message;
        EXPECT_GT(out.error().message.size(), 20U) << technique.plan;
        continue;
      }
      ++done;
      for (const auto& [name, tensor] : out->graph.initializers) expect_finite(tensor, std::string(technique.plan) + ": " + name);
      const auto y = engine::run_all(out->graph, {x}, 1);
      ASSERT_TRUE(y.has_value()) << technique.plan << ": " << y.error().message;
      expect_finite((*y)[0], technique.plan);
      const auto plain = engine::run_reference(out->graph, {x});
      ASSERT_TRUE(plain.has_value()) << technique.plan << ": " << plain.error().message;
      expect_finite((*plain)[0], technique.plan);
      if (exact && technique.tolerance > 0) {
        EXPECT_LE(testing::distance((*y)[0], (*whole)[0]), technique.tolerance * largest) << technique.plan;
      }
      EXPECT_TRUE(to_standard_onnx(*out, {}).has_value()) << technique.plan;
    }
    EXPECT_GT(done, 40) << "refusals are for what can't be done";
  }
};

class HostileModels : public HostileTest, public ::testing::WithParamInterface<Hostile> {};

TEST_P(HostileModels, EveryTechniqueIsRightOrRefused) {
  GraphBuilder b(41);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 2, 8, 8}), 2, 6));
  x = b.op("sum", "Add", {b.conv("conv2", x, 6, 6), x});
  x = b.flatten("rows", b.max_pool("pool", b.relu("r2", x)));
  b.gemm("fc2", b.relu("r3", b.gemm("fc1", x, 96, 8)), 8, 4, false);
  GetParam().spoil(b);
  const auto model = prepare(b.finish({"fc2"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  Numbers numbers(42);
  for (const std::int64_t samples : {1, 12}) {
    SCOPED_TRACE(std::to_string(samples) + " samples");
    Tensor data = numbers.tensor({samples, 2, 8, 8});
    for (float& value : data.mutable_as<float>()) value *= GetParam().data;
    if (GetParam().outlier != 0) data.mutable_as<float>()[45] = GetParam().outlier;
    expect_right_or_refused(*model, data, GetParam().exact);
  }
}

INSTANTIATE_TEST_SUITE_P(All, HostileModels, ::testing::ValuesIn(hostile()),
                         [](const auto& one) { return std::string(one.param.name); });

/// What calibration never saw saturates, or makes the range of its call: other samples stay sound.
TEST_F(HostileTest, AnOutlierThatCalibrationNeverSaw) {
  GraphBuilder b(47);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 2, 8, 8}), 2, 6));
  b.gemm("fc2", b.relu("r3", b.gemm("fc1", b.flatten("rows", b.max_pool("pool", x)), 96, 8)), 8, 4, false);
  const auto model = prepare(b.finish({"fc2"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const Tensor seen = Numbers(48).tensor({12, 2, 8, 8});
  for (const float outlier : {1e30F, -1e30F, std::numeric_limits<float>::max()}) {
    Tensor data = seen;
    data.mutable_as<float>()[45] = outlier;
    Calibration calibration(*model, {seen}, 1);
    for (const Technique& technique : techniques()) {
      const auto out = compress(*model, *CompressionPlan::parse(*parse_json(technique.plan)), &calibration);
      if (!out.has_value()) continue;  // refused whatever comes
      // One sample a call, so that a range that is taken from what comes is the sample's own.
      const auto y = engine::run_all(out->graph, {data}, 1, 1);
      const auto before = engine::run_all(out->graph, {seen}, 1, 1);
      ASSERT_TRUE(y.has_value() && before.has_value()) << technique.plan;
      const auto got = (*y)[0].to_floats();
      const auto wanted = (*before)[0].to_floats();
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_FALSE(std::isnan(got[i])) << technique.plan << ", " << outlier;
        if (i >= 4) {
          EXPECT_EQ(got[i], wanted[i]) << technique.plan << ", sample " << i / 4;
        }
      }
    }
  }
}

TEST_F(HostileTest, LayersOfOneChannelAndOneInput) {
  GraphBuilder b(43);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 1, 4, 4}), 1, 1));
  x = b.relu("r2", b.conv("conv2", x, 1, 1, 1));
  b.gemm("fc2", b.relu("r3", b.gemm("fc1", b.flatten("rows", x), 16, 1)), 1, 1);
  const auto model = prepare(b.finish({"fc2"}));
  ASSERT_TRUE(model.has_value());
  const Tensor data = Numbers(44).tensor({3, 1, 4, 4});
  expect_right_or_refused(*model, data);
}

/// One initializer that two layers read, of each kind.
TEST_F(HostileTest, WeightsThatTwoLayersShare) {
  GraphBuilder b(45);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 4, 6, 6}), 4, 4));
  b.conv("conv2", x, 4, 4);
  for (const std::size_t input : {1U, 2U}) b.graph.nodes.back().inputs[input] = b.graph.nodes[0].inputs[input];
  x = b.relu("r3", b.gemm("fc1", b.flatten("rows", b.relu("r2", "conv2")), 144, 8));
  b.node("fc2", "MatMul", {x, b.constant("shared", b.numbers.tensor({8, 8}))});
  b.node("fc3", "MatMul", {b.relu("r4", "fc2"), "shared"});
  const auto model = prepare(b.finish({"fc3"}));
  ASSERT_TRUE(model.has_value()) << model.error().message;
  Numbers numbers(46);
  for (const std::int64_t samples : {1, 12}) {
    const Tensor data = numbers.tensor({samples, 4, 6, 6});
    expect_right_or_refused(*model, data);
  }
}

}  // namespace
}  // namespace kerf::compress
