#include "workers/compress/histogram.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace kerf::compress {
namespace {

constexpr std::size_t kLanes = 8;  // independent, so that the compiler can vectorise

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

Extent extent_of(std::span<const float> values) {
  std::array<float, kLanes> least;
  std::array<float, kLanes> most;
  std::array<std::uint32_t, kLanes>
      odd{};  // 1 where an exponent is all ones: infinite or no number
  least.fill(values[0]);
  most.fill(values[0]);
  const auto take = [&](float value, std::size_t lane) {
    least[lane] = value < least[lane] ? value : least[lane];
    most[lane] = value > most[lane] ? value : most[lane];
    odd[lane] |= ((std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU) + 0x00800000U) >> 31U;
  };
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) take(values[i + lane], lane);
  }
  for (; i < values.size(); ++i) take(values[i], 0);
  Extent out;
  out.least = *std::min_element(least.begin(), least.end());
  out.most = *std::max_element(most.begin(), most.end());
  out.finite = std::all_of(odd.begin(), odd.end(), [](std::uint32_t flag) { return flag == 0; });
  return out;
}

/// Counts values by sign and bin; zeros of each sign, which stand in the first bins too, are counted
/// again in `zeros`. Without a branch: after a Relu it would be a coin's toss.
void count_values(std::span<const float> values, double bin_width,
                  std::array<std::vector<std::uint32_t>, 2>& counts,
                  std::array<std::int64_t, 2>& zeros) {
  constexpr std::size_t kBlock = 1024;
  constexpr auto kBins = ValueStatistics::kBins;
  constexpr auto kTop = static_cast<float>(kBins - 1);
  std::array<std::uint32_t, kBlock> place;
  // A power of two keeps 1 / width in range whatever the width is, and changes no bin.
  int exponent = 0;
  const double mantissa = std::frexp(bin_width, &exponent);
  const auto inverse = static_cast<float>(1.0 / mantissa);
  const bool extreme = exponent < -100 || exponent > 100;
  const float power = extreme ? 1.0F : std::ldexp(1.0F, -exponent);
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t size = std::min(kBlock, values.size() - begin);
    const float* block = values.data() + begin;
    const auto place_of = [&](float value, float scaled) {
      const float bin = std::fabs(scaled) * inverse;
      const auto index =
          static_cast<std::uint32_t>(static_cast<std::int32_t>(bin < kTop ? bin : kTop));
      return index +
             (std::bit_cast<std::uint32_t>(value) >> 31U) * static_cast<std::uint32_t>(kBins);
    };
    if (extreme) {
      for (std::size_t i = 0; i < size; ++i)
        place[i] = place_of(block[i], std::ldexp(block[i], -exponent));
    } else {
      for (std::size_t i = 0; i < size; ++i) place[i] = place_of(block[i], block[i] * power);
    }
    std::array<std::uint32_t, 2> zeros_here{};
    for (std::size_t i = 0; i < size; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(block[i]);
      zeros_here[0] += bits == 0 ? 1U : 0U;
      zeros_here[1] += bits == 0x80000000U ? 1U : 0U;
    }
    zeros[0] += zeros_here[0];
    zeros[1] += zeros_here[1];
    // Two tables: neighbours often fall into the same bin, and would wait for each other.
    std::size_t i = 0;
    for (; i + 2 <= size; i += 2) {
      ++counts[0][place[i]];
      ++counts[1][place[i + 1]];
    }
    if (i < size) ++counts[0][place[i]];
  }
}

}  // namespace

bool ValueStatistics::add(std::span<const float> values, std::int64_t sample_count) {
  if (values.empty()) return true;
  const Extent extent = extent_of(values);
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
    // Parts small enough for counters of 32 bits.
    constexpr std::size_t kPart = 1U << 30U;
    for (std::size_t begin = 0; begin < values.size(); begin += kPart) {
      std::array<std::vector<std::uint32_t>, 2> counts;
      for (auto& table : counts) table.assign(2 * kBins, 0);
      const auto part = values.subspan(begin, std::min(kPart, values.size() - begin));
      std::array<std::int64_t, 2> zeros_here{};
      count_values(part, bin_width, counts, zeros_here);
      for (std::size_t i = 0; i < kBins; ++i) {
        positive[i] += static_cast<std::int64_t>(counts[0][i]) + counts[1][i];
        negative[i] += static_cast<std::int64_t>(counts[0][kBins + i]) + counts[1][kBins + i];
      }
      positive[0] -= zeros_here[0];
      negative[0] -= zeros_here[1];
      zeros += zeros_here[0] + zeros_here[1];
    }
  } else {
    zeros += static_cast<std::int64_t>(values.size());
  }
  count += static_cast<std::int64_t>(values.size());
  moving.add(values, sample_count);

  const std::size_t size =
      sample_count > 0 ? values.size() / static_cast<std::size_t>(sample_count) : 0;
  if (sum.empty()) sum.assign(size, 0.0);
  if (size == sum.size()) {
    // A few elements of all samples at a time, so that their sums stay in the nearest cache.
    constexpr std::size_t kBlock = 1024;
    for (std::size_t begin = 0; begin < size; begin += kBlock) {
      const std::size_t end = std::min(size, begin + kBlock);
      for (std::int64_t s = 0; s < sample_count; ++s) {
        const float* sample = values.data() + static_cast<std::size_t>(s) * size;
        for (std::size_t i = begin; i < end; ++i) sum[i] += static_cast<double>(sample[i]);
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
