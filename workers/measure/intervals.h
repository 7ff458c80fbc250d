#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace kerf::measure {

/// [low, high].
using Interval = std::array<double, 2>;

/// The normal quantile of all our 95 % intervals.
inline constexpr double kZ95 = 1.959963984540054;

/// 95 % score interval of a proportion.
///
/// Maths:    (p + z²/2n ± z·sqrt(p(1−p)/n + z²/4n²)) / (1 + z²/n)
/// Source:   Wilson 1927, JASA 22:209.
[[nodiscard]] Interval wilson_interval(std::int64_t successes, std::int64_t samples);

/// 95 % score interval of a difference of two proportions on the same samples.
///
/// `first_only` samples are right for the first alone, `second_only` for the second alone; the
/// difference is (first_only − second_only) / samples. Honest where both are 0 (a normal interval
/// would have no width there).
///
/// Maths:    {Δ : |b − c − nΔ| ≤ z·sqrt(n(2q(Δ) + Δ(1−Δ)))}, q the constrained maximum-likelihood
///           share of the second kind; found by bisection to 1e-12.
/// Source:   Tango 1998, Statistics in Medicine 17:891.
[[nodiscard]] Interval paired_difference_interval(std::int64_t first_only, std::int64_t second_only,
                                                  std::int64_t samples);

/// 95 % normal interval of a mean: mean ± z·s/sqrt(n). Both ends are the mean for n < 2.
[[nodiscard]] Interval mean_interval(double mean, double variance, std::int64_t samples);

/// Ranks (from 0, both inside the sample) whose order statistics enclose the median with at least
/// 95 % probability, whatever the distribution; {0, n−1} where n < 6, which covers less.
///
/// Maths:    the largest r with P(Binomial(n, ½) ≤ r − 1) ≤ 2.5 %.
///           `inflation` ≥ 1 widens the ranks' distance from the middle, for samples that depend
///           on each other.
/// Source:   David & Nagaraja, Order Statistics, 3rd ed., 7.1.
[[nodiscard]] std::array<std::size_t, 2> median_ranks(std::size_t samples, double inflation = 1);

/// How much wider an interval of the median must be because neighbours in time resemble each other.
///
/// Maths:    sqrt((1 + ρ) / (1 − ρ)), ρ = lag-1 autocorrelation of "above the median", within
///           [0, 0.95]; 1 for fewer than 20 values.
/// Source:   Bayley & Hammersley 1946 (effective sample size of an AR(1) series).
[[nodiscard]] double dependence_inflation(std::span<const double> in_time_order);

/// The q-quantile of sorted values, 0 ≤ q ≤ 1; between neighbours linear (Hyndman & Fan's type 7,
/// NumPy's default). NaN where there are none.
[[nodiscard]] double quantile(std::span<const double> sorted, double q);

/// The 0.5-quantile. NaN where there are none.
[[nodiscard]] double median_of(std::vector<double> values);

/// Median with its interval, from values in the order in which they were taken.
struct MedianEstimate {
  double median = 0;
  Interval ci95 = {0, 0};
};
[[nodiscard]] MedianEstimate estimate_median(std::vector<double> in_time_order);

}  // namespace kerf::measure
