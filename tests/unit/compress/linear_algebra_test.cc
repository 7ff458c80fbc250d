#include "workers/compress/linear_algebra.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"

namespace kerf::compress {
namespace {

using testing::Numbers;

std::vector<double> random_matrix(Numbers& dice, std::size_t size) {
  std::vector<double> out(size);
  for (double& value : out) value = static_cast<double>(dice.normal());
  return out;
}

/// AᵀA + I of a random A: positive definite.
std::vector<double> random_definite(Numbers& dice, std::size_t n) {
  const std::vector<double> a = random_matrix(dice, n * n);
  std::vector<double> out(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n; ++k) out[i * n + j] += a[k * n + i] * a[k * n + j];
    }
    out[i * n + i] += 1;
  }
  return out;
}

TEST(LinearAlgebra, GramIsTheSumOfOuterProducts) {
  Numbers dice(41);
  for (const std::size_t columns : {1U, 3U, 16U, 17U, 50U}) {
    const std::size_t rows = 600;  // more than two panels
    std::vector<float> x(rows * columns);
    for (float& value : x) value = dice.normal();
    std::vector<double> gram(columns * columns, 0.0);
    add_gram(x, rows, columns, gram);
    mirror(gram, columns);
    for (std::size_t i = 0; i < columns; ++i) {
      for (std::size_t j = 0; j < columns; ++j) {
        double sum = 0;
        double size = 0;
        for (std::size_t r = 0; r < rows; ++r) {
          const double product = static_cast<double>(x[r * columns + i]) * x[r * columns + j];
          sum += product;
          size += std::fabs(product);
        }
        // f32 over 256 products: each of at most 256 roundings errs by 2⁻²⁴ of the sizes so far.
        EXPECT_NEAR(gram[i * columns + j], sum, size * 256 * 6e-8) << columns;
      }
    }
  }
}

TEST(LinearAlgebra, GramOfHugeAndOfTinyRowsKeepsItsValues) {
  for (const float size : {1e30F, 1e-30F, 1e-42F}) {
    const std::vector<float> x = {size, 2 * size, -size, size};
    std::vector<double> gram(4, 0.0);
    add_gram(x, 2, 2, gram);
    const double square = static_cast<double>(size) * static_cast<double>(size);
    EXPECT_NEAR(gram[0] / square, 2, 1e-5) << size;
    EXPECT_NEAR(gram[1] / square, 1, 1e-5) << size;
    EXPECT_NEAR(gram[3] / square, 5, 1e-5) << size;
  }
}

TEST(LinearAlgebra, CholeskyGivesTheMatrixBackAndSolvesWithIt) {
  Numbers dice(42);
  for (const std::size_t n : {1U, 2U, 63U, 64U, 65U, 150U}) {
    const std::vector<double> a = random_definite(dice, n);
    std::vector<double> r = a;
    ASSERT_TRUE(cholesky(r, n)) << n;
    double error = 0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::size_t k = 0; k < n; ++k) sum += r[k * n + i] * r[k * n + j];
        error = std::max(error, std::fabs(sum - a[i * n + j]));
      }
      for (std::size_t j = 0; j < i; ++j) EXPECT_EQ(r[i * n + j], 0);
    }
    EXPECT_LT(error, 1e-12 * static_cast<double>(n * n)) << n;
    const std::size_t m = 5;
    const std::vector<double> x = random_matrix(dice, n * m);
    std::vector<double> b(n * m, 0.0);
    add_product(a, x, b, n, n, m);
    solve_cholesky(r, n, b, m);
    for (std::size_t i = 0; i < n * m; ++i) EXPECT_NEAR(b[i], x[i], 1e-9 * static_cast<double>(n));
  }
}

TEST(LinearAlgebra, CholeskyRefusesWhatIsNotPositiveDefinite) {
  std::vector<double> negative = {1, 0, 0, -1};
  EXPECT_FALSE(cholesky(negative, 2));
  std::vector<double> singular = {1, 1, 1, 1};
  EXPECT_FALSE(cholesky(singular, 2));
  std::vector<double> broken = {std::nan(""), 0, 0, 1};
  EXPECT_FALSE(cholesky(broken, 2));
}

TEST(LinearAlgebra, EigenvectorsRebuildTheMatrixInFallingOrder) {
  Numbers dice(43);
  for (const std::size_t n : {1U, 2U, 3U, 20U, 77U}) {
    std::vector<double> a = random_definite(dice, n);
    if (n == 20) {  // a matrix of rank 1 has nothing but zeros beside
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < n; ++j) a[i * n + j] = static_cast<double>((i + 1) * (j + 1));
      }
    }
    const Eigen eigen = eigen_symmetric(a, n);
    const double size = eigen.values[0];
    for (std::size_t i = 0; i + 1 < n; ++i) EXPECT_GE(eigen.values[i], eigen.values[i + 1]);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        double product = 0;
        double back = 0;
        for (std::size_t k = 0; k < n; ++k) {
          product += eigen.vectors[i * n + k] * eigen.vectors[j * n + k];
          back += eigen.values[k] * eigen.vectors[k * n + i] * eigen.vectors[k * n + j];
        }
        EXPECT_NEAR(product, i == j ? 1 : 0, 1e-11) << n;
        EXPECT_NEAR(back, a[i * n + j], 1e-12 * size * static_cast<double>(n)) << n;
      }
    }
  }
  const Eigen zeros = eigen_symmetric(std::vector<double>(9, 0.0), 3);
  for (const double value : zeros.values) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace kerf::compress
