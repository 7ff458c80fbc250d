#include "workers/measure/accuracy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Tensor;
using testing::HasSubstr;

data::BoundData classes(std::vector<std::int64_t> labels) {
  data::BoundData data;
  data.samples = static_cast<std::int64_t>(labels.size());
  data.classes = std::move(labels);
  return data;
}

data::BoundData unlabelled(std::int64_t samples) {
  data::BoundData data;
  data.samples = samples;
  return data;
}

Measurement report(const QualityMeter& meter) {
  Measurement out;
  meter.report(out);
  return out;
}

// numpy.random.default_rng(7).normal(size=(4, 3)).round(2), and with noise of 0.2.
const Tensor kBase = Tensor::f32({4, 3}, {0.0F, 0.3F, -0.27F, -0.89F, -0.45F, -0.99F, 0.06F, 1.34F,
                                          -0.49F, -0.62F, 0.49F, 0.36F});
const Tensor kCandidate = Tensor::f32({4, 3}, {0.02F, 0.11F, -0.28F, -0.75F, -0.72F, -1.08F, -0.32F,
                                               1.08F, -0.86F, -0.67F, 0.24F, 0.41F});

TEST(Quality, CountsTopOneWithItsWilsonInterval) {
  QualityMeter meter(OutputKind::kScores);
  ASSERT_TRUE(meter.add(kCandidate, nullptr, classes({1, 0, 1, 2})).has_value());
  const Measurement out = report(meter);
  EXPECT_EQ(out.samples, 4);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy"), 0.75);
  EXPECT_EQ(out.ci95.at("accuracy"), wilson_interval(3, 4));
  EXPECT_DOUBLE_EQ(out.metrics.at("top5"), 1);
  for (const char* absent : {"accuracy_drop", "agreement", "kl", "sqnr_db", "mae", "rmse", "cross_entropy_rise"}) {
    EXPECT_FALSE(out.metrics.contains(absent)) << absent;
  }
}

TEST(Quality, DropIsBaselineMinusCandidateOnTheSameSamples) {
  QualityMeter meter(OutputKind::kScores);
  // Top classes: baseline 1 1 1 1, candidate 1 1 1 2.
  ASSERT_TRUE(meter.add(kCandidate, &kBase, classes({1, 0, 1, 1})).has_value());
  const Measurement out = report(meter);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy"), 0.5);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy_drop"), 0.25);
  EXPECT_EQ(out.ci95.at("accuracy_drop"), paired_difference_interval(1, 0, 4));
  EXPECT_DOUBLE_EQ(out.metrics.at("agreement"), 0.75);
  EXPECT_EQ(out.ci95.at("agreement"), wilson_interval(3, 4));
}

TEST(Quality, DivergenceAndNoiseEqualIndependentValues) {
  QualityMeter meter(OutputKind::kScores);
  ASSERT_TRUE(meter.add(kCandidate, &kBase, unlabelled(4)).has_value());
  const Measurement out = report(meter);
  // scipy.special.softmax and log_softmax, NumPy 2.4.6 and SciPy 1.17.1.
  EXPECT_NEAR(out.metrics.at("kl"), 0.007759233751397345, 1e-8);
  const double half = kZ95 * 0.005977750691882538 / 2;
  EXPECT_NEAR(out.ci95.at("kl")[1], 0.007759233751397345 + half, 1e-8);
  EXPECT_NEAR(out.metrics.at("sqnr_db"), 9.497389210824362, 1e-5);
  EXPECT_LT(out.ci95.at("sqnr_db")[0], out.metrics.at("sqnr_db"));
  EXPECT_GT(out.ci95.at("sqnr_db")[1], out.metrics.at("sqnr_db"));
  EXPECT_FALSE(out.metrics.contains("accuracy"));
}

TEST(Quality, ProbabilitiesAreTakenAsTheyAre) {
  QualityMeter meter(OutputKind::kProbabilities);
  const Tensor base = Tensor::f32({4, 3}, {0.321F, 0.434F, 0.245F, 0.289F, 0.449F, 0.262F, 0.193F,
                                           0.695F, 0.112F, 0.149F, 0.453F, 0.398F});
  const Tensor candidate = Tensor::f32({4, 3}, {0.353F, 0.386F, 0.261F, 0.364F, 0.375F, 0.261F,
                                                0.177F, 0.719F, 0.103F, 0.156F, 0.386F, 0.458F});
  ASSERT_TRUE(meter.add(candidate, &base, unlabelled(4)).has_value());
  EXPECT_NEAR(report(meter).metrics.at("kl"), 0.008079530161151462, 1e-7);
}

