#include "workers/compress/activation_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using testing::Numbers;

ValueStatistics statistics_of(const std::vector<float>& values, std::int64_t samples = 1) {
  ValueStatistics out;
  EXPECT_TRUE(out.add(values, samples));
  return out;
}

/// Half-normal values with a few outliers, a third of them zero: what follows a Relu.
std::vector<float> after_relu(std::uint32_t seed, std::size_t count) {
  Numbers numbers(seed);
  std::vector<float> out(count);
  for (float& value : out) value = numbers.below(3) == 0 ? 0.0F : std::fabs(numbers.normal());
  out[count / 2] = 30;
  return out;
}

std::vector<float> normal(std::uint32_t seed, std::size_t count) {
  Numbers numbers(seed);
  std::vector<float> out(count);
  for (float& value : out) value = numbers.normal();
  out[count / 3] = -20;
  return out;
}

/// Mean squared error of rounding the values themselves.
double rounding_error(const std::vector<float>& values, const ActivationRange& range) {
  const double low = range.dtype == graph::DType::kU8 ? 0 : -127;
  const double high = range.dtype == graph::DType::kU8 ? 255 : 127;
  double sum = 0;
  for (const float value : values) {
    const double q = std::clamp(
        std::nearbyint(value / static_cast<double>(range.scale)) + range.zero_point, low, high);
    sum += std::pow(value - static_cast<double>(range.scale) * (q - range.zero_point), 2);
  }
  return sum / static_cast<double>(values.size());
}

TEST(Histogram, CountsEveryElementOnceWhateverTheOrder) {
  Numbers numbers(1);
  std::vector<float> values(3000);
  for (float& value : values) value = numbers.normal() * 3;
  std::sort(values.begin(), values.end(),
            [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  ValueStatistics statistics;  // growing: the smallest come first
  for (std::size_t i = 0; i < values.size(); i += 100) {
    ASSERT_TRUE(statistics.add(std::span(values).subspan(i, 100), 1));
  }
  EXPECT_EQ(statistics.count, 3000);
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.min),
                  *std::min_element(values.begin(), values.end()));
  EXPECT_FLOAT_EQ(static_cast<float>(statistics.max),
                  *std::max_element(values.begin(), values.end()));
  const auto total =
      std::accumulate(statistics.positive.begin(), statistics.positive.end(), std::int64_t{0}) +
      std::accumulate(statistics.negative.begin(), statistics.negative.end(), std::int64_t{0});
  EXPECT_EQ(total + statistics.zeros, 3000);
  // Each bin holds what lies in it, up to one bin of rounding at its edges.
  for (const std::size_t bin : {100U, 700U, 1500U}) {
    const double edge = statistics.bin_width * static_cast<double>(bin);
    const auto below = std::accumulate(statistics.positive.begin(),
                                       statistics.positive.begin() + bin, std::int64_t{0});
    const auto expected =
        std::count_if(values.begin(), values.end(), [&](float v) { return v > 0 && v < edge; });
    EXPECT_NEAR(static_cast<double>(below), static_cast<double>(expected), 12);
  }
}

TEST(Histogram, CountsLikeASlowOneForEveryScaleAndLength) {
  for (const float scale : {1e-42F, 1e-30F, 1.0F, 3e37F}) {
    for (const std::size_t length : {1U, 7U, 1024U, 2500U}) {
      Numbers numbers(static_cast<std::uint32_t>(length));
      std::vector<float> values(length);
      for (float& value : values) value = numbers.below(4) == 0 ? 0.0F : numbers.normal() * scale;
      values[0] = length > 1 ? -0.0F : scale;
      const ValueStatistics statistics = statistics_of(values);
      EXPECT_EQ(statistics.zeros, std::count(values.begin(), values.end(), 0.0F));
      std::vector<std::int64_t> positive(ValueStatistics::kBins, 0);
      std::vector<std::int64_t> negative(ValueStatistics::kBins, 0);
      for (const float value : values) {
        if (value == 0) continue;
        const double bin = std::floor(std::fabs(static_cast<double>(value)) / statistics.bin_width);
        ++(value > 0 ? positive : negative)[static_cast<std::size_t>(
            std::min(bin, static_cast<double>(ValueStatistics::kBins - 1)))];
      }
      // A value on an edge may fall to either side: compare sums up to each bin, one value of
      // slack.
      const auto compare = [&](const std::vector<std::int64_t>& a,
                               const std::vector<std::int64_t>& b) {
        ASSERT_EQ(a.size(), b.size());
        std::int64_t difference = 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
          ASSERT_GE(a[i], 0);
          difference += a[i] - b[i];
          EXPECT_LE(std::abs(difference), scale < 1e-40F ? 3 : 1)
              << scale << " " << length << " " << i;
        }
        EXPECT_EQ(difference, 0);
      };
      if (statistics.bin_width > 0) {
        compare(statistics.positive, positive);
        compare(statistics.negative, negative);
      }
    }
  }
}

