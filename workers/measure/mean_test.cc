#include "workers/measure/mean_test.h"

#include <algorithm>
#include <cmath>

namespace kerf::measure {
namespace {

// Sums of decimals may miss a limit by rounding: "for certain" has to be beyond that.
constexpr double kRounding = 1e-9;

}  // namespace

MeanTest::MeanTest(double least, double most, double limit, std::int64_t population, double alpha)
    : least_(least), most_(most), limit_(limit), population_(population), alpha_(alpha) {
  verdict_ = certain();
}

// What the values that are left can't change.
MeanTest::Verdict MeanTest::certain() const {
  const auto left = static_cast<double>(population_ - seen_);
  const double wanted = limit_ * static_cast<double>(population_);
  const double slack = kRounding * static_cast<double>(population_) * (most_ - least_);
  if (sum_ + left * least_ > wanted + slack) return Verdict::kAbove;
  if (sum_ + left * most_ <= wanted + slack) return Verdict::kNotAbove;
  return Verdict::kOpen;
}

MeanTest::Verdict MeanTest::add(double value) {
  if (verdict_ != Verdict::kOpen || seen_ >= population_) return verdict_;
  const double expected = (limit_ * static_cast<double>(population_) - sum_) / static_cast<double>(population_ - seen_);
  const double stake = expected - least_;
  // Not certain means that expected is within [least, most), but for rounding.
  if (stake > 0) {
    const double won = (value - expected) / stake;
    for (std::size_t i = 0; i < kShares.size(); ++i) log_wealth_[i] += std::log1p(kShares[i] * won);
  }
  sum_ += value;
  ++seen_;
  verdict_ = certain();
  if (verdict_ == Verdict::kOpen && wealth() >= 1 / alpha_) verdict_ = Verdict::kAbove;
  return verdict_;
}

double MeanTest::wealth() const {
  double sum = 0;
  for (const double log_wealth : log_wealth_) sum += std::exp(std::min(log_wealth, 700.0));
  return sum / static_cast<double>(kShares.size());
}

}  // namespace kerf::measure
