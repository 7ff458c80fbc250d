#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "search/native/basis.h"
#include "search/native/surrogate.h"

// Fitting the shape of a metric's surrogate to the evidence of finished trials.
namespace kerf::search::native {
namespace {

constexpr std::size_t kMostTuned = 64;   // trials whose evidence is looked at
constexpr std::size_t kFirstTuned = 8;   // of them the first ones: the uniform candidates
constexpr double kPowers[] = {0, 0.15, 0.3, 0.45, 0.6, 0.8, 1, 1.25, 1.5};
constexpr double kLeans[] = {0, 0.5, 1};
constexpr double kSpreads[] = {0.0003, 0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2};
constexpr double kShared[] = {0.0003, 0.03, 0.1, 0.3, 1};
constexpr double kPairs[] = {0.0003, 0.03, 0.1, 0.2, 0.4};
constexpr double kChains[] = {0.0001, 0.01, 0.03, 0.1, 0.3};
constexpr double kNoises[] = {1e-7, 1e-4, 0.001, 0.004, 0.01, 0.02, 0.04, 0.08};
// Of the range seen: nearer ones would promise that worse hardly costs any more.
constexpr double kCeilings[] = {2.5, 5, std::numeric_limits<double>::infinity()};
constexpr double kLinkPowers[] = {0.7, 0.85, 1, 1.2, 1.5};

// A look is put aside where trials are so much likelier without it, as a logarithm: seven times.
constexpr double kAgainstLook = 2;

/// −½·((log x − log centre)/width)²: a wide opinion about a spread.
double opinion(double x, double centre, double width) {
  const double t = std::log(x / centre) / width;
  return -0.5 * t * t;
}

double square_opinion(double x, double centre, double width) {
  const double t = (x - centre) / width;
  return -0.5 * t * t;
}

/// What is thought of a shape before any trial, given what the look says of itself.
double log_prior(const Shape& shape, bool looked, const LookQuality& look) {
  double sum = opinion(std::max(shape.spread, 0.01), looked ? look.spread : 0.8, 1.0) +
               opinion(std::max(shape.shared, 0.01), looked ? 0.15 : 1, 1.2) +
               opinion(std::max(shape.pair, 0.01), 0.12, 0.8) +
               opinion(std::max(shape.chain, 0.003), 0.02, 1.2) +
               opinion(std::max(shape.kin, 0.003), 0.02, 1.2) +
               opinion(std::max(shape.noise, 1e-4), 0.01, 1.5);
  if (looked) {
    sum += square_opinion(shape.layer_power, look.layer_power, 0.3) + square_opinion(shape.value_power, 1, 0.4) +
           square_opinion(shape.lean, 1, 0.7);
  }
  // A bent link has to earn its place.
  if (!shape.link.identity()) sum -= 1;
  sum += opinion(shape.link.power, 1, 0.25);
  return sum;
}

}  // namespace

/// The covariance's parts of the chosen trials, made anew only where the powers changed.
struct MetricSurrogate::Evidence {
  Evidence(const MetricSurrogate& owner, std::vector<std::size_t> chosen)
      : owner_(owner), chosen_(std::move(chosen)) {}

  double of(const Shape& shape) {
    if (!terms_ || shape.layer_power != layer_power_ || shape.value_power != value_power_ || shape.lean != lean_) {
      prepare(shape);
    }
    const std::size_t n = chosen_.size();
    std::vector<double> latent(n);
    double jacobian = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double y = owner_.y_[chosen_[i]];
      latent[i] = shape.link.latent(y);
      jacobian += std::log(shape.link.slope(y));
    }
    const double scale = owner_.scale_of(base_, latent);
    cholesky_ = {};
    std::vector<double> row;
    std::size_t at = 0;
    for (std::size_t i = 0; i < n; ++i) {
      row.resize(i);
      for (std::size_t k = 0; k < i; ++k) row[k] = covariance(shape, scale, parts_[at++]);
      const double own = covariance(shape, scale, parts_[at++]);
      cholesky_.append(row, own + owner_.noise_variance(shape, owner_.y_[chosen_[i]]));
    }
    const Basis basis = fit_basis(cholesky_, base_, latent, scale, owner_.range_);
    weights_ = basis.weights;
    latent_ = latent;
    return basis.log_evidence + jacobian + log_prior(shape, !owner_.prior_.terms.empty(), owner_.look_);
  }

