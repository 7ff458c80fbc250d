#include "workers/measure/label_look.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/unit/measure/looks_model.h"
#include "workers/compress/compress.h"
#include "workers/measure/baseline_points.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/looks.h"
#include "workers/measure/prefix.h"

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;
using Labels = std::vector<std::int64_t>;

constexpr std::int64_t kSamples = 100;
constexpr std::int64_t kClasses = 5;

// Of two classes: 1/2 and 1/2 beside 3/4 and 1/4.
const double kDivergence = 0.5 * std::log(4.0 / 3.0);

TEST(LabelLook, LabelsThatFallAsTheModelSaysLeanNowhere) {
  const Tensor beside = Tensor::f32({2, 2}, {1, 1, -3, -3});
  const Tensor plan = Tensor::f32({2, 2}, {std::log(3.0F), 0, 2 + std::log(3.0F), 2});
  const auto look = label_look(beside, plan, Labels{0, 1}, OutputKind::kScores);
  ASSERT_TRUE(look.has_value()) << look.error().message;
  // The plan's scores are floats: ln 3 beside 2 is off by 2^-22, and so is what is made of it.
  EXPECT_NEAR(look->kl, kDivergence, 0x1p-21);
  EXPECT_NEAR(look->lean, 0, 0x1p-21);
  // Two samples, half of ln 3 above and below their mean.
  EXPECT_NEAR(look->error, std::log(3.0) / 2, 0x1p-21);
  EXPECT_EQ(look->samples, 2);
}

TEST(LabelLook, AClassThatGetsLessIsHarm) {
  const Tensor beside = Tensor::f32({3, 2}, std::vector<float>(6, 0.5F));
  const Tensor plan = Tensor::f32({3, 2}, {0.75F, 0.25F, 0.75F, 0.25F, 0.75F, 0.25F});
  const auto harm = label_look(beside, plan, Labels{1, 1, 1}, OutputKind::kProbabilities);
  ASSERT_TRUE(harm.has_value()) << harm.error().message;
  EXPECT_NEAR(harm->kl, kDivergence, 1e-14);
  EXPECT_NEAR(harm->lean, std::log(2.0) - kDivergence, 1e-14);
  EXPECT_NEAR(harm->error, 0, 1e-14);
  const auto good = label_look(beside, plan, Labels{0, 0, 0}, OutputKind::kProbabilities);
  EXPECT_NEAR(good->lean, std::log(2.0 / 3.0) - kDivergence, 1e-14);
}

TEST(LabelLook, AProbabilityOfNothingHasAFloor) {
  const Tensor beside = Tensor::f32({2, 2}, {0.5F, 0.5F, 1, 0});
  const Tensor plan = Tensor::f32({2, 2}, {1, 0, 1, 0});
  const auto look = label_look(beside, plan, Labels{1, 0}, OutputKind::kProbabilities);
  ASSERT_TRUE(look.has_value());
  const double kl = 0.5 * std::log(0.5) + 0.5 * std::log(0.5 / 1e-12);
  EXPECT_NEAR(look->kl, kl / 2, 1e-12);
  EXPECT_NEAR(look->lean, (std::log(0.5 / 1e-12) - kl) / 2, 1e-12);
}

TEST(Overconfident, IsWhoIsSureOfErrors) {
  // Sure of class 0 (0.98), right in half of the cases; and right as often as it says.
  const float sure = 4;
  std::vector<float> values;
  Labels half, honest;
  for (std::int64_t n = 0; n < 200; ++n) {
    values.insert(values.end(), {sure, 0});
    half.push_back(n % 2);
    honest.push_back(n % 56 == 0 ? 1 : 0);  // 4 of 200: 1 / (1 + e^4) = 0.018
  }
  const Tensor outputs = Tensor::f32({200, 2}, values);
  EXPECT_TRUE(overconfident(outputs, half, OutputKind::kScores));
  EXPECT_FALSE(overconfident(outputs, honest, OutputKind::kScores));
  EXPECT_FALSE(overconfident(outputs, Labels(200, 0), OutputKind::kScores)) << "surer than it says";
  EXPECT_FALSE(overconfident(outputs, Labels(199, 0), OutputKind::kScores));
  EXPECT_FALSE(overconfident(outputs, Labels(200, 7), OutputKind::kScores));
  values[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(overconfident(Tensor::f32({200, 2}, values), half, OutputKind::kScores));
}

TEST(LabelLook, WhatCantBeComparedIsAnError) {
  const Tensor beside = Tensor::f32({2, 2}, {1, 1, 1, 1});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor plan = Tensor::f32({2, 2}, {1, 1, 1, bad});
    const auto look = label_look(beside, plan, Labels{0, 0}, OutputKind::kScores);
    ASSERT_FALSE(look.has_value());
    EXPECT_NE(look.error().message.find("not finite"), std::string::npos) << look.error().message;
    EXPECT_FALSE(label_look(plan, beside, Labels{0, 0}, OutputKind::kScores).has_value());
  }
  EXPECT_FALSE(label_look(beside, Tensor::f32({2, 3}, std::vector<float>(6)), Labels{0, 0}, OutputKind::kScores).has_value());
  EXPECT_FALSE(label_look(beside, beside, Labels{0, 0, 0}, OutputKind::kScores).has_value());
  EXPECT_FALSE(label_look(beside, beside, Labels{0, 2}, OutputKind::kScores).has_value());
}

