#include "search/native/cholesky.h"

#include <algorithm>
#include <cmath>

namespace kerf::search::native {

double dot(std::span<const double> a, std::span<const double> b) {
  // Four sums side by side: the compiler may not reorder one.
  double sums[4] = {0, 0, 0, 0};
  const std::size_t n = std::min(a.size(), b.size());
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) sums[k] += a[i + k] * b[i + k];
  }
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void GrowingCholesky::append(std::span<const double> row, double diagonal) {
  const std::size_t n = rows_.size();
  std::vector<double> out(n + 1);
  for (std::size_t i = 0; i < n; ++i) {
    const std::span<const double> before(rows_[i].data(), i);
    out[i] = (row[i] - dot(before, std::span<const double>(out.data(), i))) / rows_[i][i];
  }
  const std::span<const double> all(out.data(), n);
  const double left = diagonal - dot(all, all);
  out[n] = std::sqrt(std::max(left, 1e-13 * std::max(diagonal, 1e-280)));
  rows_.push_back(std::move(out));
}

std::vector<double> GrowingCholesky::solve_lower(std::vector<double> b) const {
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const std::span<const double> row(rows_[i].data(), i);
    b[i] = (b[i] - dot(row, std::span<const double>(b.data(), i))) / rows_[i][i];
  }
  return b;
}

std::vector<double> GrowingCholesky::solve(std::vector<double> b) const {
  b = solve_lower(std::move(b));
  for (std::size_t i = rows_.size(); i-- > 0;) {
    b[i] /= rows_[i][i];
    const double value = b[i];
    const double* row = rows_[i].data();
    for (std::size_t k = 0; k < i; ++k) b[k] -= row[k] * value;
  }
  return b;
}

double GrowingCholesky::half_log_determinant() const {
  double sum = 0;
  for (std::size_t i = 0; i < rows_.size(); ++i) sum += std::log(rows_[i][i]);
  return sum;
}

}  // namespace kerf::search::native