TEST(Histogram, MeanIsElementByElement) {
  ValueStatistics statistics;
  ASSERT_TRUE(statistics.add(std::vector<float>{1, 2, 3, 5, 6, 7}, 2));
  ASSERT_TRUE(statistics.add(std::vector<float>{0, -2, 2}, 1));
  EXPECT_EQ(statistics.mean(), (std::vector<double>{2, 2, 4}));
  EXPECT_EQ(statistics.samples, 3);
}

TEST(Histogram, RefusesWhatIsNotFinite) {
  ValueStatistics statistics;
  EXPECT_FALSE(statistics.add(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()}, 1));
  EXPECT_FALSE(statistics.add(std::vector<float>{std::numeric_limits<float>::infinity()}, 1));
  EXPECT_EQ(statistics.count, 0);
}

TEST(ChooseRange, MinMaxTakesU8ForNonNegativeAndS8ForSigned) {
  const auto positive = choose_range(statistics_of({0, 1, 5.1F}), "minmax", true);
  EXPECT_EQ(positive.dtype, graph::DType::kU8);
  EXPECT_FLOAT_EQ(positive.scale, 5.1F / 255);
  EXPECT_EQ(positive.zero_point, 0);
  const auto both = choose_range(statistics_of({-2, 1, 0.5F}), "minmax", true);
  EXPECT_EQ(both.dtype, graph::DType::kS8);
  EXPECT_FLOAT_EQ(both.scale, 2.0F / 127);
  EXPECT_EQ(both.zero_point, 0);
  const auto shifted = choose_range(statistics_of({-1, 3, 0.5F}), "minmax", false);
  EXPECT_EQ(shifted.dtype, graph::DType::kU8);
  EXPECT_FLOAT_EQ(shifted.scale, 4.0F / 255);
  EXPECT_EQ(shifted.zero_point, 64);
}

TEST(ChooseRange, AllNegativeValuesKeepZeroInRange) {
  const auto range = choose_range(statistics_of({-2, -1, -4}), "minmax", false);
  EXPECT_EQ(range.zero_point, 255);
  EXPECT_FLOAT_EQ(range.scale, 4.0F / 255);
}

TEST(ChooseRange, ConstantZeroAndTinyValuesGiveUsableScales) {
  for (const std::string range : {"minmax", "percentile", "entropy", "mse"}) {
    for (const bool symmetric : {true, false}) {
      EXPECT_EQ(choose_range(statistics_of({0, 0, 0}), range, symmetric), ActivationRange{});
      for (const float value :
           {std::numeric_limits<float>::denorm_min(), -std::numeric_limits<float>::denorm_min(),
            std::numeric_limits<float>::max(), -std::numeric_limits<float>::max(), 3.0F}) {
        const auto got = choose_range(statistics_of({value, value, 0}), range, symmetric);
        EXPECT_TRUE(std::isfinite(got.scale)) << range << value;
        EXPECT_GE(got.scale, std::numeric_limits<float>::min()) << range << value;
        EXPECT_GE(got.zero_point, 0);
        EXPECT_LE(got.zero_point, 255);
      }
    }
  }
  EXPECT_EQ(choose_range(ValueStatistics{}, "mse", true), ActivationRange{});
}

