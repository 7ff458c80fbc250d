#include "workers/compress/adaptive_rounding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "workers/compress/layer_input.h"
#include "workers/compress/linear_algebra.h"

namespace kerf::compress {
namespace {

using graph::Node;
using graph::Tensor;

constexpr double kDamping = 0.01;  // of the mean diagonal
constexpr std::size_t kRowsAtOnce = 64;

/// A grid as seen from one weight.
class Steps {
 public:
  Steps(const RoundingGrid& grid, std::size_t rows, std::size_t n)
      : grid_(grid), stride_(grid.scales.size() == rows ? 0 : n) {}

  [[nodiscard]] double scale(std::size_t row, std::size_t column) const {
    return grid_.scales[at(row, column)];
  }
  [[nodiscard]] double zero(std::size_t row, std::size_t column) const {
    return grid_.zeros.empty() ? 0.0 : grid_.zeros[at(row, column)];
  }
  [[nodiscard]] double nearest(double value, std::size_t row, std::size_t column) const {
    return std::clamp(std::nearbyint(value / scale(row, column)) + zero(row, column),
                      static_cast<double>(grid_.lowest), static_cast<double>(grid_.highest));
  }
  [[nodiscard]] double value(double integer, std::size_t row, std::size_t column) const {
    return scale(row, column) * (integer - zero(row, column));
  }

 private:
  [[nodiscard]] std::size_t at(std::size_t row, std::size_t column) const {
    return stride_ == 0 ? row : row * stride_ + column;
  }

  const RoundingGrid& grid_;
  std::size_t stride_;
};

/// H with its columns in another order.
std::vector<double> permuted(std::span<const double> h, const std::vector<std::size_t>& order) {
  const std::size_t n = order.size();
  std::vector<double> out(n * n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) out[i * n + j] = h[order[i] * n + order[j]];
  }
  return out;
}

/// Moves single integers of one row while that lowers the error e H eᵀ.
void descend(std::span<const double> w, const Steps& steps, std::size_t row,
             std::span<const double> h, std::size_t n, bool keep_zeros, int sweeps,
             std::span<double> e, std::int8_t* q) {
  std::vector<double> g(n, 0.0);
  add_product(e, h, g, 1, n, n);  // H is symmetric
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    bool moved = false;
    for (std::size_t i = 0; i < n; ++i) {
      if (keep_zeros && w[i] == 0) continue;
      const double own = h[i * n + i];
      // The e_i that is best with all others as they are, and the integer nearest to it.
      const double best = e[i] - g[i] / own;
      const double wanted = steps.nearest(w[i] - best, row, i);
      const double scale = steps.scale(row, i);
      const double change = (static_cast<double>(q[i]) - wanted) * scale;
      // Strictly better only, with a margin that rounding errors can't fill.
      if (change == 0 || !(change * (2 * g[i] + change * own) < -1e-12 * own * scale * scale)) continue;
      e[i] += change;
      q[i] = static_cast<std::int8_t>(wanted);
      add_product({&change, 1}, {h.data() + i * n, n}, g, 1, 1, n);
      moved = true;
    }
    if (!moved) break;
  }
}

double quadratic(std::span<const double> e, std::span<const double> h, std::size_t n) {
  std::vector<double> g(n, 0.0);
  add_product(e, h, g, 1, n, n);
  return std::inner_product(e.begin(), e.end(), g.begin(), 0.0);
}