/// A model with a calibration set whose labels a test gives.
class LabelLooksTest : public testing::Test {
 protected:
  LabelLooksTest() : inputs_{normal_tensor({kSamples, 3, 12, 12}, 5, 1.0F)} { use(chain()); }

  void use(Graph graph) {
    auto prepared = compress::prepare(std::move(graph));
    if (!prepared.has_value()) throw std::runtime_error(prepared.error().message);
    calibration_.reset();
    model_.emplace(std::move(*prepared));
    calibration_.emplace(*model_, inputs_, 1);
    request_ = LookRequest();
    request_.beside = with("c1", seven());
    request_.labels = {with("c3", four()), with("c1", four()), with("fc", four())};
  }

  static Graph with_softmax() {
    Graph graph = chain();
    graph.nodes.push_back({"softmax", "Softmax", "", {"out"}, {"shares"}, {}});
    graph.outputs[0].name = "shares";
    return graph;
  }

  /// Integers on every processor: without VNNI sums of 8 bits saturate.
  static Json seven() { return {{"weight_bits", 7}, {"activation_bits", 8}}; }
  static Json four() { return {{"weight_bits", 4}, {"activation_bits", 8}}; }
  /// All layers in 7 bits but one.
  static Json with(const std::string& layer, const Json& keys) { return {{"layers", {{"*", seven()}, {layer, keys}}}}; }

  Result<LookResult> looks(const LookSettings& settings = {}) {
    return take_looks(*model_, &*calibration_, inputs_, request_, settings, nullptr, {});
  }