TEST(ChooseRange, MovingAverageFollowsTheFormulaHoweverSamplesAreCut) {
  constexpr std::size_t kSize = 37;
  constexpr std::size_t kSamples = 50;
  Numbers numbers(15);
  std::vector<float> values(kSize * kSamples);
  for (float& value : values) value = numbers.normal() + 0.5F;
  values[20 * kSize] = 90;  // one odd sample
  double low = 0;
  double high = 0;
  for (std::size_t s = 0; s < kSamples; ++s) {
    const auto [least, most] = std::minmax_element(values.begin() + static_cast<std::ptrdiff_t>(s * kSize),
                                                   values.begin() + static_cast<std::ptrdiff_t>((s + 1) * kSize));
    low = s == 0 ? *least : 0.99 * low + 0.01 * *least;
    high = s == 0 ? *most : 0.99 * high + 0.01 * *most;
  }
  const ValueStatistics whole = statistics_of(values, kSamples);
  ValueStatistics parts;
  for (std::size_t s = 0; s < kSamples; s += 5) {
    ASSERT_TRUE(parts.add(std::span<const float>(values).subspan(s * kSize, 5 * kSize), 5));
  }
  for (const ValueStatistics* statistics : {&whole, static_cast<const ValueStatistics*>(&parts)}) {
    EXPECT_NEAR(statistics->moving.min, low, 1e-9);
    EXPECT_NEAR(statistics->moving.max, high, 1e-9);
    EXPECT_NEAR(choose_range(*statistics, "moving_average", true).scale, std::max(-low, high) / 127, 1e-6);
    const ActivationRange both = choose_range(*statistics, "moving_average", false);
    EXPECT_NEAR(both.scale, (high - low) / 255, 1e-6);
    EXPECT_EQ(both.zero_point, std::lround(-low / static_cast<double>(both.scale)));
  }
  EXPECT_GT(choose_range(whole, "minmax", true).scale, 10 * choose_range(whole, "moving_average", true).scale);
  for (float& value : values) value = std::fabs(value);
  const ActivationRange positive = choose_range(statistics_of(values, kSamples), "moving_average", true);
  EXPECT_EQ(positive.dtype, graph::DType::kU8);
  EXPECT_EQ(positive.zero_point, 0);
}

TEST(ChooseRange, PercentileIsTheSortedOneWithinABin) {
  for (const auto& values : {after_relu(1, 500000), normal(2, 500000)}) {
    const ValueStatistics statistics = statistics_of(values);
    std::vector<double> sorted;
    for (const float value : values) sorted.push_back(std::fabs(static_cast<double>(value)));
    std::sort(sorted.begin(), sorted.end());
    const double low = sorted[static_cast<std::size_t>(0.99999 * 500000) - 2];
    const double high = sorted[static_cast<std::size_t>(0.99999 * 500000) + 1];
    const auto range = choose_range(statistics, "percentile", true);
    const double threshold =
        static_cast<double>(range.scale) * (range.dtype == graph::DType::kU8 ? 255 : 127);
    EXPECT_GE(threshold, low - statistics.bin_width);
    EXPECT_LE(threshold, high + statistics.bin_width);
  }
}

TEST(ChooseRange, AsymmetricPercentileCutsEachEnd) {
  auto values = normal(3, 500000);
  values[7] = 40;
  values[8] = -25;
  const auto range = choose_range(statistics_of(values), "percentile", false);
  EXPECT_LT(static_cast<double>(range.scale) * 255, 10) << "normal values end at about ±5";
  EXPECT_NEAR(range.zero_point, 128, 12);
}

TEST(ChooseRange, MseIsNearTheBestThresholdOnTheValuesThemselves) {
  for (const bool symmetric : {true, false}) {
    for (const auto& values : {after_relu(4, 20000), normal(5, 20000)}) {
      const auto got = choose_range(statistics_of(values), "mse", symmetric);
      const auto plain = choose_range(statistics_of(values), "minmax", symmetric);
      // Reference: a search over thresholds, rounding every value.
      double best = std::numeric_limits<double>::infinity();
      for (int i = 1; i <= 300; ++i) {
        ActivationRange range = plain;
        range.scale = plain.scale * static_cast<float>(i) / 300;
        best = std::min(best, rounding_error(values, range));
      }
      EXPECT_LE(rounding_error(values, got), best * 1.05);
      EXPECT_LT(rounding_error(values, got), rounding_error(values, plain));
    }
  }
}

/// The squared error of a threshold, bin by bin: rounding as uniform below it, clipping above.
double naive_squared_error(const std::vector<double>& bins, double threshold_bin, double steps) {
  double error = 0;
  for (std::size_t i = 0; i < bins.size(); ++i) {
    const double x = static_cast<double>(i) + 0.5;
    const double off = x < threshold_bin ? threshold_bin / steps / std::sqrt(12.0) : x - threshold_bin;
    error += bins[i] * off * off;
  }
  return error;
}

