#include "workers/compress/distill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/compress/distill_loss.h"
#include "workers/compress/layer.h"
#include "workers/compress/optimizer.h"
#include "workers/compress/prune_unstructured.h"
#include "workers/engine/executor.h"

namespace kerf::compress {
namespace {

using ::testing::ElementsAre;
using testing::Graph;
using testing::GraphBuilder;
using ::testing::HasSubstr;
using testing::Numbers;
using testing::Tensor;

CompressionPlan distill_plan(const std::string& global, const std::string& layers) {
  const auto json = parse_json(R"({"global": {)" + global + R"(}, "layers": {)" + layers + "}}");
  EXPECT_TRUE(json.has_value());
  const auto plan = CompressionPlan::parse(*json);
  EXPECT_TRUE(plan.has_value()) << (plan.has_value() ? "" : plan.error().message);
  return *plan;
}

const std::string kDistill = R"("recovery": "distill", "distill": {"epochs": 4, "seconds": 1000})";
const std::string kHalfOfTheChannels = R"("*": {"prune": {"structure": "channel", "ratio": 0.5}})";

/// conv1 → conv2 with a residual → mean → fc, with `tail` ("Softmax", …) at the end where given.
PreparedModel residual_model(const std::string& tail = "", const std::string& function = "Relu") {
  GraphBuilder b(41);
  auto x = b.relu("r1", b.conv("conv1", b.input("x", {-1, 2, 8, 8}), 2, 8));
  const auto inner = b.op("f", function, {b.conv("conv2", x, 8, 8)});
  x = b.relu("r3", b.op("add", "Add", {b.conv("conv3", inner, 8, 8), x}));
  b.gemm("fc", b.flatten("flat", b.op("mean", "GlobalAveragePool", {x})), 8, 5);
  for (auto& [name, tensor] : b.graph.initializers) {
    const auto fan_in = static_cast<float>(tensor.rank() > 1 ? tensor.elements() / tensor.dim(0) : 4);
    for (float& w : tensor.mutable_as<float>()) w /= std::sqrt(fan_in);
  }
  if (!tail.empty()) b.node("tail", tail, {"fc"}).attributes["axis"] = std::int64_t{1};
  auto model = prepare(b.finish({tail.empty() ? "fc" : "tail"}));
  EXPECT_TRUE(model.has_value()) << (model.has_value() ? "" : model.error().message);
  return *model;
}

std::vector<float> outputs_of(const Graph& graph, const Tensor& data) {
  const auto out = engine::run_all(graph, {data}, 1);
  EXPECT_TRUE(out.has_value()) << (out.has_value() ? "" : out.error().message);
  return (*out)[0].to_floats();
}

/// Logits of five classes without what all five have in common, which no softmax sees.
std::vector<float> centred(std::vector<float> logits) {
  for (std::size_t row = 0; row < logits.size(); row += 5) {
    float mean = 0;
    for (std::size_t i = row; i < row + 5; ++i) mean += logits[i] / 5;
    for (std::size_t i = row; i < row + 5; ++i) logits[i] -= mean;
  }
  return logits;
}

double mean_square(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return sum / static_cast<double>(a.size());
}

class DistillTest : public ::testing::Test {
 protected:
  Result<CompressedModel> run(const CompressionPlan& plan, const Watch& watch = {}) {
    return compress(model_, plan, &calibration_, watch);
  }
  CompressedModel made(const CompressionPlan& plan) {
    auto out = run(plan);
    EXPECT_TRUE(out.has_value()) << (out.has_value() ? "" : out.error().message);
    return std::move(*out);
  }
  /// Distance of the classes from the model's, on samples that weren't trained on.
  double distance_from_teacher(const Graph& graph) {
    const Tensor fresh = Numbers(43).tensor({64, 2, 8, 8});
    return mean_square(centred(outputs_of(graph, fresh)), centred(outputs_of(model_.graph, fresh)));
  }
  /// The same of values.
  double distance_of_values(const Graph& graph) {
    const Tensor fresh = Numbers(43).tensor({64, 2, 8, 8});
    return mean_square(outputs_of(graph, fresh), outputs_of(model_.graph, fresh));
  }
  void label() {
    const auto logits = outputs_of(model_.graph, data_);
    Labels labels;
    for (std::size_t i = 0; i < logits.size(); i += 5) {
      labels.classes.push_back(std::max_element(logits.begin() + static_cast<std::ptrdiff_t>(i),
                                                logits.begin() + static_cast<std::ptrdiff_t>(i) + 5) -
                               logits.begin() - static_cast<std::ptrdiff_t>(i));
    }
    calibration_.set_labels(std::move(labels));
  }