  void label(Labels classes) { calibration_->set_labels({std::move(classes), {}}); }
  /// A label a sample, none like its neighbours.
  static Labels some_labels(std::int64_t count = kSamples) {
    Labels out(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::int64_t>(i * i + i / 3) % kClasses;
    return out;
  }

  /// Of all samples, computed whole.
  Tensor outputs(const Json& plan) {
    const auto made = compress::compress(*model_, *CompressionPlan::parse(plan), &*calibration_);
    EXPECT_TRUE(made.has_value());
    auto compiled = Compiled::make(made->graph, inputs_, {.batch = 8});
    EXPECT_TRUE(compiled.has_value());
    Labels all(kSamples);
    std::iota(all.begin(), all.end(), 0);
    return *run_samples(*compiled, inputs_, all, [] { return Result<void>(); });
  }

  /// Logarithms of the probabilities of all samples.
  std::vector<double> whole(const Json& plan) {
    const Tensor rows = outputs(plan);
    std::vector<double> out;
    for (std::size_t n = 0; n < kSamples; ++n) {
      const auto row = rows.as<float>().subspan(n * kClasses, kClasses);
      double sum = 0;
      for (const float value : row) sum += std::exp(double{value});
      for (const float value : row) {
        out.push_back(output_kind(model_->graph) == OutputKind::kScores ? value - std::log(sum) : std::log(double{value}));
      }
    }
    return out;
  }

  void expect_as_computed_whole() {
    const std::vector<double> p = whole(request_.beside);
    const std::vector<double> first = whole(request_.labels[0]);
    // Of each sample the class that the first plan takes most from.
    Labels worst;
    for (std::size_t n = 0; n < kSamples; ++n) {
      std::size_t most = n * kClasses;
      for (std::size_t i = most; i < (n + 1) * kClasses; ++i) {
        if (p[i] - first[i] > p[most] - first[most]) most = i;
      }
      worst.push_back(static_cast<std::int64_t>(most % kClasses));
    }
    label(worst);
    const auto seen = looks();
    ASSERT_TRUE(seen.has_value()) << seen.error().message;
    ASSERT_EQ(seen->labels.size(), request_.labels.size());
    for (std::size_t i = 0; i < request_.labels.size(); ++i) {
      SCOPED_TRACE(canonical_text(request_.labels[i]));
      ASSERT_TRUE(seen->labels[i].look.has_value()) << seen->labels[i].error;
      const LabelLook& look = *seen->labels[i].look;
      const std::vector<double> q = whole(request_.labels[i]);
      double kls = 0, leans = 0, squares = 0;
      for (std::size_t n = 0; n < kSamples; ++n) {
        double kl = 0;
        for (std::size_t c = n * kClasses; c < (n + 1) * kClasses; ++c) kl += std::exp(p[c]) * (p[c] - q[c]);
        const std::size_t own = n * kClasses + static_cast<std::size_t>(worst[n]);
        const double lean = p[own] - q[own] - kl;
        kls += kl;
        leans += lean;
        squares += lean * lean;
      }
      const double count = kSamples;
      const double error = std::sqrt((squares / count - std::pow(leans / count, 2)) / (count - 1));
      // One rounding in 10,000 may go the other way where a run is cut: a step's square beside a twelfth of it
      // as the noise of all, √0.0012 of a sample's lean, and four times that where samples fall badly.
      // The plans' difference is that noise and more. Floats of 24 bits add what they round, 2^-24 of scores
      // of a few units.
      const double off = 4 * std::sqrt(0.0012);
      EXPECT_NEAR(look.lean, leans / count, off * error + 0x1p-20);
      EXPECT_NEAR(look.error, error, off * error + 0x1p-20);
      EXPECT_NEAR(look.kl, kls / count, 2 * off * kls / count + 0x1p-20);
      EXPECT_EQ(look.samples, kSamples);
    }
    EXPECT_GT(seen->labels[0].look->lean, 4 * seen->labels[0].look->error) << "labels are the worst there are";
  }

  std::vector<Tensor> inputs_;
  std::optional<compress::PreparedModel> model_;
  std::optional<compress::Calibration> calibration_;
  LookRequest request_;
};

TEST_F(LabelLooksTest, ScoresAreComparedAsIfComputedWhole) { expect_as_computed_whole(); }

TEST_F(LabelLooksTest, ProbabilitiesAreComparedAsIfComputedWhole) {
  use(with_softmax());
  ASSERT_EQ(output_kind(model_->graph), OutputKind::kProbabilities);
  expect_as_computed_whole();
}

TEST_F(LabelLooksTest, ThePlanBesideLeansNowhereBesideItself) {
  label(some_labels());
  request_.labels = {request_.beside};
  const auto seen = looks();
  ASSERT_TRUE(seen.has_value());
  ASSERT_TRUE(seen->labels[0].look.has_value()) << seen->labels[0].error;
  EXPECT_EQ(seen->labels[0].look->lean, 0);
  EXPECT_EQ(seen->labels[0].look->kl, 0);
  EXPECT_EQ(seen->labels[0].look->error, 0);
}

TEST_F(LabelLooksTest, AnIntegerModelIsCutBetweenItsLayers) {
  const auto beside = compress::compress(*model_, *CompressionPlan::parse(request_.beside), &*calibration_);
  ASSERT_TRUE(beside.has_value());
  const auto points = BaselinePoints::make(beside->graph, inputs_, 1, [] { return Result<void>(); });
  ASSERT_TRUE(points.has_value()) << points.error().message;
  EXPECT_GE(points->points(), 4U);
  // From point to point it gives what it gives at once: each point is one of integers, or nothing is fused there.
  EXPECT_EQ(points->output().to_floats(), outputs(request_.beside).to_floats());
}

TEST_F(LabelLooksTest, WhereLabelsSayNothingThereIsNeitherLookNorError) {
  const auto expect_none = [&](const char* what) {
    SCOPED_TRACE(what);
    const auto seen = looks();
    ASSERT_TRUE(seen.has_value()) << seen.error().message;
    ASSERT_EQ(seen->labels.size(), request_.labels.size());
    for (const auto& one : seen->labels) {
      ASSERT_TRUE(one.look.has_value()) << one.error;
      EXPECT_EQ(one.look->samples, 0) << "nothing to say, and nobody asks again";
    }
    EXPECT_EQ(seen->statistics_seconds, 0) << "what no look needs isn't seen";
  };
  expect_none("unlabelled");
  calibration_->set_labels({{}, std::vector<float>(kSamples * kClasses, 0.5F)});
  expect_none("targets");
  label(some_labels(kSamples - 1));
  expect_none("labels of other samples");
  Labels few(kSamples, kClasses);
  std::fill_n(few.begin(), LabelledSamples::kFewest - 1, 1);
  label(few);
  expect_none("too few");
  few[kSamples - 1] = 1;
  label(few);
  const auto enough = looks();
  ASSERT_TRUE(enough.has_value());
  EXPECT_TRUE(enough->labels[0].look.has_value()) << "enough";

  const auto without = take_looks(*model_, nullptr, inputs_, request_, {}, nullptr, {});
  ASSERT_TRUE(without.has_value());
  ASSERT_TRUE(without->labels[0].look.has_value());
  EXPECT_EQ(without->labels[0].look->samples, 0);
}

TEST_F(LabelLooksTest, OutputsThatArentScoresOfAPlaceHaveNoLooks) {
  const auto samples = [&](Graph graph, std::int64_t classes) {
    use(std::move(graph));
    Labels labels = some_labels();
    for (auto& one : labels) one %= classes;
    label(labels);
    return labelled_samples(model_->graph, *calibration_, kSamples);
  };
  EXPECT_TRUE(samples(chain(), kClasses).has_value());
  Graph one = chain();
  one.outputs[0].shape[1] = 1;
  one.initializers["fc.w"] = normal_tensor({1, 16}, 77, 0.3F);
  one.initializers["fc.b"] = normal_tensor({1}, 78, 0.3F);
  EXPECT_FALSE(samples(one, 1).has_value()) << "one class";
  Graph map = chain();
  map.outputs = {{"c4.r", DType::kF32, {-1, 16, 12, 12}}};
  EXPECT_FALSE(samples(map, 12).has_value()) << "a map";
  Graph top = chain();
  top.nodes.push_back({"top", "ArgMax", "", {"out"}, {"class"}, {{"axis", std::int64_t{1}}}});
  top.outputs = {{"class", DType::kS64, {-1, 1}}};
  EXPECT_FALSE(samples(top, kClasses).has_value()) << "the class itself";
}

TEST_F(LabelLooksTest, ALabelBeyondTheClassesIsLeftOut) {
  Labels labels = some_labels();
  labels[3] = kClasses;
  labels[50] = -1;
  label(labels);
  const auto chosen = labelled_samples(model_->graph, *calibration_, 1000);
  ASSERT_TRUE(chosen.has_value());
  ASSERT_EQ(chosen->classes.size(), kSamples - 2U);
  ASSERT_EQ(chosen->inputs[0].dim(0), kSamples - 2);
  const std::size_t row = inputs_[0].bytes() / kSamples;
  EXPECT_EQ(chosen->classes[3], labels[4]);
  EXPECT_EQ(std::memcmp(chosen->inputs[0].raw() + 3 * row, inputs_[0].raw() + 4 * row, row), 0);
  EXPECT_EQ(chosen->classes[97], labels[99]);
  EXPECT_EQ(std::memcmp(chosen->inputs[0].raw() + 97 * row, inputs_[0].raw() + 99 * row, row), 0);
  const auto seen = looks();
  ASSERT_TRUE(seen.has_value());
  ASSERT_TRUE(seen->labels[0].look.has_value()) << seen->labels[0].error;
  EXPECT_EQ(seen->labels[0].look->samples, kSamples - 2);
}

TEST_F(LabelLooksTest, NoMoreSamplesThanAsked) {
  label(some_labels());
  request_.label_samples = 80;
  const auto seen = looks();
  ASSERT_TRUE(seen.has_value());
  ASSERT_TRUE(seen->labels[0].look.has_value()) << seen->labels[0].error;
  EXPECT_EQ(seen->labels[0].look->samples, 80);
  const auto chosen = labelled_samples(model_->graph, *calibration_, 80);
  EXPECT_EQ(chosen->classes[79], some_labels()[98]) << "evenly spaced, not the first";
}

TEST_F(LabelLooksTest, AModelThatIsAsSureAsItIsRightIsAskedNothing) {
  Graph sure = chain();
  Tensor& weights = sure.initializers["fc.w"];
  const auto old = weights.as<float>();
  std::vector<float> larger(old.begin(), old.end());
  for (float& weight : larger) weight *= 20;
  weights = Tensor::f32(weights.shape(), larger);
  use(std::move(sure));
  request_.if_overconfident = true;
  const auto f32 = BaselinePoints::make(model_->graph, inputs_, 1, [] { return Result<void>(); });
  ASSERT_TRUE(f32.has_value());
  const auto outputs = f32->output().as<float>();
  // Labels that are never what the model says, and always.
  Labels wrong, right;
  for (std::size_t n = 0; n < static_cast<std::size_t>(kSamples); ++n) {
    const auto row = outputs.subspan(n * kClasses, kClasses);
    right.push_back(std::max_element(row.begin(), row.end()) - row.begin());
    wrong.push_back(std::min_element(row.begin(), row.end()) - row.begin());
  }
  label(wrong);
  auto seen = looks();
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->labels[0].look->samples, kSamples);
  label(right);
  seen = looks();
  ASSERT_TRUE(seen.has_value());
  for (const auto& one : seen->labels) EXPECT_EQ(one.look->samples, 0);
}

