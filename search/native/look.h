#pragma once

#include <cstddef>
#include <vector>

#include "search/native/additive.h"

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

/// What the terms of a look say of its own errors, before any trial.
struct LookQuality {
  double layer_power = 1;  ///< About what regression on the look has (bent_terms).
  double spread = 0.3;     ///< Of the truth around that regression, relative.
};

/// Maths:    in logarithms a term is mean + layer + value + rest. Layers of a network differ in the rest
///           by a variance of about 0.08; what is beyond is the look's error, and as much of it is taken
///           to be in the layers' part. Then layer_power = 1 − error/variance of the layers, and the
///           variance that is left is layer_power·error. Terms that aren't bent have the defaults.
[[nodiscard]] LookQuality look_quality(const Layout& layout, const std::vector<double>& terms,
                                       const std::vector<std::size_t>& kinds, std::size_t kind_count);

}  // namespace kerf::search::native
