#include "workers/compress/quantize_asymmetric.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/quantize_groups.h"

namespace kerf::compress {
namespace {

using testing::Numbers;
using testing::Tensor;

double squared_distance(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    sum += std::pow(static_cast<double>(a.as<float>()[i]) - b.as<float>()[i], 2);
  }
  return sum;
}

/// Weights that are anything but centred.
Tensor shifted(std::uint32_t seed, const graph::Shape& shape) {
  Tensor out = Numbers(seed).tensor(shape);
  for (float& value : out.mutable_as<float>()) value = value * 0.3F + 0.8F;
  return out;
}

TEST(QuantizeAsymmetric, IsTheFormulaForEveryNumberOfBits) {
  const Tensor weights = shifted(2, {4, 7, 3});
  for (int bits = 2; bits <= 8; ++bits) {
    for (const std::size_t axis : {0U, 1U}) {
      const auto out = quantize_asymmetric(weights, axis, {bits, true, "minmax"});
      ASSERT_TRUE(out.has_value());
      const auto channels = static_cast<std::size_t>(weights.dim(axis));
      const int least = -(1 << (bits - 1));
      for (std::size_t c = 0; c < channels; ++c) {
        double low = 0;
        double high = 0;
        const auto each = [&](const auto& visit) {
          for (std::size_t i = 0; i < weights.as<float>().size(); ++i) {
            if ((axis == 0 ? i / 21 : i / 3 % 7) == c) visit(i);
          }
        };
        each([&](std::size_t i) {
          low = std::min<double>(low, weights.as<float>()[i]);
          high = std::max<double>(high, weights.as<float>()[i]);
        });
        const auto scale = static_cast<float>((high - low) / ((1 << bits) - 1));
        EXPECT_EQ(out->scales[c], scale);
        EXPECT_EQ(out->zeros[c], std::nearbyint(least - low / scale));
        each([&](std::size_t i) {
          const double q = std::nearbyint(weights.as<float>()[i] / static_cast<double>(scale)) + out->zeros[c];
          EXPECT_EQ(out->values.as<std::int8_t>()[i],
                    std::min<double>(std::max<double>(q, least), least + (1 << bits) - 1));
        });
      }
    }
  }
}

TEST(QuantizeAsymmetric, IsNearerThanSymmetricWhereWeightsAreNotCentred) {
  const Tensor weights = shifted(3, {8, 50});
  for (const std::string range : {"minmax", "percentile", "entropy", "mse"}) {
    const WeightQuantization how{4, true, range};
    const double with = squared_distance(weights, dequantize(*quantize_asymmetric(weights, 0, how), 0));
    const double without = squared_distance(weights, dequantize(*quantize_weights(weights, 0, how), 0));
    EXPECT_LT(with, without * 0.7) << range;
  }
}

TEST(QuantizeAsymmetric, ClippingByErrorIsNeverWorseThanNone) {
  Tensor weights = shifted(4, {8, 200});
  weights.mutable_as<float>()[5] = 9;  // an outlier
  for (const int bits : {2, 3, 4, 8}) {
    const auto error = [&](const std::string& range) {
      return squared_distance(weights, dequantize(*quantize_asymmetric(weights, 0, {bits, true, range}), 0));
    };
    EXPECT_LE(error("mse"), error("minmax")) << bits;
    EXPECT_EQ(error("entropy"), error("mse"));
  }
}

TEST(QuantizeAsymmetric, ZeroIsExactAndEdgesAreDefined) {
  const Tensor weights = Tensor::f32({4, 3}, {0, 0, 0, 5, 6, 7, -1e-41F, 0, 1e-41F, -8, 0, 1e30F});
  for (const std::string range : {"minmax", "percentile", "mse"}) {
    const auto out = quantize_asymmetric(weights, 0, {4, true, range});
    ASSERT_TRUE(out.has_value());
    EXPECT_EQ(out->scales[0], 1.0F);
    EXPECT_EQ(out->zeros[0], 0);
    const auto back = dequantize(*out, 0).to_floats();
    for (const float value : back) EXPECT_TRUE(std::isfinite(value));
    for (const std::size_t zero : {0U, 7U, 10U}) EXPECT_EQ(back[zero], 0.0F);
    for (const float scale : out->scales) EXPECT_GE(scale, std::numeric_limits<float>::min());
  }
  EXPECT_FALSE(quantize_asymmetric(Tensor::f32({1, 2}, {3e38F, -3e38F}), 0, {2, true, "minmax"}).has_value());
  EXPECT_FALSE(quantize_asymmetric(Tensor::f32({1, 2}, {1, NAN}), 0, {2, true, "minmax"}).has_value());
}

TEST(QuantizeGroups, EachGroupIsQuantizedAlone) {
  for (const std::size_t axis : {0U, 1U}) {
    const Tensor weights = axis == 0 ? shifted(5, {3, 10}) : shifted(5, {10, 3});
    for (const bool symmetric : {true, false}) {
      for (const std::int64_t group : {4, 5}) {
        const WeightQuantization how{4, true, "mse"};
        const auto out = quantize_groups(weights, axis, group, symmetric, how);
        ASSERT_TRUE(out.has_value());
        EXPECT_EQ(out->group, group);
        const std::int64_t groups = (10 + group - 1) / group;
        ASSERT_EQ(out->scales.size(), static_cast<std::size_t>(3 * groups));
        const Tensor back = dequantize(*out, axis);
        for (std::int64_t c = 0; c < 3; ++c) {
          for (std::int64_t g = 0; g < groups; ++g) {
            std::vector<float> part;
            std::vector<std::size_t> places;
            for (std::int64_t i = g * group; i < std::min<std::int64_t>(10, (g + 1) * group); ++i) {
              places.push_back(static_cast<std::size_t>(axis == 0 ? c * 10 + i : i * 3 + c));
              part.push_back(weights.as<float>()[places.back()]);
            }
            const Tensor alone = Tensor::f32({1, static_cast<std::int64_t>(part.size())}, part);
            const auto wanted = symmetric ? quantize_weights(alone, 0, how) : quantize_asymmetric(alone, 0, how);
            const auto expected = dequantize(*wanted, 0).to_floats();
            for (std::size_t i = 0; i < places.size(); ++i) {
              EXPECT_EQ(back.as<float>()[places[i]], expected[i]);
            }
            const auto k = static_cast<std::size_t>(axis == 0 ? c * groups + g : g * 3 + c);
            EXPECT_EQ(out->scales[k], wanted->scales[0]);
          }
        }
      }
    }
  }
}

TEST(QuantizeGroups, AreNearerThanChannels) {
  Tensor weights = Numbers(6).tensor({16, 256});
  for (std::size_t i = 0; i < 4096; ++i) weights.mutable_as<float>()[i] *= i / 64 % 4 == 0 ? 4.0F : 0.5F;
  const WeightQuantization how{4, true, "minmax"};
  EXPECT_LT(squared_distance(weights, dequantize(*quantize_groups(weights, 0, 64, true, how), 0)),
            squared_distance(weights, dequantize(*quantize_weights(weights, 0, how), 0)) * 0.5);
}

}  // namespace
}  // namespace kerf::compress
