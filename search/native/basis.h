#pragma once

#include <cstddef>
#include <vector>

#include "search/native/cholesky.h"

namespace kerf::search::native {

/// About how much of the metric a unit of the base is: the slope of a line through the trials where
/// there are enough, else 1 with a profile and the range without.
[[nodiscard]] double fitted_scale(const std::vector<double>& base, const std::vector<double>& latent,
                                  bool has_profile, double range);

/// β of latent = β₀ + β₁·base + correlated rest, and the weights K⁻¹·(latent − Hβ).
struct Basis {
  double constant = 0;
  double slope = 1;
  std::vector<double> weights;
  double log_evidence = 0;  ///< Of the latents, up to a constant.
};

/// Generalised least squares with a weak normal prior on β (β₁ about `scale`).
[[nodiscard]] Basis fit_basis(const GrowingCholesky& covariance, const std::vector<double>& base,
                              const std::vector<double>& latent, double scale, double range);

}  // namespace kerf::search::native
