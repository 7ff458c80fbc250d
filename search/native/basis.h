#pragma once

#include <cstddef>
#include <vector>

#include "search/native/additive.h"
#include "search/native/cholesky.h"

namespace kerf::search::native {

/// Profile terms under powers: between layers, and between the values of a layer.
///
/// Maths:    log b = mean + layer_power·(layer's mean − mean) + value_power·(value's mean over layers)
///           + rest_power·(what is left), over positive terms; zero stays zero; scaled so that the
///           sum of b is that of the terms. Below a layer_power of 1 the error of the look that it
///           stands for, (1 − layer_power)·variance of the layers, is taken out of what is left too.
///           Powers of 1 give the terms themselves. Terms of which
///           some are negative aren't bent.
///           A power below 1 is what the truth's regression on a noisy look has.
[[nodiscard]] std::vector<double> bent_terms(const Layout& layout, const std::vector<double>& terms,
                                             const std::vector<std::size_t>& kinds,
                                             std::size_t kind_count, double layer_power,
                                             double value_power);

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
