#include "workers/compress/activation_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/compress/layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Numbers;
using testing::Tensor;

PreparedModel with_batch_norm() {
  GraphBuilder b(141);
  auto x = b.conv("conv", b.input("x", {-1, 2, 6, 6}), 2, 4);
  b.constant("gamma", Tensor::f32({4}, {0.5F, -3, 1, 0.25F}));
  b.constant("beta", Tensor::f32({4}, {0, 0, -9, 0}));
  b.constant("mean", Tensor::f32({4}, {0, 0, 0, 0}));
  b.constant("variance", Tensor::f32({4}, {1, 1, 1, 1}));
  x = b.relu("relu", b.op("bn", "BatchNormalization", {x, "gamma", "beta", "mean", "variance"}));
  x = b.op("sig", "Sigmoid", {b.conv("plain", x, 4, 5)});
  b.conv("last", x, 5, 2);
  auto model = prepare(b.finish({"last"}));
  EXPECT_TRUE(model.has_value()) << (model.has_value() ? "" : model.error().message);
  return *model;
}

Result<CompressedModel> run(const PreparedModel& model, const std::string& text, Calibration* calibration) {
  const auto plan = CompressionPlan::parse(*parse_json(text));
  EXPECT_TRUE(plan.has_value()) << (plan.has_value() ? "" : plan.error().message);
  return compress(model, *plan, calibration);
}

TEST(ActivationScores, BatchNormScaleIsThatFromBeforeItWasFolded) {
  const PreparedModel model = with_batch_norm();
  const auto scores = activation_scores(model, model.graph, "", "bn", nullptr);
  ASSERT_TRUE(scores.has_value());
  const auto& ids = model.channels.outputs.at("conv");
  const double mean = (0.5 + 3 + 1 + 0.25) / 4;
  EXPECT_NEAR((*scores)[static_cast<std::size_t>(ids[1])], 3 / mean, 1e-6);
  EXPECT_NEAR((*scores)[static_cast<std::size_t>(ids[3])], 0.25 / mean, 1e-6);
}

TEST(ActivationScores, ShareOfNonZerosIsCountedBehindTheRelu) {
  const PreparedModel model = with_batch_norm();
  const Tensor x = Numbers(142).tensor({9, 2, 6, 6});
  Calibration calibration(model, {x}, 1);
  const auto scores = activation_scores(model, model.graph, "", "apoz", &calibration);
  ASSERT_TRUE(scores.has_value()) << scores.error().message;
  const auto values = engine::run_reference_values(model.graph, {x});
  const auto relu = values->at("relu").to_floats();
  std::vector<double> active(4, 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < relu.size(); ++i) active[i / 36 % 4] += relu[i] != 0 ? 1 : 0;
  for (const double count : active) sum += count;
  const auto& ids = model.channels.outputs.at("conv");
  for (std::size_t c = 0; c < 4; ++c)
    EXPECT_NEAR((*scores)[static_cast<std::size_t>(ids[c])], 4 * active[c] / sum, 0.01);
  EXPECT_LT((*scores)[static_cast<std::size_t>(ids[2])], 0.6) << "its bias keeps it at zero mostly";
}

TEST(ActivationScores, MeanOutputIsThatBehindTheRelu) {
  const PreparedModel model = with_batch_norm();
  const Tensor x = Numbers(142).tensor({9, 2, 6, 6});
  Calibration calibration(model, {x}, 1);
  const auto scores = activation_scores(model, model.graph, "", "mean_output", &calibration);
  ASSERT_TRUE(scores.has_value()) << scores.error().message;
  const auto relu = engine::run_reference_values(model.graph, {x})->at("relu").to_floats();
  std::vector<double> sums(4, 0.0);
  double whole = 0;
  for (std::size_t i = 0; i < relu.size(); ++i) sums[i / 36 % 4] += static_cast<double>(relu[i]);
  for (const double sum : sums) whole += sum;
  const auto& ids = model.channels.outputs.at("conv");
  for (std::size_t c = 0; c < 4; ++c)
    EXPECT_NEAR((*scores)[static_cast<std::size_t>(ids[c])], 4 * sums[c] / whole, 1e-4);
}

TEST(ActivationScores, TaylorWeighsAChannelByWhatItsReadersLose) {
  GraphBuilder b(143);
  const auto x = b.relu("r", b.conv("a", b.input("x", {-1, 2, 5, 5}), 2, 3, 1));
  b.conv("last", x, 3, 4, 1);
  const auto model = prepare(b.finish({"last"}));
  ASSERT_TRUE(model.has_value());
  const Tensor data = Numbers(144).tensor({16, 2, 5, 5});
  Calibration calibration(*model, {data}, 1);
  const auto scores = activation_scores(*model, model->graph, "", "taylor", &calibration);
  ASSERT_TRUE(scores.has_value()) << scores.error().message;
  // A 1×1 layer loses E[x_c²] · ‖W_c‖² when channel c is set to zero: measured here.
  const auto whole = engine::run_reference_values(model->graph, {data});
  std::vector<double> loss(3, 0.0);
  for (std::size_t c = 0; c < 3; ++c) {
    Graph without = model->graph;
    auto w = without.initializers.at("last.weight").mutable_as<float>();
    for (std::size_t o = 0; o < 4; ++o) w[o * 3 + c] = 0;
    const auto y = engine::run_reference(without, {data});
    const auto a = (*y)[0].to_floats();
    const auto full = whole->at("last").to_floats();
    for (std::size_t i = 0; i < a.size(); ++i)
      loss[c] += std::pow(static_cast<double>(a[i]) - static_cast<double>(full[i]), 2);
  }
  const double mean = (loss[0] + loss[1] + loss[2]) / 3;
  const auto& ids = model->channels.outputs.at("a");
  for (std::size_t c = 0; c < 3; ++c)
    EXPECT_NEAR((*scores)[static_cast<std::size_t>(ids[c])], loss[c] / mean, 1e-3);
}