TEST_F(LabelLooksTest, AnImpossiblePlanIsItsLooksErrorAndOneBesideIsAll) {
  label(some_labels());
  request_.labels[0] = with("nobody", four());
  auto seen = looks();
  ASSERT_TRUE(seen.has_value());
  EXPECT_NE(seen->labels[0].error.find("nobody"), std::string::npos) << seen->labels[0].error;
  EXPECT_TRUE(seen->labels[1].look.has_value());
  request_.beside = with("nothing", four());
  seen = looks();
  ASSERT_TRUE(seen.has_value());
  for (std::size_t i = 0; i < seen->labels.size(); ++i) {
    EXPECT_FALSE(seen->labels[i].look.has_value());
    EXPECT_NE(seen->labels[i].error.find("nothing"), std::string::npos) << seen->labels[i].error;
  }
}

TEST_F(LabelLooksTest, WhatThereIsNoTimeForIsLeftOut) {
  label(some_labels());
  request_.seconds = 1e-9;
  const auto seen = looks();
  ASSERT_TRUE(seen.has_value());
  ASSERT_EQ(seen->labels.size(), 3U);
  for (const auto& one : seen->labels) {
    EXPECT_FALSE(one.look.has_value());
    EXPECT_TRUE(one.error.empty()) << one.error;
  }
}