/// The method as its paper writes it, of the thresholds that don't cost more than none: build P and Q
/// for every one and compare them.
double naive_entropy_threshold(const std::vector<double>& bins, double width, std::size_t levels) {
  double least = std::numeric_limits<double>::infinity();
  std::size_t best = bins.size();
  const double all = std::accumulate(bins.begin(), bins.end(), 0.0);
  const auto steps = static_cast<double>(levels - 1);
  std::size_t filled_bins = bins.size();
  while (filled_bins > 0 && bins[filled_bins - 1] == 0) --filled_bins;
  const double most = naive_squared_error(bins, static_cast<double>(filled_bins), steps);
  for (std::size_t end = levels; end <= filled_bins; ++end) {
    if (naive_squared_error(bins, static_cast<double>(end), steps) > most) continue;
    std::vector<double> p(bins.begin(), bins.begin() + static_cast<std::ptrdiff_t>(end));
    const double inside = std::accumulate(p.begin(), p.end(), 0.0);
    if (inside == 0) continue;
    std::vector<double> q(end, 0.0);
    for (std::size_t level = 0; level < levels; ++level) {
      const std::size_t a = level * end / levels;
      const std::size_t b = (level + 1) * end / levels;
      double mass = 0;
      double filled = 0;
      for (std::size_t i = a; i < b; ++i) {
        mass += p[i];
        filled += p[i] > 0 ? 1 : 0;
      }
      for (std::size_t i = a; i < b; ++i) q[i] = p[i] > 0 ? mass / filled / inside : 0.0;
    }
    p[end - 1] += all - inside;
    double kl = 0;
    for (std::size_t i = 0; i < end; ++i) {
      if (p[i] > 0) kl += p[i] / all * std::log(p[i] / all / (q[i] > 0 ? q[i] : 1e-9));
    }
    if (kl < least) {
      least = kl;
      best = end;
    }
  }
  return width * static_cast<double>(best);
}

TEST(ChooseRange, EntropyFindsTheMinimumOfTheNaiveMethod) {
  for (const bool sign : {false, true}) {
    auto values = sign ? normal(6, 200000) : after_relu(7, 200000);
    const ValueStatistics statistics = statistics_of(values);
    const std::size_t levels = sign ? 128 : 256;
    std::vector<double> bins(2048, 0.0);  // pairs of bins
    for (std::size_t i = 0; i < statistics.positive.size(); ++i) {
      bins[i / 2] += static_cast<double>(statistics.positive[i] + statistics.negative[i]);
    }
    const double expected = naive_entropy_threshold(bins, statistics.bin_width * 2, levels);
    const auto range = choose_range(statistics, "entropy", true);
    const double got = static_cast<double>(range.scale) * (sign ? 127 : 255);
    // The search looks at every 8th threshold, then around the best: a neighbour is as good.
    EXPECT_NEAR(got, expected, 0.15 * expected);
    EXPECT_LT(got, sign ? 19 : 29) << "the outlier is cut off";
  }
}

TEST(ChooseRange, EntropyDoesNotClipMoreThanRoundingCostsWhereManyValuesAreEqual) {
  // Pictures with a background: behind a convolution with bias and a Relu most positions of a channel
  // have one value, and the rest a smooth tail.
  Numbers numbers(11);
  for (const bool sign : {false, true}) {
    std::vector<float> values;
    for (int channel = 0; channel < 8; ++channel) {
      const float background = 13.7F + 21.3F * static_cast<float>(channel);
      values.insert(values.end(), 20000, background);
    }
    for (int i = 0; i < 40000; ++i) {
      const float x = 250 * std::fabs(numbers.normal());
      values.push_back(sign && i % 2 == 1 ? -x : x);
    }
    const ValueStatistics statistics = statistics_of(values);
    const auto plain = choose_range(statistics, "minmax", true);
    const auto got = choose_range(statistics, "entropy", true);
    EXPECT_LE(rounding_error(values, got), 1.3 * rounding_error(values, plain)) << "signed: " << sign;
  }
}

}  // namespace
}  // namespace kerf::compress
