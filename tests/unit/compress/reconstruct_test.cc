#include "workers/compress/reconstruct.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/compress/layer.h"
#include "workers/compress/least_squares.h"
#include "workers/compress/partial_run.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::distance;
using testing::Graph;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Node;
using testing::Numbers;
using testing::Shape;
using testing::Tensor;

TEST(FitRows, MeetsTheNormalEquationsOnEverySupport) {
  Numbers dice(121);
  const std::size_t n = 12;
  const std::size_t rows = 5;
  const int samples = 60;
  std::vector<double> gram(n * n, 0.0);
  std::vector<double> cross(n * rows, 0.0);
  for (int s = 0; s < samples; ++s) {
    std::vector<double> x(n);
    for (double& value : x) value = static_cast<double>(dice.normal());
    x[3] = x[2] + 0.01 * x[3];  // nearly dependent
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) gram[i * n + j] += x[i] * x[j] / samples;
      for (std::size_t r = 0; r < rows; ++r)
        cross[i * rows + r] += x[i] * static_cast<double>(dice.normal()) / samples;
    }
  }
  std::vector<double> prior(rows * n);
  for (double& value : prior) value = static_cast<double>(dice.normal());
  for (std::size_t i = 0; i < prior.size(); i += 3) prior[i] = 0;
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += gram[i * n + i];
  const double ridge = 0.01;
  const double lambda = ridge * trace / static_cast<double>(n);
  for (const bool keep_zeros : {false, true}) {
    const auto w = fit_rows(gram, cross, prior, rows, n, ridge, keep_zeros);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < n; ++i) {
        if (keep_zeros && prior[r * n + i] == 0) {
          EXPECT_EQ(w[r * n + i], 0);
          continue;
        }
        // The gradient of E‖y − W x‖² + λ‖W − W₀‖² is 0 where a weight may move.
        double gradient = lambda * (w[r * n + i] - prior[r * n + i]) - cross[i * rows + r];
        for (std::size_t j = 0; j < n; ++j) gradient += gram[i * n + j] * w[r * n + j];
        EXPECT_NEAR(gradient, 0, 1e-7) << keep_zeros;
      }
    }
  }
}

TEST(FitRows, NothingSeenLeavesTheWeights) {
  const std::vector<double> prior = {1, 2, 3};
  EXPECT_EQ(fit_rows(std::vector<double>(9, 0.0), std::vector<double>(3, 0.0), prior, 1, 3, 0.01, false), prior);
  const std::vector<double> broken(9, std::nan(""));
  EXPECT_EQ(fit_rows(broken, std::vector<double>(3, 0.0), prior, 1, 3, 0.01, true), prior);
}

/// conv1 → conv2 (+ residual) → depthwise → pool → Reshape → fc1 → fc2.
Graph branching(std::uint32_t seed) {
  GraphBuilder b(seed);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 3, 8, 8}), 3, 12));
  const auto inner = b.relu("r2", b.conv("conv2", x, 12, 10));
  x = b.relu("r3", b.op("add", "Add", {b.conv("conv3", inner, 10, 12), x}));
  x = b.relu("r4", b.conv("dw", x, 12, 12, 3, 12));
  x = b.max_pool("pool", x);
  b.constant("target", Tensor::s64({2}, {0, -1}));
  x = b.relu("r5", b.gemm("fc1", b.op("flat", "Reshape", {x, "target"}), 192, 16));
  b.gemm("fc2", x, 16, 4);
  return b.finish({"fc2"});
}

TEST(PartialRun, GivesEachValueAsTheWholeGraphDoes) {
  const Graph graph = branching(122);
  const Tensor data = Numbers(123).tensor({11, 3, 8, 8});
  const auto expected = engine::run_reference_values(graph, {data});
  ASSERT_TRUE(expected.has_value());
  PartialRun run(graph, {data}, 1);
  for (const char* name : {"x", "conv1", "r1", "conv3", "r3", "dw", "pool", "flat", "fc2"}) {
    const auto value = run.value(name);
    ASSERT_TRUE(value.has_value()) << name << ": " << value.error().message;
    const Tensor& wanted = name == std::string("x") ? data : expected->at(name);
    float largest = 1;
    for (const float element : wanted.to_floats()) largest = std::max(largest, std::fabs(element));
    EXPECT_LT(distance(*value, wanted), 1e-5 * static_cast<double>(largest)) << name;
  }
}

TEST(PartialRun, SeesChangesOfLayersThatHaveNotRun) {
  Graph graph = branching(124);
  const Tensor data = Numbers(125).tensor({4, 3, 8, 8});
  PartialRun run(graph, {data}, 1);
  const auto before = run.value("r1");
  ASSERT_TRUE(before.has_value());
  for (float& value : graph.initializers.at("conv2.weight").mutable_as<float>()) value = 0;
  const auto after = run.value("conv2");
  ASSERT_TRUE(after.has_value());
  const auto bias = graph.initializers.at("conv2.bias").to_floats();
  EXPECT_NEAR(after->to_floats()[0], bias[0], 1e-5);
}

class ReconstructTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto model = prepare(branching(126));
    ASSERT_TRUE(model.has_value()) << model.error().message;
    model_ = std::move(*model);
    calibration_.emplace(model_, std::vector<Tensor>{data_}, 1);
  }

  /// Squared error of the output on samples that calibration hasn't seen, over its square.
  double error(const std::string& text, Calibration* calibration = nullptr) {
    const auto plan = CompressionPlan::parse(*parse_json(text));
    EXPECT_TRUE(plan.has_value()) << plan.error().message;
    const auto out = compress(model_, *plan, calibration != nullptr ? calibration : &*calibration_);
    EXPECT_TRUE(out.has_value()) << text << ": " << out.error().message;
    if (!out.has_value()) return 0;
    EXPECT_EQ(out->recovery_seconds > 0, text.find("reconstruct") != std::string::npos) << text;
    const Tensor unseen = Numbers(128).tensor({60, 3, 8, 8});
    const auto y = engine::run_reference(model_.graph, {unseen});
    const auto z = engine::run_reference(out->graph, {unseen});
    const auto a = (*y)[0].to_floats();
    const auto b = (*z)[0].to_floats();
    double sum = 0;
    double size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_TRUE(std::isfinite(b[i]));
      sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
      size += std::pow(static_cast<double>(a[i]), 2);
    }
    return sum / size;
  }

  PreparedModel model_;
  Tensor data_ = Numbers(127).tensor({200, 3, 8, 8});
  std::optional<Calibration> calibration_;
};

TEST_F(ReconstructTest, EveryKindOfChangeIsPartlyMadeUpFor) {
  for (const std::string layers :
       {R"({"*": {"prune": {"structure": "channel", "ratio": 0.25}}})",
        R"({"*": {"prune": {"structure": "unstructured", "ratio": 0.5}}})",
        R"({"*": {"prune": {"structure": "2:4"}}})", R"({"*": {"weight_bits": 3}})",
        R"({"*": {"rank": {"share": 0.4, "form": "tucker"}}, "fc1": {"rank": 0.5}})"}) {
    const double plain = error(R"({"layers": )" + layers + "}");
    const double fitted = error(R"({"global": {"recovery": "reconstruct"}, "layers": )" + layers + "}");
    EXPECT_LT(fitted, 0.8 * plain) << layers;
  }
}

TEST_F(ReconstructTest, ZerosStayZerosAndBitsStayBits) {
  const auto plan = CompressionPlan::parse(*parse_json(
      R"({"global": {"recovery": ["reconstruct", "bias_correction"]}, "layers": {"*":
          {"weight_bits": 4, "rounding": "adaptive", "prune": {"structure": "unstructured", "ratio": 0.5}}}})"));
  const auto out = compress(model_, *plan, &*calibration_);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  for (const LayerReport& layer : out->layers) {
    EXPECT_GE(layer.sparsity, 0.49) << layer.name;
    EXPECT_EQ(layer.weight_bits, 4);
  }
}

TEST_F(ReconstructTest, AModelThatNothingChangesStaysAsItIs) {
  const auto plan = CompressionPlan::parse(*parse_json(R"({"global": {"recovery": "reconstruct"}})"));
  const auto out = compress(model_, *plan, nullptr);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  for (const auto& [name, tensor] : model_.graph.initializers)
    EXPECT_EQ(tensor.to_floats(), out->graph.initializers.at(name).to_floats()) << name;
}

TEST_F(ReconstructTest, OneSampleOrNoInformationDoesNoHarm) {
  const std::string prune = R"("layers": {"*": {"prune": {"structure": "channel", "ratio": 0.25}}}})";
  const double plain = error("{" + prune);
  Calibration one(model_, {Numbers(129).tensor({1, 3, 8, 8})}, 1);
  EXPECT_LT(error(R"({"global": {"recovery": "reconstruct"}, )" + prune, &one), 2 * plain);
  Calibration zeros(model_, {Tensor(graph::DType::kF32, {3, 3, 8, 8})}, 1);
  (void)error(R"({"global": {"recovery": "reconstruct"}, )" + prune, &zeros);  // finite
}

TEST_F(ReconstructTest, SharedWeightsAreNotFitted) {
  GraphBuilder b(130);
  const auto first = b.relu("r0", b.conv("first", b.input("x", {-1, 3, 6, 6}), 3, 8));
  const auto a = b.relu("r", b.conv("a", first, 8, 8));
  b.node("b", "Conv", {a, "a.weight", "a.bias"}).attributes = std::map(b.graph.nodes[2].attributes);
  b.conv("last", "b", 8, 2);
  const auto model = prepare(b.finish({"last"}));
  ASSERT_TRUE(model.has_value());
  Calibration calibration(*model, {Numbers(131).tensor({20, 3, 6, 6})}, 1);
  const auto plan = CompressionPlan::parse(*parse_json(
      R"({"global": {"recovery": "reconstruct"}, "layers": {"first": {"prune": {"structure": "unstructured", "ratio": 0.5}}}})"));
  const auto out = compress(*model, *plan, &calibration);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(find_node(out->graph, "a")->inputs[1], find_node(out->graph, "b")->inputs[1]);
  EXPECT_EQ(out->graph.initializers.at("a.weight").to_floats(),
            model->graph.initializers.at("a.weight").to_floats());
}

}  // namespace
}  // namespace kerf::compress