TEST(Quality, AProbabilityThatVanishedIsFlooredNotInfinite) {
  QualityMeter meter(OutputKind::kProbabilities);
  const Tensor base = Tensor::f32({1, 2}, {0.5F, 0.5F});
  const Tensor candidate = Tensor::f32({1, 2}, {1, 0});
  ASSERT_TRUE(meter.add(candidate, &base, unlabelled(1)).has_value());
  EXPECT_NEAR(report(meter).metrics.at("kl"), 0.5 * std::log(0.5) + 0.5 * std::log(0.5 / 1e-12), 1e-6);
}

TEST(Quality, CrossEntropyIsOfTheLabelsAndItsRiseIsPaired) {
  // Of the label the baseline says 3/4 and 1/2, the candidate 1/2 and 4/5.
  const Tensor base = Tensor::f32({2, 2}, {std::log(3.0F), 0, 5, 5});
  const Tensor candidate = Tensor::f32({2, 2}, {-7, -7, 1, 1 + std::log(4.0F)});
  QualityMeter meter(OutputKind::kScores);
  ASSERT_TRUE(meter.add(candidate, &base, classes({0, 1})).has_value());
  const Measurement out = report(meter);
  const double first = std::log(2.0) - std::log(4.0 / 3);
  const double second = std::log(1.25) - std::log(2.0);
  EXPECT_NEAR(out.metrics.at("cross_entropy"), (std::log(2.0) + std::log(1.25)) / 2, 1e-6);
  EXPECT_NEAR(out.metrics.at("cross_entropy_rise"), (first + second) / 2, 1e-6);
  const double half = kZ95 * std::abs(first - second) / 2;  // two samples: deviation |a − b|/√2
  EXPECT_NEAR(out.ci95.at("cross_entropy_rise")[0], (first + second) / 2 - half, 1e-6);
  EXPECT_NEAR(out.ci95.at("cross_entropy_rise")[1], (first + second) / 2 + half, 1e-6);
  EXPECT_EQ(out.ci95.at("cross_entropy")[0], 0) << "an entropy isn't negative";

  QualityMeter probabilities(OutputKind::kProbabilities);
  ASSERT_TRUE(probabilities
                  .add(Tensor::f32({2, 2}, {0.5F, 0.5F, 1, 0}), nullptr, classes({0, 1}))
                  .has_value());
  EXPECT_NEAR(report(probabilities).metrics.at("cross_entropy"), (std::log(2.0) - std::log(1e-12)) / 2, 1e-6);
  EXPECT_FALSE(report(probabilities).metrics.contains("cross_entropy_rise")) << "nothing to compare with";
}

TEST(Quality, ShardsAddUpToTheWhole) {
  QualityMeter whole(OutputKind::kScores);
  ASSERT_TRUE(whole.add(kCandidate, &kBase, classes({1, 0, 1, 2})).has_value());
  QualityMeter parts(OutputKind::kScores);
  const std::vector<std::int64_t> labels = {1, 0, 1, 2};
  for (std::int64_t i = 0; i < 4; ++i) {
    const Tensor base = data::rows(kBase, i, i + 1);
    ASSERT_TRUE(parts.add(data::rows(kCandidate, i, i + 1), &base,
                          classes({labels[static_cast<std::size_t>(i)]})).has_value());
  }
  const Measurement a = report(whole);
  const Measurement b = report(parts);
  ASSERT_EQ(a.metrics.size(), b.metrics.size());
  for (const auto& [name, value] : a.metrics) EXPECT_DOUBLE_EQ(value, b.metrics.at(name)) << name;
}

TEST(Quality, EqualOutputsHaveNoLossAndTheLargestSqnr) {
  QualityMeter meter(OutputKind::kScores);
  ASSERT_TRUE(meter.add(kBase, &kBase, classes({1, 1, 1, 1})).has_value());
  const Measurement out = report(meter);
  EXPECT_EQ(out.metrics.at("accuracy_drop"), 0);
  EXPECT_EQ(out.metrics.at("agreement"), 1);
  EXPECT_EQ(out.metrics.at("kl"), 0);
  EXPECT_EQ(out.metrics.at("sqnr_db"), 200);
}

