#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace kerf::search::native {

/// Σ a[i]·b[i], always in the same order of sums.
[[nodiscard]] double dot(std::span<const double> a, std::span<const double> b);

/// L·Lᵀ = A for a symmetric positive matrix that grows by a row at a time.
///
/// Appending rows one by one is the only way to build it, so that a factor which grew over days and
/// one that was made in one go are equal to the last bit.
///
/// Cost:     append and solve O(n²).
class GrowingCholesky {
 public:
  /// `row` is the new row left of the diagonal. A diagonal that rounding would make negative is
  /// raised to a small positive number.
  void append(std::span<const double> row, double diagonal);

  /// A⁻¹·b.
  [[nodiscard]] std::vector<double> solve(std::vector<double> b) const;

  /// L⁻¹·b.
  [[nodiscard]] std::vector<double> solve_lower(std::vector<double> b) const;

  /// ½·log det A.
  [[nodiscard]] double half_log_determinant() const;

  [[nodiscard]] std::size_t size() const { return rows_.size(); }

 private:
  std::vector<std::vector<double>> rows_;  // of L, the diagonal last
};

}  // namespace kerf::search::native