/// The rounding of one Hessian, prepared for any scales.
class Rounder {
 public:
  Rounder(std::span<const double> hessian, std::size_t n) : hessian_(hessian), n_(n), order_(n) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    // The last column is rounded first.
    std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
      return hessian[a * n + a] < hessian[b * n + b];
    });
    factor_ = permuted(hessian, order_);
    fits_ = cholesky(factor_, n);
  }

  [[nodiscard]] bool fits() const { return fits_; }

  [[nodiscard]] RoundedRows round(std::span<const double> w, const RoundingGrid& grid,
                                  bool keep_zeros, int sweeps) const {
    const std::size_t rows = w.size() / n_;
    const Steps steps(grid, rows, n_);
    RoundedRows out{std::vector<std::int8_t>(rows * n_), std::vector<double>(rows, 0.0)};
    for (std::size_t begin = 0; begin < rows; begin += kRowsAtOnce) {
      nearest_plane(w, steps, begin, std::min(kRowsAtOnce, rows - begin), keep_zeros, out);
    }
    if (sweeps == 0) return out;
    std::vector<double> e(n_);
    for (std::size_t r = 0; r < rows; ++r) {
      const auto row = w.subspan(r * n_, n_);
      std::int8_t* q = out.values.data() + r * n_;
      for (std::size_t i = 0; i < n_; ++i) e[i] = row[i] - steps.value(q[i], r, i);
      descend(row, steps, r, hessian_, n_, keep_zeros, sweeps, e, q);
      out.errors[r] = quadratic(e, hessian_, n_);
    }
    return out;
  }

 private:
  void nearest_plane(std::span<const double> w, const Steps& steps, std::size_t begin,
                     std::size_t count, bool keep_zeros, RoundedRows& out) const {
    std::vector<double> errors(n_ * count);  // by column, so that all rows advance together
    std::vector<double> pull(count);
    for (std::size_t i = n_; i-- > 0;) {
      const double pivot = factor_[i * n_ + i];
      std::fill(pull.begin(), pull.end(), 0.0);
      const std::size_t done = n_ - i - 1;
      add_product({factor_.data() + i * n_ + i + 1, done},
                  {errors.data() + (i + 1) * count, done * count}, pull, 1, done, count);
      const std::size_t column = order_[i];
      for (std::size_t r = 0; r < count; ++r) {
        const std::size_t row = begin + r;
        const double weight = w[row * n_ + column];
        const double target = weight + pull[r] / pivot;
        const bool stays = keep_zeros && weight == 0;
        const double q = stays ? steps.zero(row, column) : steps.nearest(target, row, column);
        const double value = steps.value(q, row, column);
        out.values[row * n_ + column] = static_cast<std::int8_t>(q);
        errors[i * count + r] = weight - value;
        const double left = (target - value) * pivot;
        out.errors[row] += left * left;
      }
    }
  }

  std::span<const double> hessian_;
  std::size_t n_;
  std::vector<std::size_t> order_;
  std::vector<double> factor_;
  bool fits_ = false;
};

/// The s that minimises (w − s·q) H (w − s·q)ᵀ; 0 where q is all zeros.
double best_scale(std::span<const double> w, std::span<const std::int8_t> q,
                  std::span<const double> h, std::size_t n) {
  std::vector<double> integers(q.begin(), q.end());
  std::vector<double> g(n, 0.0);
  add_product(integers, h, g, 1, n, n);
  const double own = std::inner_product(g.begin(), g.end(), integers.begin(), 0.0);
  const double with = std::inner_product(g.begin(), g.end(), w.begin(), 0.0);
  return own > 0 ? with / own : 0.0;
}

/// One block's Hessian with its damping; empty where nothing but zeros was seen.
std::vector<double> damped(const MomentBlock& block, bool centred) {
  std::vector<double> h = block.gram;
  const std::size_t n = block.columns;
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += h[i * n + i];
  if (!(trace > 0) || !std::isfinite(trace)) return {};
  if (centred) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) h[i * n + j] -= block.mean[i] * block.mean[j];
    }
  }
  // Near 1 whatever the units are, so that no product of it is lost.
  const double unit = static_cast<double>(n) / trace;
  for (double& value : h) value *= unit;
  for (std::size_t i = 0; i < n; ++i) h[i * n + i] += kDamping;
  return h;
}

/// Which scale of `quantized` a weight (row, column) has.
std::size_t scale_index(const QuantizedWeights& quantized, const WeightPlace& at, std::size_t row,
                        std::size_t column) {
  if (quantized.scales.size() == 1) return 0;
  if (quantized.group == 0) return row;
  const auto group = static_cast<std::size_t>(quantized.group);
  return at.by_columns ? column / group * at.rows + row
                       : row * ((at.columns + group - 1) / group) + column / group;
}