TEST(Quality, TiesGoToTheLowestClass) {
  QualityMeter meter(OutputKind::kScores);
  ASSERT_TRUE(meter.add(Tensor(DType::kF32, {2, 10}), nullptr, classes({0, 5})).has_value());
  const Measurement out = report(meter);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy"), 0.5);
  EXPECT_DOUBLE_EQ(out.metrics.at("top5"), 0.5) << "class 5 is the sixth of ten equal ones";
}

TEST(Quality, NotANumberIsWrongAndCounted) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  QualityMeter meter(OutputKind::kScores);
  const Tensor broken = Tensor::f32({3, 2}, {nan, nan, nan, 1, 0, 1});
  const Tensor base = Tensor::f32({3, 2}, {1, 0, 0, 1, 0, 1});
  ASSERT_TRUE(meter.add(broken, &base, classes({0, 1, 1})).has_value());
  const Measurement out = report(meter);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(out.metrics.at("agreement"), 2.0 / 3);
  EXPECT_EQ(meter.not_finite(), 2);
  EXPECT_FALSE(out.metrics.contains("kl"));
  EXPECT_FALSE(out.metrics.contains("sqnr_db"));
}

TEST(Quality, MaskedScoresLeaveTheDivergenceFinite) {
  const float minus = -std::numeric_limits<float>::infinity();
  QualityMeter meter(OutputKind::kScores);
  const Tensor scores = Tensor::f32({1, 3}, {1, 2, minus});
  ASSERT_TRUE(meter.add(scores, &scores, unlabelled(1)).has_value());
  EXPECT_EQ(report(meter).metrics.at("kl"), 0);
}

TEST(Quality, RegressionHasErrorsAndTheirIntervals) {
  QualityMeter meter(OutputKind::kScores);
  data::BoundData labels = unlabelled(4);
  labels.targets = {1, 2, 3, 4};
  ASSERT_TRUE(meter.add(Tensor::f32({4, 1}, {1, 3, 1, 4}), nullptr, labels).has_value());
  const Measurement out = report(meter);
  EXPECT_DOUBLE_EQ(out.metrics.at("mae"), 0.75);
  EXPECT_DOUBLE_EQ(out.metrics.at("rmse"), std::sqrt(1.25));
  EXPECT_NEAR(out.ci95.at("mae")[1], 0.75 + kZ95 * std::sqrt(11.0 / 12) / 2, 1e-12);
  EXPECT_EQ(out.ci95.at("rmse")[0], 0);
  EXPECT_FALSE(out.metrics.contains("accuracy"));
}

TEST(Quality, OneValueASampleHasNoClasses) {
  QualityMeter meter(OutputKind::kScores);
  const Tensor base = Tensor::f32({2, 1}, {1, 2});
  const Tensor candidate = Tensor::f32({2, 1}, {1, 2.1F});
  ASSERT_TRUE(meter.add(candidate, &base, unlabelled(2)).has_value());
  const Measurement out = report(meter);
  EXPECT_FALSE(out.metrics.contains("agreement"));
  EXPECT_FALSE(out.metrics.contains("kl"));
  EXPECT_NEAR(out.metrics.at("sqnr_db"), 10 * std::log10(5 / 0.01), 1e-4);
}

TEST(Quality, TrailingOnesAreNoClasses) {
  QualityMeter meter(OutputKind::kScores);
  ASSERT_TRUE(meter.add(kCandidate.reshaped({4, 3, 1, 1}), nullptr, classes({1, 0, 1, 2})).has_value());
  EXPECT_DOUBLE_EQ(report(meter).metrics.at("accuracy"), 0.75);
}

TEST(Quality, MapsAgreePlaceByPlace) {
  QualityMeter meter(OutputKind::kScores);
  // [1, 2 classes, 2 × 2 places]: the candidate differs in one place of four.
  const Tensor base = Tensor::f32({1, 2, 2, 2}, {1, 1, 0, 0, 0, 0, 1, 1});
  const Tensor candidate = Tensor::f32({1, 2, 2, 2}, {1, 0, 0, 0, 0, 1, 1, 1});
  ASSERT_TRUE(meter.add(candidate, &base, unlabelled(1)).has_value());
  EXPECT_DOUBLE_EQ(report(meter).metrics.at("agreement"), 0.75);
  EXPECT_FALSE(QualityMeter(OutputKind::kScores).add(candidate, &base, classes({1})).has_value());
}