  PreparedModel model_ = residual_model();
  Tensor data_ = Numbers(42).tensor({256, 2, 8, 8});
  Calibration calibration_{model_, {data_}, 1};
};

TEST_F(DistillTest, BringsAPrunedModelBackToItsTeacher) {
  const auto plain = made(distill_plan("", kHalfOfTheChannels));
  for (const std::string optimizer : {R"("adam", "learning_rate": 0.003)", R"("sgd", "learning_rate": 0.01)"}) {
    const auto trained = made(distill_plan(
        R"("recovery": "distill", "distill": {"epochs": 40, "seconds": 1000, "optimizer": )" + optimizer + "}",
        kHalfOfTheChannels));
    EXPECT_LT(distance_from_teacher(trained.graph), 0.75 * distance_from_teacher(plain.graph)) << optimizer;
    EXPECT_GT(trained.recovery_seconds, 0);
    EXPECT_TRUE(trained.warnings.empty()) << trained.warnings[0];
    EXPECT_EQ(trained.macs, plain.macs);
  }
}

TEST_F(DistillTest, BringsFewBitsBackToTheTeacher) {
  const std::string layers = R"("*": {"weight_bits": 2, "activation_bits": 8})";
  const auto plain = made(distill_plan("", layers));
  const auto trained = made(distill_plan(
      R"("recovery": "distill", "distill": {"epochs": 12, "seconds": 1000, "learning_rate": 0.01})", layers));
  EXPECT_LT(distance_from_teacher(trained.graph), 0.7 * distance_from_teacher(plain.graph));
  for (const LayerReport& layer : trained.layers) {
    EXPECT_EQ(layer.weight_bits, 2);
    EXPECT_EQ(layer.executes_as, "s8");
  }
}

TEST_F(DistillTest, EveryFormOfWeightsIsTrainedAsItWillBeStored) {
  const Tensor fresh = Numbers(45).tensor({64, 2, 8, 8});
  for (const std::string layers : {
           R"("*": {"weight_bits": 1, "activation_bits": 1}, "fc": {}, "conv1": {})",
           R"("*": {"weight_bits": 1}, "fc": {})",
           R"("*": {"weight_bits": "ternary", "activation_bits": 8})",
           R"("*": {"weight_bits": 3, "activation_bits": 8, "activation_range": "dynamic"})",
           R"("*": {"weight_bits": 3, "granularity": "group:4"})",
           R"("*": {"weight_bits": 3, "symmetric": false})",
           R"("*": {"codebook": 4})",
           R"("*": {"codebook": 8, "weight_bits": 4, "prune": {"structure": "unstructured", "ratio": 0.3}})",
       }) {
    SCOPED_TRACE(layers);
    const auto plain = made(distill_plan("", layers));
    const auto trained = made(distill_plan(
        R"("recovery": "distill", "distill": {"epochs": 15, "seconds": 1000, "learning_rate": 0.003})", layers));
    EXPECT_LT(distance_from_teacher(trained.graph), distance_from_teacher(plain.graph));
    ASSERT_EQ(trained.layers.size(), plain.layers.size());
    for (std::size_t i = 0; i < plain.layers.size(); ++i) {
      EXPECT_EQ(trained.layers[i].executes_as, plain.layers[i].executes_as);
      EXPECT_EQ(trained.layers[i].weight_bits_total, plain.layers[i].weight_bits_total);
    }
  }
}

TEST_F(DistillTest, Bf16LayersStayBf16) {
  const auto trained = made(distill_plan(kDistill, R"("*": {"weight_bits": 16})"));
  for (const LayerReport& layer : trained.layers) EXPECT_EQ(layer.executes_as, "bf16");
}

TEST_F(DistillTest, SameInputsGiveTheSameWeights) {
  label();
  const auto plan = distill_plan(
      kDistill, R"("*": {"weight_bits": 4, "activation_bits": 8, "prune": {"structure": "unstructured", "ratio": 0.3}})");
  const auto one = made(plan);
  const auto two = made(plan);
  ASSERT_EQ(one.graph.initializers.size(), two.graph.initializers.size());
  for (const auto& [name, tensor] : one.graph.initializers) {
    const Tensor& other = two.graph.initializers.at(name);
    ASSERT_EQ(tensor.bytes(), other.bytes()) << name;
    EXPECT_TRUE(std::equal(tensor.raw(), tensor.raw() + tensor.bytes(), other.raw())) << name;
  }
}

TEST_F(DistillTest, ZerosStayZeroAndTheOthersMove) {
  for (const std::string prune : {R"({"structure": "unstructured", "ratio": 0.6})", R"({"structure": "2:4"})"}) {
    const auto plain = made(distill_plan("", R"("*": {"prune": )" + prune + "}"));
    const auto trained = made(distill_plan(kDistill, R"("*": {"prune": )" + prune + "}"));
    bool moved = false;
    for (const LayerReport& layer : plain.layers) {
      const auto before = plain.graph.constant(find_node(plain.graph, layer.name)->inputs[1])->to_floats();
      const auto after = trained.graph.constant(find_node(trained.graph, layer.name)->inputs[1])->to_floats();
      ASSERT_EQ(before.size(), after.size());
      for (std::size_t i = 0; i < before.size(); ++i) {
        if (before[i] == 0) {
          EXPECT_EQ(after[i], 0) << layer.name << " " << i;
        }
        moved = moved || before[i] != after[i];
      }
    }
    EXPECT_TRUE(moved);
  }
}

TEST_F(DistillTest, WeightsThatGotWorseAreNotKept) {
  // A learning rate far beyond what can work: every epoch ends worse than the start, or not finite.
  for (const std::string optimizer : {"adam", "sgd"}) {
    const auto plain = made(distill_plan("", kHalfOfTheChannels));
    const auto trained = made(distill_plan(
        R"("recovery": "distill", "distill": {"epochs": 6, "seconds": 1000, "learning_rate": 1e30, "optimizer": ")" +
            optimizer + "\"}",
        kHalfOfTheChannels));
    for (const auto& [name, tensor] : plain.graph.initializers) {
      const Tensor* other = trained.graph.constant(name);
      ASSERT_NE(other, nullptr) << name;
      if (tensor.dtype() == graph::DType::kF32) {
        EXPECT_EQ(tensor.to_floats(), other->to_floats()) << name;
      }
    }
    ASSERT_EQ(trained.warnings.size(), 1U);
    EXPECT_THAT(trained.warnings[0], HasSubstr("diverged"));
  }
}

TEST_F(DistillTest, AnotherSeedGivesOtherWeightsAndTheSameSeedTheSame) {
  const auto outputs = [&](const std::string& seed_key) {
    return outputs_of(made(distill_plan(R"("recovery": "distill", "distill": {"epochs": 4, "seconds": 1000, "learning_rate": 0.01)" + seed_key + "}",
                                        R"("*": {"weight_bits": 3, "activation_bits": 8})")).graph, data_);
  };
  EXPECT_EQ(outputs(R"(, "seed": 1)"), outputs(""));
  EXPECT_EQ(outputs(R"(, "seed": 7)"), outputs(R"(, "seed": 7)"));
  EXPECT_NE(outputs(""), outputs(R"(, "seed": 7)"));
}

TEST_F(DistillTest, AveragesVaryLessFromSeedToSeedThanTheLastStepsWould) {
  // Where the learning rate is large, single steps throw few-bit weights about: what is kept has to be
  // near the teacher for every seed.
  const std::string layers = R"("*": {"weight_bits": 2, "activation_bits": 8})";
  const double plain = distance_from_teacher(made(distill_plan("", layers)).graph);
  for (const std::string seed : {"1", "2", "3", "4"}) {
    const auto trained = made(distill_plan(
        R"("recovery": "distill", "distill": {"epochs": 12, "seconds": 1000, "learning_rate": 0.02, "seed": )" + seed + "}", layers));
    EXPECT_LT(distance_from_teacher(trained.graph), 0.7 * plain) << seed;
  }
}

TEST_F(DistillTest, HeldOutLossNeverRises) {
  for (const double rate : {1e-4, 1e-2, 1.0}) {
    DistillTask task;
    task.teacher = &model_.graph;
    const auto pruned = compress(model_, distill_plan("", kHalfOfTheChannels), nullptr);
    task.student = pruned->graph;
    task.inputs = {data_};
    task.spec.epochs = 3;
    task.spec.seconds = 1000;
    task.spec.learning_rate = rate;
    const auto out = distill(task);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    EXPECT_LE(out->loss_after, out->loss_before);
    EXPECT_EQ(out->epochs, 3);
    if (out->best_epoch == 0) {
      EXPECT_EQ(out->loss_after, out->loss_before);
    }
  }
}

TEST_F(DistillTest, TimeThatRunsOutIsSaid) {
  const auto out = made(distill_plan(R"("recovery": "distill", "distill": {"epochs": 100000, "seconds": 1e-9})",
                                     kHalfOfTheChannels));
  ASSERT_EQ(out.warnings.size(), 1U);
  EXPECT_THAT(out.warnings[0], HasSubstr("stopped by plan.global.distill.seconds"));
  EXPECT_THAT(out.warnings[0], HasSubstr("of 100000"));
}

TEST_F(DistillTest, CanBeCancelled) {
  int asked = 0;
  const auto out = run(distill_plan(kDistill, kHalfOfTheChannels), [&](const std::string& phase, double share) {
    EXPECT_EQ(phase, "distill");
    EXPECT_GE(share, 0);
    EXPECT_LT(share, 1);
    return ++asked < 3;
  });
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(asked, 3);
}

TEST_F(DistillTest, OneSampleIsEnough) {
  const Tensor sample = Numbers(44).tensor({1, 2, 8, 8});
  Calibration one(model_, {sample}, 1);
  const auto out = compress(
      model_, distill_plan(kDistill, R"("*": {"weight_bits": 3, "activation_bits": 8, "prune": {"structure": "channel", "ratio": 0.5}})"),
      &one);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  for (const float y : outputs_of(out->graph, sample)) EXPECT_TRUE(std::isfinite(y));
}

TEST_F(DistillTest, LabelsAreHeard) {
  const auto plan = distill_plan(kDistill, kHalfOfTheChannels);
  const auto without = made(plan);
  label();
  const auto with = made(plan);
  EXPECT_NE(outputs_of(without.graph, data_), outputs_of(with.graph, data_));
  EXPECT_LT(distance_from_teacher(with.graph), distance_from_teacher(made(distill_plan("", kHalfOfTheChannels)).graph));
}

TEST_F(DistillTest, ProbabilitiesAreTrainedBeforeTheirSoftmax) {
  model_ = residual_model("Softmax");
  calibration_ = Calibration(model_, {data_}, 1);
  const auto plain = made(distill_plan("", kHalfOfTheChannels));
  const auto trained = made(distill_plan(kDistill, kHalfOfTheChannels));
  EXPECT_LT(distance_from_teacher(trained.graph), distance_from_teacher(plain.graph));
  EXPECT_EQ(trained.graph.producer(trained.graph.outputs[0].name)->op, "Softmax");
}

TEST_F(DistillTest, RegressionTargetsMakeItFollowTheTeachersValues) {
  calibration_.set_labels({{}, std::vector<float>(256 * 5, 0.0F)});
  const auto plain = made(distill_plan("", kHalfOfTheChannels));
  const auto trained = made(distill_plan(kDistill, kHalfOfTheChannels));
  EXPECT_LT(distance_of_values(trained.graph), distance_of_values(plain.graph));
}

TEST_F(DistillTest, AnOpWithoutAGradientIsRefusedByName) {
  model_ = residual_model("", "Cos");
  calibration_ = Calibration(model_, {data_}, 1);
  const auto out = run(distill_plan(kDistill, R"("*": {"weight_bits": 4})"));
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, ErrorCode::kUnimplemented);
  EXPECT_EQ(out.error().message, "distill: node Cos 'f' can't be trained: the op has no gradient here");
}