/// Searches a scale for each row; `grid.scales` holds the scales to start from, one a row.
void search_scales(const Rounder& rounder, std::span<const double> w, std::span<const double> h,
                   std::size_t n, bool keep_zeros, RoundingGrid& grid) {
  constexpr int kShares = 12;
  const std::vector<double> given = grid.scales;
  std::vector<double> chosen = given;
  RoundedRows best;
  for (int k = 0; k < kShares; ++k) {
    for (std::size_t r = 0; r < given.size(); ++r) grid.scales[r] = given[r] * (0.55 + 0.05 * k);
    RoundedRows now = rounder.round(w, grid, keep_zeros, 0);
    if (k == 0) {
      best = std::move(now);
      chosen = grid.scales;
      continue;
    }
    for (std::size_t r = 0; r < given.size(); ++r) {
      if (!(now.errors[r] < best.errors[r])) continue;
      best.errors[r] = now.errors[r];
      chosen[r] = grid.scales[r];
      std::copy_n(now.values.begin() + static_cast<std::ptrdiff_t>(r * n), n,
                  best.values.begin() + static_cast<std::ptrdiff_t>(r * n));
    }
  }
  for (std::size_t r = 0; r < given.size(); ++r) {
    const double fitted = best_scale({w.data() + r * n, n}, {best.values.data() + r * n, n}, h, n);
    // f32 holds the scale in the end: what is rounded with is what is stored.
    const auto stored = static_cast<float>(fitted > 0 ? fitted : chosen[r]);
    grid.scales[r] = static_cast<double>(std::max(stored, std::numeric_limits<float>::min()));
  }
}

}  // namespace

RoundedRows round_rows(std::span<const double> w, const RoundingGrid& grid,
                       std::span<const double> hessian, std::size_t n, bool keep_zeros,
                       int sweeps) {
  const Rounder rounder(hessian, n);
  if (!rounder.fits()) return {};
  return rounder.round(w, grid, keep_zeros, sweeps);
}

Result<void> round_adaptively(const Node& layer, const Tensor& weights,
                              const SecondMoments& moments, const AdaptiveRounding& how,
                              QuantizedWeights& quantized) {
  const WeightPlace at(layer, weights.shape());
  if (moments.rows == 0 || moments.groups == 0 || moments.depth != at.columns ||
      at.rows % moments.groups != 0) {
    return {};
  }
  const std::size_t rows = at.rows / moments.groups;
  const std::vector<double> w = weight_matrix(layer, weights);
  const bool even = quantized.zeros.empty();
  const bool one_a_row = quantized.group == 0;
  const bool search = how.search_scale && even && one_a_row && quantized.scales.size() > 1 &&
                      moments.depth <= SecondMoments::kMostColumns;
  const auto target = quantized.values.mutable_as<std::int8_t>();
  for (const MomentBlock& block : moments.blocks) {
    const std::size_t n = block.columns;
    const std::vector<double> h = damped(block, how.bias_follows);
    if (h.empty()) continue;
    const Rounder rounder(h, n);
    if (!rounder.fits()) return internal_error("a damped Hessian isn't positive definite");
    std::vector<double> part(rows * n);
    RoundingGrid grid;
    const int top = (1 << (how.bits - 1)) - 1;
    grid.lowest = even ? -top : -top - 1;
    grid.highest = top;
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t row = block.group * rows + r;
      std::copy_n(w.begin() + static_cast<std::ptrdiff_t>(row * at.columns + block.begin), n,
                  part.begin() + static_cast<std::ptrdiff_t>(r * n));
      for (std::size_t i = 0; i < (one_a_row ? 1 : n); ++i) {
        const std::size_t k = scale_index(quantized, at, row, block.begin + i);
        grid.scales.push_back(static_cast<double>(quantized.scales[k]));
        if (!even) grid.zeros.push_back(quantized.zeros[k]);
      }
    }
    if (search) {
      search_scales(rounder, part, h, n, how.keep_zeros, grid);
      for (std::size_t r = 0; r < rows; ++r)
        quantized.scales[block.group * rows + r] = static_cast<float>(grid.scales[r]);
    }
    const RoundedRows best = rounder.round(part, grid, how.keep_zeros, kSweeps);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < n; ++i)
        target[at(block.group * rows + r, block.begin + i)] = best.values[r * n + i];
    }
  }
  return {};
}

}  // namespace kerf::compress