TEST(Quality, IntegerOutputsAreTheClass) {
  QualityMeter meter(OutputKind::kClasses);
  const Tensor base = Tensor::s64({3}, {4, 5, 6});
  const Tensor candidate = Tensor::s64({3}, {4, 5, 7});
  ASSERT_TRUE(meter.add(candidate, &base, classes({4, 1, 7})).has_value());
  const Measurement out = report(meter);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(out.metrics.at("agreement"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(out.metrics.at("accuracy_drop"), -1.0 / 3);
  EXPECT_FALSE(out.metrics.contains("kl"));
  EXPECT_FALSE(out.metrics.contains("top5"));
}

TEST(Quality, ShapesThatDoNotFitAreErrors) {
  QualityMeter meter(OutputKind::kScores);
  const Tensor other(DType::kF32, {4, 5});
  EXPECT_THAT(meter.add(kCandidate, &other, unlabelled(4)).error().message,
              HasSubstr("expected the baseline's [4, 5]"));
  EXPECT_THAT(meter.add(kCandidate, nullptr, unlabelled(3)).error().message,
              HasSubstr("expected one entry a sample"));
  data::BoundData targets = unlabelled(4);
  targets.targets = {1, 2, 3, 4};
  EXPECT_THAT(meter.add(kCandidate, nullptr, targets).error().message,
              HasSubstr("expected 1 floats a sample"));
}

TEST(ScoreNoise, IsWhatASoftmaxSees) {
  const Tensor base = Tensor::f32({2, 3}, {1, 2, 6, 0, 3, 3});
  // Of the first sample all scores go up alike, of the second one goes up by 3: 3² − 3²/3 of 14 and 6.
  const Tensor off = Tensor::f32({2, 3}, {5, 6, 10, 3, 3, 3});
  EXPECT_NEAR(score_noise(base, off, OutputKind::kScores), 6.0 / (14 + 6), 1e-12);
  EXPECT_EQ(score_noise(base, base, OutputKind::kScores), 0);
  // Probabilities of these scores say the same.
  const auto softmax = [](const Tensor& scores) {
    Tensor out = scores;
    const auto values = out.mutable_as<float>();
    for (std::size_t row = 0; row < values.size(); row += 3) {
      double sum = 0;
      for (std::size_t c = 0; c < 3; ++c) sum += std::exp(double{values[row + c]});
      for (std::size_t c = 0; c < 3; ++c) values[row + c] = static_cast<float>(std::exp(double{values[row + c]}) / sum);
    }
    return out;
  };
  EXPECT_NEAR(score_noise(softmax(base), softmax(off), OutputKind::kProbabilities), 6.0 / (14 + 6), 1e-5);
}

TEST(ScoreNoise, IsUnknownWhereThereAreNoScores) {
  const Tensor one = Tensor::f32({3, 1}, {1, 2, 3});
  EXPECT_TRUE(std::isnan(score_noise(one, one, OutputKind::kScores)));
  const Tensor classes = Tensor::s64({3}, {4, 5, 6});
  EXPECT_TRUE(std::isnan(score_noise(classes, classes, OutputKind::kClasses)));
  const Tensor two = Tensor::f32({1, 2}, {1, 2});
  EXPECT_TRUE(std::isnan(score_noise(two, Tensor::f32({1, 2}, {1, std::nanf("")}), OutputKind::kScores)));
  EXPECT_TRUE(std::isnan(score_noise(two, Tensor::f32({1, 3}, {1, 2, 3}), OutputKind::kScores)));
}

TEST(Quality, TheGraphSaysWhatItsOutputHolds) {
  graph::Graph graph;
  graph.inputs = {{"x", DType::kF32, {-1, 2}}};
  graph.outputs = {{"out", DType::kF32, {-1, 2}}};
  graph.nodes = {{"s", "Softmax", "", {"x"}, {"p"}, {}}, {"f", "Flatten", "", {"p"}, {"out"}, {}}};
  EXPECT_EQ(output_kind(graph), OutputKind::kProbabilities);
  graph.nodes[0].op = "Relu";
  EXPECT_EQ(output_kind(graph), OutputKind::kScores);
  graph.outputs[0].dtype = DType::kS64;
  EXPECT_EQ(output_kind(graph), OutputKind::kClasses);
}

}  // namespace
}  // namespace kerf::measure
