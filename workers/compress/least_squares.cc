#include "workers/compress/least_squares.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "workers/compress/linear_algebra.h"

namespace kerf::compress {
namespace {

constexpr int kMostSteps = 200;
constexpr double kEnough = 1e-18;  // of the squared residual

/// One row's fit on the columns where `w` isn't 0; a = gram + λ, b the right side.
void descend(std::span<const double> a, std::span<const double> b, std::size_t n,
             std::span<double> w) {
  std::vector<double> free(n);
  for (std::size_t i = 0; i < n; ++i) free[i] = w[i] != 0 ? 1.0 : 0.0;
  std::vector<double> residual(b.begin(), b.end());
  std::vector<double> product(n, 0.0);
  add_product(w, a, product, 1, n, n);  // symmetric
  std::vector<double> scaled(n);
  double size = 0;
  for (std::size_t i = 0; i < n; ++i) {
    residual[i] = free[i] * (residual[i] - product[i]);
    scaled[i] = residual[i] / a[i * n + i];
    size += residual[i] * scaled[i];
  }
  std::vector<double> direction = scaled;
  const double first = size;
  for (int step = 0; step < kMostSteps && size > kEnough * first && size > 0; ++step) {
    std::fill(product.begin(), product.end(), 0.0);
    add_product(direction, a, product, 1, n, n);
    const double curve =
        std::inner_product(direction.begin(), direction.end(), product.begin(), 0.0);
    if (!(curve > 0)) break;
    const double length = size / curve;
    double next = 0;
    for (std::size_t i = 0; i < n; ++i) {
      w[i] += length * direction[i];
      residual[i] -= length * free[i] * product[i];
      scaled[i] = residual[i] / a[i * n + i];
      next += residual[i] * scaled[i];
    }
    const double turn = next / size;
    size = next;
    for (std::size_t i = 0; i < n; ++i) direction[i] = scaled[i] + turn * direction[i];
  }
}

}  // namespace

std::vector<double> fit_rows(std::span<const double> gram, std::span<const double> cross,
                             std::span<const double> prior, std::size_t rows, std::size_t n,
                             double ridge, bool keep_zeros) {
  std::vector<double> old(prior.begin(), prior.end());
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += gram[i * n + i];
  if (!(trace > 0) || !std::isfinite(trace)) return old;
  // Near 1 whatever the units are, so that no product is lost.
  const double unit = static_cast<double>(n) / trace;
  std::vector<double> a(gram.begin(), gram.end());
  for (double& value : a) value *= unit;
  for (std::size_t i = 0; i < n; ++i) a[i * n + i] += ridge;
  std::vector<double> b(n * rows);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t r = 0; r < rows; ++r)
      b[i * rows + r] = cross[i * rows + r] * unit + ridge * prior[r * n + i];
  }
  std::vector<double> out;
  if (keep_zeros) {
    out = old;
    const std::vector<double> right = transposed(b, n, rows);
    for (std::size_t r = 0; r < rows; ++r) {
      descend(a, {right.data() + r * n, n}, n, {out.data() + r * n, n});
    }
  } else {
    if (!cholesky(a, n)) return old;
    solve_cholesky(a, n, b, rows);
    out = transposed(b, n, rows);
  }
  const bool finite = std::all_of(out.begin(), out.end(), [](double v) {
    return std::isfinite(static_cast<float>(v));
  });
  return finite ? out : old;
}

}  // namespace kerf::compress
