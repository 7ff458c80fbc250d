#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "search/native/additive.h"
#include "search/random.h"
#include "search/sampler.h"

namespace kerf::search::native {

/// Spearman's rank correlation; ties share their mean rank. 1 for fewer than three pairs; 0 where
/// one side is constant.
[[nodiscard]] double rank_correlation(const std::vector<double>& a, const std::vector<double>& b);

/// A finished trial as evolution sees it: minimised objectives and how far from feasible.
struct Individual {
  Choices x;
  std::vector<double> objectives;
  double violation = 0;
};

/// A child of two of the better individuals.
///
/// Two tournaments of two (feasible first, then the front a point lies on, then room around it), each
/// dimension from either parent, and each changed with probability 1/d, to a neighbouring value where
/// values are ordered.
///
/// Source:   Deb, Pratap, Agarwal, Meyarivan 2002 (NSGA-II), for categorical values.
[[nodiscard]] Choices breed(const Layout& layout, const std::vector<DimensionSpec>& dimensions,
                            const std::vector<Individual>& population, Rng& random);

/// A good individual with a run of neighbouring layers moved to another value each: what such a group
/// does shows clearer in the noise than one layer.
[[nodiscard]] Choices probe_group(const Layout& layout, const std::vector<Individual>& population,
                                  Rng& random);

}  // namespace kerf::search::native