TEST_F(DistillTest, NothingIsTrainedWhereNothingIsCompressed) {
  const auto plan = distill_plan(kDistill, "");
  EXPECT_FALSE(needs_calibration(model_, plan));
  const auto out = compress(model_, plan, nullptr);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ(out->recovery_seconds, 0);
}

TEST_F(DistillTest, NeedsACalibration) {
  const auto plan = distill_plan(kDistill, kHalfOfTheChannels);
  EXPECT_TRUE(needs_calibration(model_, plan));
  const auto out = compress(model_, plan, nullptr);
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().message, "plan.global.recovery: \"distill\" needs calibration data (--calibration, or data.calibration in a study)");
}

TEST_F(DistillTest, ComesLastOfTheRecoveries) {
  const auto first = CompressionPlan::parse(*parse_json(R"({"global": {"recovery": ["distill", "bias_correction"]}})"));
  ASSERT_FALSE(first.has_value());
  EXPECT_THAT(first.error().message, HasSubstr("plan.global.recovery: \"bias_correction\" after \"distill\""));
  const auto last = run(distill_plan(R"("recovery": ["bias_correction", "distill"], "distill": {"epochs": 2})",
                                     R"("*": {"weight_bits": 3})"));
  EXPECT_TRUE(last.has_value()) << last.error().message;
}

