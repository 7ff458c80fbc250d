#include "workers/measure/intervals.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kerf::measure {
namespace {

/// Tango's statistic, which falls as the difference grows.
double tango_statistic(double b, double c, double n, double difference) {
  const double quadratic = 2 * n;
  const double linear = -b - c + (2 * n - b + c) * difference;
  const double constant = -c * difference * (1 - difference);
  const double root = std::sqrt(std::max(0.0, linear * linear - 4 * quadratic * constant));
  const double second_share = (root - linear) / (2 * quadratic);
  const double variance = n * (2 * second_share + difference * (1 - difference));
  const double distance = b - c - n * difference;
  if (variance > 0) return distance / std::sqrt(variance);
  if (distance == 0) return 0;
  return distance > 0 ? std::numeric_limits<double>::infinity()
                      : -std::numeric_limits<double>::infinity();
}

/// The largest rank (from 1) that bounds the median from below at 97.5 %; 0 where none does.
std::size_t lower_rank(std::size_t samples) {
  constexpr double kTail = 0.025;
  const auto n = static_cast<double>(samples);
  double cumulative = 0;
  // What lies more than ten standard deviations below the middle adds nothing.
  const auto first = static_cast<std::size_t>(std::max(0.0, std::floor(n / 2 - 5 * std::sqrt(n))));
  for (std::size_t k = first; k <= samples; ++k) {
    const auto at = static_cast<double>(k);
    cumulative += std::exp(std::lgamma(n + 1) - std::lgamma(at + 1) - std::lgamma(n - at + 1) -
                           n * std::log(2.0));
    if (cumulative > kTail) return k;
  }
  return 0;
}

}  // namespace

Interval wilson_interval(std::int64_t successes, std::int64_t samples) {
  if (samples <= 0) return {0, 1};
  const auto n = static_cast<double>(samples);
  const double p = static_cast<double>(successes) / n;
  const double z2 = kZ95 * kZ95;
  const double centre = p + z2 / (2 * n);
  const double half = kZ95 * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  const double scale = 1 + z2 / n;
  // At the ends the formula gives the end itself, but for rounding.
  const double low = successes <= 0 ? 0 : (centre - half) / scale;
  const double high = successes >= samples ? 1 : (centre + half) / scale;
  return {std::max(0.0, low), std::min(1.0, high)};
}

Interval paired_difference_interval(std::int64_t first_only, std::int64_t second_only,
                                    std::int64_t samples) {
  if (samples <= 0) return {-1, 1};
  const auto b = static_cast<double>(first_only);
  const auto c = static_cast<double>(second_only);
  const auto n = static_cast<double>(samples);
  const double estimate = (b - c) / n;
  // Where the statistic crosses `limit` between a and b.
  const auto solve = [&](double low, double high, double limit) {
    constexpr double kPrecision = 1e-12;
    while (high - low > kPrecision) {
      const double middle = (low + high) / 2;
      (tango_statistic(b, c, n, middle) > limit ? low : high) = middle;
    }
    return (low + high) / 2;
  };
  return {solve(-1, estimate, kZ95), solve(estimate, 1, -kZ95)};
}

Interval mean_interval(double mean, double variance, std::int64_t samples) {
  if (samples < 2) return {mean, mean};
  const double half = kZ95 * std::sqrt(variance / static_cast<double>(samples));
  return {mean - half, mean + half};
}

std::array<std::size_t, 2> median_ranks(std::size_t samples, double inflation) {
  if (samples == 0) return {0, 0};
  const std::size_t last = samples - 1;
  const std::size_t rank = lower_rank(samples);
  if (rank == 0) return {0, last};
  const double middle = static_cast<double>(last) / 2;
  const double distance = (middle - static_cast<double>(rank - 1)) * std::max(1.0, inflation);
  const double low = std::max(0.0, std::floor(middle - distance + 1e-9));
  const auto from = static_cast<std::size_t>(low);
  return {from, last - from};
}

double dependence_inflation(std::span<const double> in_time_order) {
  constexpr std::size_t kFewest = 20;
  constexpr double kMost = 0.95;
  const std::size_t count = in_time_order.size();
  if (count < kFewest) return 1;
  const double median = median_of({in_time_order.begin(), in_time_order.end()});
  const auto sign = [&](std::size_t i) {
    return in_time_order[i] > median ? 1.0 : in_time_order[i] < median ? -1.0 : 0.0;
  };
  double products = 0;
  double squares = 0;
  for (std::size_t i = 0; i < count; ++i) {
    squares += sign(i) * sign(i);
    if (i > 0) products += sign(i) * sign(i - 1);
  }
  if (squares == 0) return 1;
  const double correlation = std::clamp(products / squares, 0.0, kMost);
  return std::sqrt((1 + correlation) / (1 - correlation));
}

double quantile(std::span<const double> sorted, double q) {
  if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double at = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(at));
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return quantile(values, 0.5);
}

MedianEstimate estimate_median(std::vector<double> in_time_order) {
  MedianEstimate out;
  if (in_time_order.empty()) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, {nan, nan}};
  }
  const auto ranks = median_ranks(in_time_order.size(), dependence_inflation(in_time_order));
  std::sort(in_time_order.begin(), in_time_order.end());
  out.median = quantile(in_time_order, 0.5);
  out.ci95 = {in_time_order[ranks[0]], in_time_order[ranks[1]]};
  return out;
}

}  // namespace kerf::measure
