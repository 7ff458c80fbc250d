#include "search/native/basis.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kerf::search::native {

double fitted_scale(const std::vector<double>& base, const std::vector<double>& latent,
                    bool has_profile, double range) {
  const auto n = static_cast<double>(base.size());
  double mean_base = 0;
  double mean_latent = 0;
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (std::size_t i = 0; i < base.size(); ++i) {
    mean_base += base[i] / n;
    mean_latent += latent[i] / n;
    low = std::min(low, base[i]);
    high = std::max(high, base[i]);
  }
  double variance = 0;
  double together = 0;
  for (std::size_t i = 0; i < base.size(); ++i) {
    variance += (base[i] - mean_base) * (base[i] - mean_base);
    together += (base[i] - mean_base) * (latent[i] - mean_latent);
  }
  if (base.size() < 2 || !(high - low > 1e-9 * std::abs(high))) return has_profile ? 1 : range;
  const double fallback = range / (high - low);
  const double slope = together / variance;
  if (has_profile) return slope > 0.02 * fallback ? slope : fallback;
  return std::max(std::abs(slope), 0.3 * fallback);
}

Basis fit_basis(const GrowingCholesky& covariance, const std::vector<double>& base,
                const std::vector<double>& latent, double scale, double range) {
  Basis out;
  const std::size_t n = base.size();
  if (n == 0) return out;
  double mean_base = 0;
  double mean_latent = 0;
  double widest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    mean_base += base[i] / static_cast<double>(n);
    mean_latent += latent[i] / static_cast<double>(n);
    widest = std::max(widest, std::abs(base[i]));
  }
  // Centred, so that constant and slope don't trade places: rest = c + e·(base − mean).
  std::vector<double> ones(n, 1.0);
  std::vector<double> centred(n);
  std::vector<double> rest(n);
  for (std::size_t i = 0; i < n; ++i) {
    centred[i] = base[i] - mean_base;
    rest[i] = latent[i] - mean_latent - scale * centred[i];
  }
  const double constant_sd = 10 * range + 1e-30;
  const double slope_sd = 2 * std::abs(scale) + 1e-30;
  const auto w_ones = covariance.solve_lower(ones);
  const auto w_base = covariance.solve_lower(centred);
  const auto w_rest = covariance.solve_lower(rest);
  const double a = dot(w_ones, w_ones) + 1 / (constant_sd * constant_sd);
  const double b = dot(w_ones, w_base);
  const double c = dot(w_base, w_base) + 1 / (slope_sd * slope_sd);
  const double p = dot(w_ones, w_rest);
  const double q = dot(w_base, w_rest);
  const double determinant = std::max(a * c - b * b, 1e-14 * a * c);
  const double constant = (c * p - b * q) / determinant;
  const double slope = (a * q - b * p) / determinant;
  for (std::size_t i = 0; i < n; ++i) rest[i] -= constant + slope * centred[i];
  out.weights = covariance.solve(rest);
  out.slope = scale + slope;
  out.constant = mean_latent + constant - out.slope * mean_base;
  out.log_evidence = -0.5 * (dot(w_rest, w_rest) - constant * p - slope * q) -
                     covariance.half_log_determinant() - 0.5 * std::log(determinant) -
                     std::log(constant_sd * slope_sd);
  return out;
}

}  // namespace kerf::search::native