TEST_F(LabelLooksTest, CancellingEndsThemBetweenBatches) {
  label(some_labels());
  LookSettings settings;
  int asked = 0;
  settings.cancelled = [&] {
    ++asked;
    return false;
  };
  ASSERT_TRUE(looks(settings).has_value());
  const int all = asked;
  for (const int after : {0, all / 2, all - 1}) {
    asked = 0;
    settings.cancelled = [&] { return ++asked > after; };
    const auto seen = looks(settings);
    ASSERT_FALSE(seen.has_value()) << after;
    EXPECT_EQ(seen.error().code, ErrorCode::kCancelled);
  }
}

TEST_F(LabelLooksTest, StagesGiveWhatEachGivesByItself) {
  const auto points = cut_points(model_->graph);
  ASSERT_GE(points.size(), 2U);
  const auto& value = points[1].value;
  Labels all(kSamples);
  std::iota(all.begin(), all.end(), 0);
  const auto go_on = [] { return Result<void>(); };
  auto head = Compiled::make(head_of(model_->graph, value), inputs_, {.batch = 16});  // 100 = 6 batches and 4
  ASSERT_TRUE(head.has_value());
  const Tensor between = *run_samples(*head, inputs_, all, go_on);
  auto tail = Compiled::make(tail_of(model_->graph, value), {between}, {.batch = 16});
  ASSERT_TRUE(tail.has_value());
  const Tensor end = *run_samples(*tail, {between}, all, go_on);
  const std::vector<Compiled*> stages = {&*head, &*tail};
  const auto both = run_stages(stages, inputs_, all, KeptRows::kOfAll, go_on);
  ASSERT_TRUE(both.has_value()) << both.error().message;
  ASSERT_EQ(both->size(), 2U);
  EXPECT_EQ((*both)[0].to_floats(), between.to_floats());
  EXPECT_EQ((*both)[1].to_floats(), end.to_floats());
  const auto last = run_stages(stages, inputs_, all, KeptRows::kOfLast, go_on);
  ASSERT_TRUE(last.has_value());
  ASSERT_EQ(last->size(), 1U);
  EXPECT_EQ((*last)[0].to_floats(), end.to_floats());
}

}  // namespace
}  // namespace kerf::measure
