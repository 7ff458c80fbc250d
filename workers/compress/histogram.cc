#include "workers/compress/histogram.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "workers/compress/vectorized.h"

namespace kerf::compress {
namespace {

constexpr std::size_t kBlock = 1024;
constexpr auto kBins = ValueStatistics::kBins;
/// Counters for zeros behind the bins: neighbours that are zero, half of them after a Relu, would
/// wait for each other at a single one.
constexpr std::size_t kZeroCounters = 16;

/// Doubles the width of the bins.
void merge_pairs(std::vector<std::int64_t>& bins) {
  const std::size_t half = bins.size() / 2;
  for (std::size_t i = 0; i < half; ++i) bins[i] = bins[2 * i] + bins[2 * i + 1];
  std::fill(bins.begin() + static_cast<std::ptrdiff_t>(half), bins.end(), 0);
}

struct Extent {
  float least = 0;
  float most = 0;
  bool finite = true;
};

/// As integers that are in the same order: their least and most need no care for what isn't a number,
/// which is seen by its magnitude instead.
KERF_VECTORIZED Extent extent_of(const float* values, std::size_t size) {
  constexpr std::int32_t kMagnitude = 0x7FFFFFFF;
  constexpr std::int32_t kInfinite = 0x7F800000;
  const auto ordered = [](std::int32_t bits) { return bits ^ ((bits >> 31) & kMagnitude); };
  std::int32_t least = std::numeric_limits<std::int32_t>::max();
  std::int32_t most = std::numeric_limits<std::int32_t>::min();
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const auto bits = std::bit_cast<std::int32_t>(values[i]);
    const std::int32_t key = bits ^ ((bits >> 31) & kMagnitude);
    least = key < least ? key : least;
    most = key > most ? key : most;
    largest = (bits & kMagnitude) > largest ? (bits & kMagnitude) : largest;
  }
  return {std::bit_cast<float>(ordered(least)), std::bit_cast<float>(ordered(most)), largest < kInfinite};
}

/// Where each value of a block is counted: its bin, `kBins` further on where it is negative; zeros at
/// `zeros` and the fifteen behind, in turns. `scaled` and `power`: see count_values.
KERF_VECTORIZED void places_of(const float* block, const float* scaled, std::size_t size,
                               float power, float inverse, std::uint32_t zeros,
                               std::uint32_t* places) {
  constexpr auto kTop = static_cast<float>(kBins - 1);
  for (std::size_t i = 0; i < size; ++i) {
    const float value = block[i];
    const float bin = std::fabs(scaled[i] * power) * inverse;
    const auto index = static_cast<std::uint32_t>(static_cast<std::int32_t>(bin < kTop ? bin : kTop));
    const std::uint32_t place = index + (value < 0 ? static_cast<std::uint32_t>(kBins) : 0U);
    places[i] = value == 0 ? zeros + static_cast<std::uint32_t>(i % kZeroCounters) : place;
  }
}

/// Counts values into two tables of `zeros` bins and the counters of zeros behind them: two, as
/// neighbours that fall into the same bin would wait for each other.
void count_values(std::span<const float> values, double bin_width, std::size_t zeros,
                  std::array<std::vector<std::uint32_t>, 2>& counts) {
  std::array<std::uint32_t, kBlock> places;
  std::array<float, kBlock> scaled;
  // A power of two keeps 1 / width in range whatever the width is, and changes no bin.
  int exponent = 0;
  const double mantissa = std::frexp(bin_width, &exponent);
  const auto inverse = static_cast<float>(1.0 / mantissa);
  const bool extreme = exponent < -100 || exponent > 100;
  const float power = extreme ? 1.0F : std::ldexp(1.0F, -exponent);
  std::uint32_t* first = counts[0].data();
  std::uint32_t* second = counts[1].data();
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t size = std::min(kBlock, values.size() - begin);
    const float* block = values.data() + begin;
    if (extreme) {
      for (std::size_t i = 0; i < size; ++i) scaled[i] = std::ldexp(block[i], -exponent);
    }
    places_of(block, extreme ? scaled.data() : block, size, power, inverse,
              static_cast<std::uint32_t>(zeros), places.data());
    std::size_t i = 0;
    for (; i + 2 <= size; i += 2) {
      ++first[places[i]];
      ++second[places[i + 1]];
    }
    if (i < size) ++first[places[i]];
  }
}

/// Adds a sample's elements to the sums.
KERF_VECTORIZED void add_to(double* sums, const float* values, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) sums[i] += static_cast<double>(values[i]);
}

}  // namespace

bool ValueStatistics::add(std::span<const float> values, std::int64_t sample_count, bool means) {
  if (values.empty()) return true;
  const Extent extent = extent_of(values.data(), values.size());
  if (!extent.finite) return false;
  min = count == 0 ? extent.least : std::min(min, static_cast<double>(extent.least));
  max = count == 0 ? extent.most : std::max(max, static_cast<double>(extent.most));

  const double largest = std::max(std::fabs(static_cast<double>(extent.least)),
                                  std::fabs(static_cast<double>(extent.most)));
  if (largest > 0) {
    if (bin_width == 0) {
      positive.assign(kBins, 0);
      negative.assign(kBins, 0);
      bin_width = largest / static_cast<double>(kBins);
    }
    while (largest > bin_width * static_cast<double>(kBins)) {
      bin_width *= 2;
      merge_pairs(positive);
      merge_pairs(negative);
    }
    // Where nothing is negative the tables are half as long, and fit the nearest cache.
    const bool signs = extent.least < 0;
    const std::size_t bins = signs ? 2 * kBins : kBins;
    // Parts small enough for counters of 32 bits.
    constexpr std::size_t kPart = 1U << 30U;
    for (std::size_t begin = 0; begin < values.size(); begin += kPart) {
      std::array<std::vector<std::uint32_t>, 2> counts;
      for (auto& table : counts) table.assign(bins + kZeroCounters, 0);
      const auto part = values.subspan(begin, std::min(kPart, values.size() - begin));
      count_values(part, bin_width, bins, counts);
      for (const auto& table : counts) {
        for (std::size_t i = 0; i < kBins; ++i) positive[i] += table[i];
        for (std::size_t i = kBins; i < bins; ++i) negative[i - kBins] += table[i];
        for (std::size_t i = bins; i < table.size(); ++i) zeros += table[i];
      }
    }
  } else {
    zeros += static_cast<std::int64_t>(values.size());
  }
  count += static_cast<std::int64_t>(values.size());
  moving.add(values, sample_count);

  if (!means) return true;
  const std::size_t size =
      sample_count > 0 ? values.size() / static_cast<std::size_t>(sample_count) : 0;
  if (sum.empty()) sum.assign(size, 0.0);
  if (size == sum.size()) {
    // A few elements of all samples at a time, so that their sums stay in the nearest cache.
    for (std::size_t begin = 0; begin < size; begin += kBlock) {
      for (std::int64_t s = 0; s < sample_count; ++s) {
        add_to(sum.data() + begin, values.data() + static_cast<std::size_t>(s) * size + begin,
               std::min(kBlock, size - begin));
      }
    }
    samples += sample_count;
  }
  return true;
}

std::vector<double> ValueStatistics::mean() const {
  std::vector<double> out = sum;
  for (double& value : out) value = samples > 0 ? value / static_cast<double>(samples) : 0.0;
  return out;
}

}  // namespace kerf::compress
