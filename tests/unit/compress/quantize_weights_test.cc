#include "workers/compress/quantize_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using testing::Numbers;
using testing::Shape;
using testing::Tensor;

/// The element's channel along the axis.
std::size_t channel_of(std::size_t i, const Shape& shape, std::size_t axis) {
  std::size_t inner = 1;
  for (std::size_t k = axis + 1; k < shape.size(); ++k) inner *= static_cast<std::size_t>(shape[k]);
  return i / inner % static_cast<std::size_t>(shape[axis]);
}

double squared_error(const Tensor& weights, const QuantizedWeights& quantized, std::size_t axis) {
  const auto w = weights.to_floats();
  const auto v = dequantize(quantized, axis).to_floats();
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) sum += std::pow(static_cast<double>(w[i]) - v[i], 2);
  return sum;
}

TEST(QuantizeWeights, MinMaxFollowsTheFormulaForAllBitsAndAxes) {
  Numbers numbers(1);
  for (const std::size_t axis : {0U, 1U}) {
    const Tensor weights = numbers.tensor({6, 5, 3, 3});
    const auto w = weights.to_floats();
    for (int bits = 2; bits <= 8; ++bits) {
      const auto got = quantize_weights(weights, axis, {bits, true, "minmax"});
      ASSERT_TRUE(got.has_value());
      const int top = (1 << (bits - 1)) - 1;
      const auto q = got->values.as<std::int8_t>();
      std::vector<double> largest(static_cast<std::size_t>(weights.dim(axis)), 0);
      for (std::size_t i = 0; i < w.size(); ++i) {
        double& m = largest[channel_of(i, weights.shape(), axis)];
        m = std::max(m, std::fabs(static_cast<double>(w[i])));
      }
      ASSERT_EQ(got->scales.size(), largest.size());
      for (std::size_t i = 0; i < w.size(); ++i) {
        const std::size_t c = channel_of(i, weights.shape(), axis);
        EXPECT_NEAR(got->scales[c], largest[c] / top, largest[c] * 1e-6);
        EXPECT_LE(std::abs(static_cast<int>(q[i])), top);
        // Nearest: no other integer is closer.
        EXPECT_LE(std::fabs(w[i] - static_cast<double>(got->scales[c]) * q[i]),
                  0.5 * static_cast<double>(got->scales[c]) * (1 + 1e-5));
      }
    }
  }
}

TEST(QuantizeWeights, TiesRoundToEven) {
  // scale 1: the largest is 127.
  const auto got = quantize_weights(Tensor::f32({1, 6}, {127, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F}), 0,
                                    {8, true, "minmax"});
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->values.to_integers(), (std::vector<std::int64_t>{127, 0, 2, 2, 0, -2}));
}

TEST(QuantizeWeights, PerTensorHasOneScale) {
  const auto got = quantize_weights(Tensor::f32({2, 2}, {1, -2, 0.5F, 4}), 0, {8, false, "minmax"});
  ASSERT_TRUE(got.has_value());
  ASSERT_EQ(got->scales.size(), 1U);
  EXPECT_FLOAT_EQ(got->scales[0], 4.0F / 127);
}

TEST(QuantizeWeights, PercentileIsLinearBetweenOrderStatistics) {
  std::vector<float> values;
  for (int i = 0; i <= 1000; ++i) values.push_back(static_cast<float>(i));
  auto copy = values;
  EXPECT_FLOAT_EQ(percentile(copy, 99.9), 999.0F);
  copy = {4, 1, 2, 3};
  EXPECT_FLOAT_EQ(percentile(copy, 50), 2.5F);
  copy = {7};
  EXPECT_FLOAT_EQ(percentile(copy, 99.9), 7.0F);
  values.back() = 1e6F;  // an outlier doesn't widen the range
  const auto got = quantize_weights(Tensor::f32({1, 1001}, values), 0, {8, true, "percentile"});
  ASSERT_TRUE(got.has_value());
  EXPECT_FLOAT_EQ(got->scales[0], 999.0F / 127);
  EXPECT_EQ(got->values.to_integers().back(), 127);
}

TEST(QuantizeWeights, MseIsNearTheBestOfAFineSearch) {
  Numbers numbers(9);
  for (int bits = 2; bits <= 8; ++bits) {
    const Tensor weights = numbers.tensor({1, 2000});
    const auto got = quantize_weights(weights, 0, {bits, true, "mse"});
    ASSERT_TRUE(got.has_value());
    // Reference: 2000 thresholds in double.
    const auto w = weights.to_floats();
    const double top = (1 << (bits - 1)) - 1;
    double largest = 0;
    for (const float value : w) largest = std::max(largest, std::fabs(static_cast<double>(value)));
    double best = std::numeric_limits<double>::infinity();
    for (int i = 1; i <= 2000; ++i) {
      const double scale = largest * i / 2000 / top;
      double error = 0;
      for (const float value : w) {
        const double q = std::clamp(std::nearbyint(value / scale), -top, top);
        error += std::pow(value - scale * q, 2);
      }
      best = std::min(best, error);
    }
    const double mine = squared_error(weights, *got, 0);
    EXPECT_LE(mine, best * 1.01) << bits;
    const auto plain = quantize_weights(weights, 0, {bits, true, "minmax"});
    EXPECT_LE(mine, squared_error(weights, *plain, 0) * (1 + 1e-6)) << bits;
  }
}

TEST(QuantizeWeights, EntropyIsMse) {
  Numbers numbers(4);
  const Tensor weights = numbers.tensor({3, 40});
  const auto a = quantize_weights(weights, 0, {4, true, "entropy"});
  const auto b = quantize_weights(weights, 0, {4, true, "mse"});
  EXPECT_EQ(a->scales, b->scales);
}

TEST(QuantizeWeights, ZerosDenormalsAndOutliersGiveFiniteScales) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float huge = std::numeric_limits<float>::max();
  const Tensor weights = Tensor::f32({4, 2}, {0, 0, tiny, -tiny, huge, 1, -huge, huge});
  for (const std::string range : {"minmax", "percentile", "mse", "entropy"}) {
    for (const int bits : {8, 2}) {
      const auto got = quantize_weights(weights, 0, {bits, true, range});
      ASSERT_TRUE(got.has_value());
      EXPECT_EQ(got->scales[0], 1.0F);
      for (const float scale : got->scales) {
        EXPECT_TRUE(std::isfinite(scale));
        EXPECT_GE(scale, std::numeric_limits<float>::min());
      }
      for (const float value : dequantize(*got, 0).to_floats())
        EXPECT_FALSE(std::isnan(value)) << range << bits;
    }
  }
}

TEST(QuantizeWeights, RefusesWhatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    const auto got = quantize_weights(Tensor::f32({1, 3}, {1, 2, bad}), 0, {8, true, "minmax"});
    ASSERT_FALSE(got.has_value());
    EXPECT_EQ(got.error().message, "weight 2 is not finite");
  }
}

TEST(QuantizeWeights, ZeroedWeightsStayZero) {
  const auto got = quantize_weights(Tensor::f32({1, 5}, {0, 0.9F, 0, -1, 0}), 0, {4, true, "mse"});
  ASSERT_TRUE(got.has_value());
  const auto q = got->values.to_integers();
  EXPECT_EQ(q[0], 0);
  EXPECT_EQ(q[2], 0);
  EXPECT_EQ(q[4], 0);
}

}  // namespace
}  // namespace kerf::compress