  /// Predictions of each trial from the others, under the shape that was looked at last.
  LeftOut left_out(const Shape& shape) const {
    LeftOut out;
    const std::size_t n = chosen_.size();
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<double> unit(n, 0.0);
      unit[i] = 1;
      const auto lower = cholesky_.solve_lower(unit);
      const double precision = std::max(dot(lower, lower), 1e-300);
      out.predicted.push_back(shape.link.metric(latent_[i] - weights_[i] / precision));
      out.measured.push_back(owner_.y_[chosen_[i]]);
    }
    return out;
  }

 private:
  void prepare(const Shape& shape) {
    layer_power_ = shape.layer_power;
    value_power_ = shape.value_power;
    lean_ = shape.lean;
    terms_ = owner_.terms_of(shape);
    std::vector<Row> rows;
    base_.clear();
    for (const std::size_t i : chosen_) {
      rows.push_back(owner_.row_of(*terms_, owner_.x_[i]));
      base_.push_back(rows.back().base);
    }
    parts_.clear();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t k = 0; k <= i; ++k) {
        parts_.push_back(owner_.parts(*terms_, rows[i], owner_.x_[chosen_[i]], rows[k],
                                      owner_.x_[chosen_[k]]));
      }
    }
  }

  const MetricSurrogate& owner_;
  std::vector<std::size_t> chosen_;
  std::optional<Terms> terms_;
  double layer_power_ = 1;
  double value_power_ = 1;
  double lean_ = 1;
  std::vector<double> base_;
  std::vector<Parts> parts_;
  GrowingCholesky cholesky_;
  std::vector<double> weights_;
  std::vector<double> latent_;
};

void MetricSurrogate::tune(bool thorough) {
  if (x_.size() < 3) return;
  if (look_terms_.empty()) {
    fit(thorough);
    return;
  }
  MetricSurrogate other = *this;
  other.start_from(!believes_look());
  const double own = fit(thorough);
  const double others = other.fit(true);
  const double against = believes_look() ? others - own : own - others;
  if (believes_look() == (against > kAgainstLook)) *this = std::move(other);
}

double MetricSurrogate::fit(bool thorough) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < x_.size(); ++i) {
    if (i < kFirstTuned || i + (kMostTuned - kFirstTuned) >= x_.size()) chosen.push_back(i);
  }
  measure_range(chosen);
  Evidence evidence(*this, chosen);
  // An old link was fitted to an old range.
  if (!shape_.link.identity()) {
    shape_.link.origin = lowest_;
    if (shape_.link.ceiling < kCeilings[0] * range_) shape_.link = {};
  }
  double best = evidence.of(shape_);
  const auto better = [&](const Shape& shape) {
    const double value = evidence.of(shape);
    if (!(value > best + 1e-9)) return;
    best = value;
    shape_ = shape;
  };
  const auto along = [&](std::span<const double> grid, double Shape::*field) {
    const double now = shape_.*field;
    const auto nearest = static_cast<std::size_t>(
        std::min_element(grid.begin(), grid.end(),
                         [&](double a, double b) { return std::abs(a - now) < std::abs(b - now); }) -
        grid.begin());
    for (std::size_t k = 0; k < grid.size(); ++k) {
      if (!thorough && (k + 1 < nearest || k > nearest + 1)) continue;
      if (grid[k] == now) continue;
      Shape other = shape_;
      other.*field = grid[k];
      better(other);
    }
  };
  const bool looked = !prior_.terms.empty();
  if (!prior_.exact && looked && thorough) {
    // Steps along one field at a time don't get from "a poor look" to "the look is right".
    for (const double trust : {0.0003, 0.12}) {
      Shape other = shape_;
      other.layer_power = other.value_power = 1;
      other.spread = other.shared = trust;
      if (trust < 0.01) {
        other.pair = other.chain = other.kin = kChains[0];
        other.noise = kNoises[0];
      }
      better(other);
    }
  }
  if (!prior_.exact) {
    for (int round = 0; round < 2; ++round) {
      const double before = best;
      along(kNoises, &Shape::noise);
      along(kSpreads, &Shape::spread);
      along(kShared, &Shape::shared);
      along(kPairs, &Shape::pair);
      along(kChains, &Shape::chain);
      along(kChains, &Shape::kin);
      if (looked && prior_.bendable) {
        along(kPowers, &Shape::layer_power);
        along(kPowers, &Shape::value_power);
        if (!prior_.lean.empty()) along(kLeans, &Shape::lean);
      }
      if (prior_.bendable && x_.size() >= 6) {
        const Shape now = shape_;
        for (const double ceiling : kCeilings) {
          for (const double power : kLinkPowers) {
            Shape other = now;
            other.link = {lowest_, ceiling * range_, power};
            if (std::isinf(ceiling)) other.link.ceiling = ceiling;
            if (other.link.identity()) other.link.origin = 0;
            better(other);
          }
        }
      }
      if (best < before + 0.05) break;
    }
  }
  (void)evidence.of(shape_);
  left_out_ = evidence.left_out(shape_);
  rebuild();
  return best;
}

}  // namespace kerf::search::native