TEST(ActivationScores, WandaIsMagnitudeTimesInputNormRowByRow) {
  GraphBuilder b(145);
  b.gemm("fc", b.input("x", {-1, 4}), 4, 2);
  b.constant("fc.weight", Tensor::f32({2, 4}, {1, 2, 3, 4, 0.1F, 0.2F, 0.3F, 0.4F}));
  const auto model = prepare(b.finish({"fc"}));
  ASSERT_TRUE(model.has_value());
  // Norms 10, 1, 0.1, 0 of the inputs: scores 10, 2, 0.3, ~0 of each row's.
  const Tensor data = Tensor::f32({2, 4}, {10, 1, 0.1F, 0, -10, -1, 0.1F, 0});
  Calibration calibration(*model, {data}, 1);
  const auto out = run(*model,
                       R"({"layers": {"fc": {"prune": {"structure": "unstructured", "ratio": 0.5, "score": "wanda"}}}})",
                       &calibration);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->graph.constant("fc.weight")->to_floats(),
            (std::vector<float>{1, 2, 0, 0, 0.1F, 0.2F, 0, 0}));
  const auto taylor = run(*model,
                          R"({"layers": {"fc": {"prune": {"structure": "unstructured", "ratio": 0.5, "score": "taylor"}}}})",
                          &calibration);
  ASSERT_TRUE(taylor.has_value());
  EXPECT_EQ(taylor->graph.constant("fc.weight")->to_floats(),
            (std::vector<float>{1, 2, 3, 0, 0.1F, 0, 0, 0}))
      << "over the whole tensor the squares 100, 4, 1 and 0.09 are the largest";
}

TEST(ActivationScores, WhatALayerHasNoScoreForIsRefusedByNameAndLeftAloneByStar) {
  const PreparedModel model = with_batch_norm();
  Calibration calibration(model, {Numbers(146).tensor({4, 2, 6, 6})}, 1);
  const auto prune = [](const std::string& layer, const std::string& structure, const std::string& score) {
    return R"({"layers": {")" + layer + R"(": {"prune": {"structure": ")" + structure +
           R"(", "ratio": 0.5, "score": ")" + score + R"("}}}})";
  };
  for (const auto& [plan, text] : std::vector<std::pair<std::string, std::string>>{
           {prune("plain", "channel", "bn"), "plan.layers.plain.prune.score: \"bn\" doesn't go with layer 'plain': no batch"},
           {prune("plain", "channel", "apoz"), "no Relu follows it"},
           {prune("conv", "channel", "wanda"), "expected \"l1\", \"l2\", \"bn\", \"apoz\", \"mean_output\", \"taylor\""},
           {prune("conv", "unstructured", "bn"), "expected \"l1\", \"l2\", \"taylor\", \"wanda\""}}) {
    const auto out = run(model, plan, &calibration);
    ASSERT_FALSE(out.has_value()) << plan;
    EXPECT_THAT(out.error().message, HasSubstr(text));
  }
  const auto star = run(model, prune("*", "channel", "bn"), nullptr);
  ASSERT_TRUE(star.has_value()) << star.error().message;
  const auto kept = [&](const std::string& layer) {
    return star->graph.initializers.at(find_node(star->graph, layer)->inputs[1]).dim(0);
  };
  EXPECT_EQ(kept("conv"), 2);
  EXPECT_EQ(kept("plain"), 5);
  const auto data = run(model, prune("*", "channel", "taylor"), nullptr);
  ASSERT_FALSE(data.has_value());
  EXPECT_EQ(data.error().message, "a plan that prunes by \"taylor\" needs calibration data (--calibration, or data.calibration in a study)");
}

TEST(ActivationScores, DeadActivationsStillGiveEveryScore) {
  GraphBuilder b(147);
  auto x = b.relu("r", b.conv("a", b.input("x", {-1, 2, 4, 4}), 2, 4));
  b.conv("last", x, 4, 2);
  b.constant("a.bias", Tensor::f32({4}, {-1e3F, -1e3F, -1e3F, -1e3F}));
  const auto model = prepare(b.finish({"last"}));
  ASSERT_TRUE(model.has_value());
  Calibration calibration(*model, {Numbers(148).tensor({1, 2, 4, 4})}, 1);
  for (const std::string score : {"apoz", "taylor"}) {
    const auto out = run(*model, R"({"layers": {"*": {"prune": {"structure": "channel", "ratio": 0.5, "score": ")" +
                                     score + R"("}}}})", &calibration);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    EXPECT_EQ(out->graph.constant("a.weight")->dim(0), 2);
  }
  const auto out = run(*model, R"({"layers": {"*": {"prune": {"structure": "unstructured", "ratio": 0.5, "score": "wanda"}}}})",
                       &calibration);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_NEAR(out->layers[1].sparsity, 0.5, 1e-9);
}

}  // namespace
}  // namespace kerf::compress