TEST(ClassLoss, GradientIsTheSlope) {
  Numbers numbers(51);
  std::vector<float> student(12), teacher(12), slope(12), unused(12);
  for (float& v : student) v = 2 * numbers.normal();
  for (float& v : teacher) v = 2 * numbers.normal();
  const std::vector<std::int64_t> labels = {2, -1, 0};
  const auto loss = [&](std::span<float> gradient) {
    return class_loss(student, teacher, labels, 3, 3.0, 0.3, gradient);
  };
  loss(slope);
  for (std::size_t i = 0; i < student.size(); ++i) {
    const float kept = student[i];
    student[i] = kept + 1e-2F;
    const double up = loss(unused);
    student[i] = kept - 1e-2F;
    const double down = loss(unused);
    student[i] = kept;
    EXPECT_NEAR((up - down) / 2e-2, static_cast<double>(slope[i]), 1e-4);
  }
}

TEST(ClassLoss, IsZeroWhereTheStudentAgreesAndFiniteForHugeLogits) {
  const std::vector<float> same = {1, -3, 2};
  std::vector<float> slope(3);
  EXPECT_NEAR(class_loss(same, same, {}, 1, 2.0, 0.3, slope), 0, 1e-12);
  EXPECT_THAT(slope, ElementsAre(0, 0, 0));
  const std::vector<float> huge = {1e30F, -1e30F, 0};
  EXPECT_TRUE(std::isfinite(class_loss(huge, same, {}, 1, 1.0, 0.0, slope)));
}

