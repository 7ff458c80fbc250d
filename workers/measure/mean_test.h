#pragma once

#include <array>
#include <cstdint>

namespace kerf::measure {

/// Watches whether the mean of a finite population is above a limit, from its values as they come in a
/// random order without replacement. May be looked at after every value; the probability that it ever
/// says "above" of a mean that isn't is at most alpha.
///
/// The population's values lie in [least, most]. For losses that are paired with a baseline's (−1, 0,
/// 1) most values are 0, and the bets find out how many on their own: nothing has to be known of the
/// variance.
///
/// Maths:    N values of mean m; S_t the sum of the first t. Were m the limit, the next value's
///           expectation would be μ_t = (N·limit − S_{t−1}) / (N − t + 1). A player who bets the share
///           c of what it can bet against that has the wealth
///             K_t(c) = Π_{i≤t} (1 + c·(x_i − μ_i) / (μ_i − least)),   0 < c < 1,
///           a non-negative supermartingale where m ≤ limit, as is the mean of several players'.
///           Ville: P(ever mean_c K_t(c) ≥ 1/alpha) ≤ alpha. Where μ_t < least the mean is above for
///           certain; where μ_t ≥ most, not above for certain.
/// Cost:     O(players) a value, no allocation.
/// Source:   Waudby-Smith & Ramdas 2024, JRSSB 86:1, "Estimating means of bounded random variables by
///           betting", section 5 (without replacement); a fixed grid of bets as in their remark on
///           hedging over many (diversified) bets. Why not Hoeffding: docs/search.md.
class MeanTest {
 public:
  enum class Verdict { kOpen, kAbove, kNotAbove };

  /// `population` ≥ 1; least < most; 0 < alpha < 1.
  MeanTest(double least, double most, double limit, std::int64_t population, double alpha);

  /// The next value; more than `population` of them change nothing. Once kAbove or kNotAbove, it stays.
  Verdict add(double value);

  [[nodiscard]] Verdict verdict() const { return verdict_; }
  [[nodiscard]] std::int64_t seen() const { return seen_; }
  /// Of the players together, from 1.
  [[nodiscard]] double wealth() const;

 private:
  static constexpr std::array kShares = {0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95};

  [[nodiscard]] Verdict certain() const;

  double least_;
  double most_;
  double limit_;
  std::int64_t population_;
  double alpha_;
  std::int64_t seen_ = 0;
  double sum_ = 0;
  std::array<double, kShares.size()> log_wealth_{};
  Verdict verdict_ = Verdict::kOpen;
};

}  // namespace kerf::measure
