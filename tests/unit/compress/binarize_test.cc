#include "workers/compress/binarize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/sign_activations.h"

namespace kerf::compress {
namespace {

using testing::Numbers;
using testing::Tensor;

/// Squared error of a channel's signs with a scale.
double sign_error(const std::vector<float>& weights, std::size_t begin, std::size_t end,
                  const std::vector<std::int64_t>& signs, double scale) {
  double sum = 0;
  for (std::size_t i = begin; i < end; ++i) {
    sum += std::pow(weights[i] - scale * static_cast<double>(signs[i]), 2);
  }
  return sum;
}

TEST(Binarize, ScaleAndSignsAreTheNearestProduct) {
  const Tensor weights = Numbers(7).tensor({5, 12});
  const auto out = binarize(weights, 0, true);
  ASSERT_TRUE(out.has_value());
  const auto values = weights.to_floats();
  const auto signs = out->values.to_integers();
  for (std::size_t c = 0; c < 5; ++c) {
    const double best = sign_error(values, c * 12, c * 12 + 12, signs, out->scales[c]);
    // All 2^12 choices of signs, each with the scale that suits it best.
    for (unsigned choice = 0; choice < 4096; ++choice) {
      auto others = signs;
      double product = 0;
      for (std::size_t i = 0; i < 12; ++i) {
        others[c * 12 + i] = (choice >> i & 1U) != 0 ? 1 : -1;
        product += values[c * 12 + i] * static_cast<double>(others[c * 12 + i]);
      }
      EXPECT_GE(sign_error(values, c * 12, c * 12 + 12, others, product / 12), best - 1e-5);
    }
  }
}

TEST(Binarize, AxisOneAndOneScaleForAll) {
  const Tensor weights = Tensor::f32({2, 2}, {1, -2, 3, -4});
  EXPECT_EQ(binarize(weights, 1, true)->scales, (std::vector<float>{2, 3}));
  EXPECT_EQ(binarize(weights, 0, true)->scales, (std::vector<float>{1.5F, 3.5F}));
  EXPECT_EQ(binarize(weights, 1, false)->scales, std::vector<float>{2.5F});
  EXPECT_EQ(binarize(weights, 1, true)->values.to_integers(), (std::vector<std::int64_t>{1, -1, 1, -1}));
}

TEST(Ternarize, FollowsTheThresholdOfThePaper) {
  // mean |w| = 1, so that the threshold is 0.7 and the scale the mean of 0.8, 1.2, 2.5.
  const Tensor weights = Tensor::f32({1, 6}, {0.8F, -1.2F, 2.5F, 0.7F, -0.6F, 0.2F});
  const auto out = ternarize(weights, 0, true);
  EXPECT_EQ(out->values.to_integers(), (std::vector<std::int64_t>{1, -1, 1, 0, 0, 0}));
  EXPECT_NEAR(out->scales[0], 1.5F, 1e-6);
}

TEST(Ternarize, IsNearerThanSigns) {
  const Tensor weights = Numbers(8).tensor({6, 300});
  const auto values = weights.to_floats();
  const auto two = binarize(weights, 0, true);
  const auto three = ternarize(weights, 0, true);
  for (std::size_t c = 0; c < 6; ++c) {
    EXPECT_LT(sign_error(values, c * 300, c * 300 + 300, three->values.to_integers(), three->scales[c]),
              sign_error(values, c * 300, c * 300 + 300, two->values.to_integers(), two->scales[c]));
  }
}

TEST(Signs, ZeroAndDenormalChannelsBecomeZeros) {
  const Tensor weights = Tensor::f32({3, 2}, {0, 0, 1e-41F, -1e-41F, 3e38F, -3e38F});
  for (const auto& out : {binarize(weights, 0, true), ternarize(weights, 0, true)}) {
    ASSERT_TRUE(out.has_value());
    EXPECT_EQ(out->values.to_integers(), (std::vector<std::int64_t>{0, 0, 0, 0, 1, -1}));
    EXPECT_EQ(out->scales, (std::vector<float>{1, 1, 3e38F}));
  }
  EXPECT_FALSE(binarize(Tensor::f32({1, 1}, {NAN}), 0, true).has_value());
}

TEST(Signs, ScaleOfActivationsIsTheMeanOfWhatIsNotZero) {
  ValueStatistics statistics;
  ASSERT_TRUE(statistics.add(std::vector<float>{0, 0, 1, 3, -2, 0, 4, 0}, 2));
  EXPECT_NEAR(sign_scale(statistics), 2.5F, 4.0F / ValueStatistics::kBins * 2);
  ValueStatistics nothing;
  ASSERT_TRUE(nothing.add(std::vector<float>{0, 0}, 1));
  EXPECT_EQ(sign_scale(nothing), 1.0F);
}

}  // namespace
}  // namespace kerf::compress