TEST(ValueLoss, IsTheMeanSquareOverTheVariance) {
  std::vector<float> slope(2);
  EXPECT_DOUBLE_EQ(value_loss(std::vector<float>{1, 3}, std::vector<float>{0, 1}, 2.0, slope), (1.0 + 4.0) / 4);
  EXPECT_THAT(slope, ElementsAre(0.5F, 1.0F));
}

TEST(Optimizer, AdamMovesByTheLearningRateAtFirst) {
  // The first step is η · g / (|g| + ε): its size doesn't depend on the gradient's.
  Optimizer adam("adam", {3}, 1e9);
  std::vector<float> w = {1, 1, 1};
  std::vector<float> g = {1e-3F, -20, 0};
  adam.step({w}, {g}, 0.1);
  EXPECT_NEAR(w[0], 0.9F, 1e-5F);
  EXPECT_NEAR(w[1], 1.1F, 1e-5F);
  EXPECT_EQ(w[2], 1.0F);
}

TEST(Optimizer, SgdHasNesterovsMomentum) {
  Optimizer sgd("sgd", {1}, 1e9);
  std::vector<float> w = {0};
  std::vector<float> g = {1};
  sgd.step({w}, {g}, 0.1);
  EXPECT_NEAR(w[0], -0.19F, 1e-6F);  // 0.1 · (1 + 0.9)
  sgd.step({w}, {g}, 0.1);
  EXPECT_NEAR(w[0], -0.19F - 0.1F * (1 + 0.9F * 1.9F), 1e-6F);
}

