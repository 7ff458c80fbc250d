#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "search/sampler.h"

namespace kerf::search::native {

/// Where a dimension's values lie in flat arrays.
struct Layout {
  explicit Layout(const std::vector<DimensionSpec>& dimensions);

  std::vector<std::size_t> counts;   ///< Values, one a dimension.
  std::vector<std::size_t> offsets;  ///< Of a dimension's first value.
  std::vector<std::size_t> chains;   ///< Of the table of dimensions d and d + 1; one fewer.
  std::size_t values = 0;            ///< Σ counts.
  std::size_t chain_values = 0;      ///< Σ counts[d]·counts[d + 1].

  [[nodiscard]] std::size_t size() const { return counts.size(); }
  [[nodiscard]] std::size_t at(std::size_t d, int value) const {
    return offsets[d] + static_cast<std::size_t>(value);
  }
  [[nodiscard]] std::size_t chain_at(std::size_t d, int value, int next) const {
    return chains[d] + static_cast<std::size_t>(value) * counts[d + 1] +
           static_cast<std::size_t>(next);
  }
};

/// The monotone way from summed damage z to a metric y (minimised).
///
/// Maths:    u = max(z − origin, 0)^power, y = origin + ceiling·(1 − exp(−u/ceiling)); an infinite
///           ceiling gives y = origin + u; below the origin and for power 1 without a ceiling y = z.
struct Link {
  double origin = 0;
  double ceiling = std::numeric_limits<double>::infinity();
  double power = 1;

  [[nodiscard]] bool identity() const;
  [[nodiscard]] double metric(double latent) const;
  [[nodiscard]] double latent(double metric) const;
  /// d latent / d metric.
  [[nodiscard]] double slope(double metric) const;
};

/// A metric as a sum: one term a value, one a pair of neighbours, one a pair of any two dimensions.
///
/// Maths:    latent(x) = constant + Σ_d unary[d, x_d] + Σ_d chain[d, x_d, x_{d+1}]
///                       + Σ_{i<j} weight[i, j]·root[i, x_i]·root[j, x_j].
struct AdditiveModel {
  double constant = 0;
  std::vector<double> unary;   ///< [Layout::at]
  std::vector<double> chain;   ///< [Layout::chain_at]; empty = none
  std::vector<double> weight;  ///< [i·size + j], symmetric, 0 on the diagonal; empty = none
  std::vector<double> root;    ///< [Layout::at]
  Link link;

  [[nodiscard]] double latent(const Layout& layout, const Choices& x) const;
  [[nodiscard]] double metric(const Layout& layout, const Choices& x) const {
    return link.metric(latent(layout, x));
  }

  /// Σ_j weight[i, j]·root[j, x_j], for every i.
  [[nodiscard]] std::vector<double> field(const Layout& layout, const Choices& x) const;

  /// latent(x with x_d = value) − latent(x). `field` is that of x.
  [[nodiscard]] double swap(const Layout& layout, const Choices& x,
                            const std::vector<double>& field, std::size_t d, int value) const;
};

}  // namespace kerf::search::native