TEST(Optimizer, LongGradientsAreShortened) {
  Optimizer sgd("sgd", {1, 1}, 5);
  std::vector<float> a = {0}, b = {0};
  std::vector<float> ga = {300}, gb = {400};
  sgd.step({a, b}, {ga, gb}, 1.0);
  EXPECT_NEAR(a[0], -3 * 1.9F, 1e-4F);
  EXPECT_NEAR(b[0], -4 * 1.9F, 1e-4F);
}

TEST(LearningShare, RisesThenFalls) {
  EXPECT_DOUBLE_EQ(learning_share(0, 100, 4), 0.2);
  EXPECT_DOUBLE_EQ(learning_share(4, 100, 4), 1.0);
  EXPECT_NEAR(learning_share(52, 100, 4), 0.505, 1e-9);
  EXPECT_LT(learning_share(99, 100, 4), 0.011);
  EXPECT_GT(learning_share(99, 100, 4), 0.0);
}

TEST(Assemble, ShiftsRepeatTheEdgeAndPlainCopiesAreExact) {
  std::vector<float> pixels(2 * 16 * 16);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i);
  const std::vector<Tensor> inputs = {Tensor::f32({2, 1, 16, 16}, pixels)};
  std::vector<float> batch(pixels.size());
  Dice dice(1);
  const std::vector<std::int64_t> order = {1, 0};
  assemble(inputs, order, 0, dice, {batch});
  EXPECT_EQ(batch[0], 256);
  EXPECT_EQ(batch[256], 0);
  assemble(inputs, order, 0.2, dice, {batch});  // three pixels
  for (const float value : batch) EXPECT_EQ(value, std::floor(value));
  // A pixel in the middle comes from at most three rows and columns away, all by the same way.
  const int from = static_cast<int>(batch[8 * 16 + 8]) - 256;
  const int down = 8 - from / 16;
  const int right = 8 - from % 16;
  EXPECT_LE(std::abs(down), 3);
  EXPECT_LE(std::abs(right), 3);
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      const int row = std::clamp(y - down, 0, 15);
      const int column = std::clamp(x - right, 0, 15);
      EXPECT_EQ(batch[static_cast<std::size_t>(y * 16 + x)], static_cast<float>(256 + row * 16 + column));
    }
  }
}

TEST(PictureAxes, KnowsPicturesInBothLayoutsAndNothingElse) {
  EXPECT_EQ(picture_axes({500, 3, 32, 32})->rows, 2U);
  EXPECT_EQ(picture_axes({500, 32, 32, 1})->channels, 3U);
  EXPECT_FALSE(picture_axes({500, 64, 32, 32}));
  EXPECT_FALSE(picture_axes({500, 3, 8, 8}));
  EXPECT_FALSE(picture_axes({500, 784}));
}

}  // namespace
}  // namespace kerf::compress
