#include "workers/compress/linear_algebra.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "workers/compress/vectorized.h"

namespace kerf::compress {
namespace {

constexpr std::size_t kLanes = 16;  // columns of a packed block
constexpr std::size_t kHigh = 4;     // columns of a block that are multiplied at once
constexpr std::size_t kPanel = 256;  // rows summed in f32

/// As many floats as fit a register, which plain loops over arrays don't stay in.
template <std::size_t Bytes>
struct Register {
  typedef float Type __attribute__((vector_size(Bytes)));
};

/// tile[i][j] = Σ_r a[r][i] · b[r][j] for 4 columns of one packed block and 16 of another.
template <std::size_t Bytes>
[[gnu::always_inline]] inline void multiply(const float* a, const float* b, std::size_t rows,
                                            float* tile) {
  using Floats = typename Register<Bytes>::Type;
  constexpr std::size_t kWidth = Bytes / sizeof(float);
  for (std::size_t j = 0; j < kLanes; j += 2 * kWidth) {
    Floats sums[kHigh][2] = {};
    for (std::size_t r = 0; r < rows; ++r) {
      Floats left;
      Floats right;
      std::memcpy(&left, b + r * kLanes + j, Bytes);
      std::memcpy(&right, b + r * kLanes + j + kWidth, Bytes);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < kHigh; ++i) {
        sums[i][0] += a[r * kLanes + i] * left;
        sums[i][1] += a[r * kLanes + i] * right;
      }
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kHigh; ++i) {
      std::memcpy(tile + i * kLanes + j, &sums[i][0], Bytes);
      std::memcpy(tile + i * kLanes + j + kWidth, &sums[i][1], Bytes);
    }
  }
}

#ifdef KERF_VERSIONS
__attribute__((target("arch=x86-64-v3"))) void multiply_tile(const float* a, const float* b,
                                                             std::size_t rows, float* tile) {
  multiply<32>(a, b, rows, tile);
}
__attribute__((target("default")))
#endif
void multiply_tile(const float* a, const float* b, std::size_t rows, float* tile) {
  multiply<16>(a, b, rows, tile);
}

/// y −= Σ_k factor[k] · x[k], four rows x at a time.
KERF_VECTORIZED void subtract_rows(double* __restrict y, const double* __restrict x,
                                   std::size_t stride, const double* __restrict factors,
                                   std::size_t factor_stride, std::size_t count,
                                   std::size_t length) {
  std::size_t k = 0;
  for (; k + 4 <= count; k += 4) {
    const double f0 = factors[k * factor_stride];
    const double f1 = factors[(k + 1) * factor_stride];
    const double f2 = factors[(k + 2) * factor_stride];
    const double f3 = factors[(k + 3) * factor_stride];
    const double* x0 = x + k * stride;
    const double* x1 = x0 + stride;
    const double* x2 = x1 + stride;
    const double* x3 = x2 + stride;
    for (std::size_t j = 0; j < length; ++j) {
      y[j] -= (f0 * x0[j] + f1 * x1[j]) + (f2 * x2[j] + f3 * x3[j]);
    }
  }
  for (; k < count; ++k) {
    const double f = factors[k * factor_stride];
    const double* row = x + k * stride;
    for (std::size_t j = 0; j < length; ++j) y[j] -= f * row[j];
  }
}

/// Σ a·b in eight lanes.
KERF_VECTORIZED double dot(const double* __restrict a, const double* __restrict b, std::size_t n) {
  double lanes[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (std::size_t l = 0; l < 8; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  double sum = 0;
  for (; i < n; ++i) sum += a[i] * b[i];
  for (const double lane : lanes) sum += lane;
  return sum;
}

/// y += f·x + g·z
KERF_VECTORIZED void add_two(double* __restrict y, double f, const double* __restrict x, double g,
                             const double* __restrict z, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += f * x[i] + g * z[i];
}

/// (a, b) = (c·a − s·b, s·a + c·b)
KERF_VECTORIZED void rotate(double* __restrict a, double* __restrict b, double c, double s,
                            std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const double h = b[i];
    b[i] = s * a[i] + c * h;
    a[i] = c * a[i] - s * h;
  }
}

/// The power of two that brings `largest` near 1; 1 where its square is far from the ends of f32.
float safe_factor(float largest) {
  if (largest == 0.0F || (largest > 1e-15F && largest < 1e15F)) return 1.0F;
  int exponent = 0;
  (void)std::frexp(largest, &exponent);
  return std::ldexp(1.0F, std::clamp(-exponent, -126, 127));
}

}  // namespace

void add_gram(std::span<const float> rows, std::size_t count, std::size_t columns,
              std::span<double> gram) {
  const std::size_t blocks = (columns + kLanes - 1) / kLanes;
  std::vector<float> packed(blocks * kPanel * kLanes, 0.0F);
  float tile[kHigh * kLanes];
  for (std::size_t begin = 0; begin < count; begin += kPanel) {
    const std::size_t used = std::min(kPanel, count - begin);
    const float* panel = rows.data() + begin * columns;
    float largest = 0;
    for (std::size_t i = 0; i < used * columns; ++i) largest = std::max(largest, std::fabs(panel[i]));
    const float factor = safe_factor(largest);
    const double back = 1.0 / (static_cast<double>(factor) * static_cast<double>(factor));
    for (std::size_t r = 0; r < used; ++r) {
      const float* row = panel + r * columns;
      for (std::size_t c = 0; c < columns; ++c) {
        packed[(c / kLanes * kPanel + r) * kLanes + c % kLanes] = row[c] * factor;
      }
    }
    for (std::size_t i = 0; i < columns; i += kHigh) {
      const float* a = packed.data() + i / kLanes * kPanel * kLanes + i % kLanes;
      const std::size_t high = std::min(kHigh, columns - i);
      for (std::size_t block = i / kLanes; block < blocks; ++block) {
        multiply_tile(a, packed.data() + block * kPanel * kLanes, used, tile);
        const std::size_t wide = std::min(kLanes, columns - block * kLanes);
        for (std::size_t y = 0; y < high; ++y) {
          double* target = gram.data() + (i + y) * columns + block * kLanes;
          for (std::size_t x = 0; x < wide; ++x) {
            target[x] += static_cast<double>(tile[y * kLanes + x]) * back;
          }
        }
      }
    }
  }
}

void mirror(std::span<double> matrix, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j) matrix[j * n + i] = matrix[i * n + j];
  }
}

bool cholesky(std::span<double> a, std::size_t n) {
  constexpr std::size_t kBlock = 64;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t end = std::min(n, begin + kBlock);
    for (std::size_t k = begin; k < end; ++k) {
      double* row = a.data() + k * n;
      subtract_rows(row + k, a.data() + begin * n + k, n, a.data() + begin * n + k, n, k - begin,
                    n - k);
      const double pivot = row[k];
      if (!(pivot > 0) || !std::isfinite(pivot)) return false;
      const double root = std::sqrt(pivot);
      row[k] = root;
      for (std::size_t j = k + 1; j < n; ++j) row[j] /= root;
    }
    for (std::size_t i = end; i < n; ++i) {
      subtract_rows(a.data() + i * n + i, a.data() + begin * n + i, n, a.data() + begin * n + i, n,
                    end - begin, n - i);
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) a[i * n + j] = 0;
  }
  return true;
}

void solve_cholesky(std::span<const double> r, std::size_t n, std::span<double> b, std::size_t m) {
  for (std::size_t i = 0; i < n; ++i) {
    double* row = b.data() + i * m;
    subtract_rows(row, b.data(), m, r.data() + i, n, i, m);
    const double pivot = r[i * n + i];
    for (std::size_t j = 0; j < m; ++j) row[j] /= pivot;
  }
  for (std::size_t i = n; i-- > 0;) {
    double* row = b.data() + i * m;
    subtract_rows(row, b.data() + (i + 1) * m, m, r.data() + i * n + i + 1, 1, n - i - 1, m);
    const double pivot = r[i * n + i];
    for (std::size_t j = 0; j < m; ++j) row[j] /= pivot;
  }
}

void add_product(std::span<const double> a, std::span<const double> b, std::span<double> c,
                 std::size_t n, std::size_t k, std::size_t m) {
  std::vector<double> row(k);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < k; ++j) row[j] = -a[i * k + j];
    subtract_rows(c.data() + i * m, b.data(), m, row.data(), 1, k, m);
  }
}

std::vector<double> transposed(std::span<const double> a, std::size_t rows, std::size_t columns) {
  std::vector<double> out(rows * columns);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) out[j * rows + i] = a[i * columns + j];
  }
  return out;
}

namespace {

/// Householder reduction: v (by columns, as rows) becomes the transform, d the diagonal, e what
/// lies beside it.
void tridiagonalize(std::vector<double>& v, std::vector<double>& d, std::vector<double>& e,
                    std::size_t n) {
  const auto at = [&](std::size_t row, std::size_t column) -> double& { return v[column * n + row]; };
  for (std::size_t j = 0; j < n; ++j) d[j] = at(n - 1, j);
  for (std::size_t i = n - 1; i > 0; --i) {
    double scale = 0;
    double h = 0;
    for (std::size_t k = 0; k < i; ++k) scale += std::fabs(d[k]);
    if (scale == 0) {
      e[i] = d[i - 1];
      for (std::size_t j = 0; j < i; ++j) {
        d[j] = at(i - 1, j);
        at(i, j) = 0;
        at(j, i) = 0;
      }
    } else {
      for (std::size_t k = 0; k < i; ++k) {
        d[k] /= scale;
        h += d[k] * d[k];
      }
      double f = d[i - 1];
      double g = f > 0 ? -std::sqrt(h) : std::sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      std::fill_n(e.begin(), i, 0.0);
      for (std::size_t j = 0; j < i; ++j) {
        f = d[j];
        at(j, i) = f;
        const double* column = v.data() + j * n;
        g = e[j] + column[j] * f + dot(column + j + 1, d.data() + j + 1, i - j - 1);
        add_two(e.data() + j + 1, f, column + j + 1, 0, column + j + 1, i - j - 1);
        e[j] = g;
      }
      f = 0;
      for (std::size_t j = 0; j < i; ++j) {
        e[j] /= h;
        f += e[j] * d[j];
      }
      const double hh = f / (h + h);
      for (std::size_t j = 0; j < i; ++j) e[j] -= hh * d[j];
      for (std::size_t j = 0; j < i; ++j) {
        add_two(v.data() + j * n + j, -d[j], e.data() + j, -e[j], d.data() + j, i - j);
        d[j] = at(i - 1, j);
        at(i, j) = 0;
      }
    }
    d[i] = h;
  }
  for (std::size_t i = 0; i + 1 < n; ++i) {
    at(n - 1, i) = at(i, i);
    at(i, i) = 1;
    const double h = d[i + 1];
    double* next = v.data() + (i + 1) * n;
    if (h != 0) {
      for (std::size_t k = 0; k <= i; ++k) d[k] = next[k] / h;
      for (std::size_t j = 0; j <= i; ++j) {
        double* column = v.data() + j * n;
        const double g = dot(next, column, i + 1);
        add_two(column, -g, d.data(), 0, d.data(), i + 1);
      }
    }
    std::fill_n(next, i + 1, 0.0);
  }
  for (std::size_t j = 0; j < n; ++j) {
    d[j] = at(n - 1, j);
    at(n - 1, j) = 0;
  }
  at(n - 1, n - 1) = 1;
  e[0] = 0;
}

/// Implicit QL on the tridiagonal form.
void diagonalize(std::vector<double>& v, std::vector<double>& d, std::vector<double>& e,
                 std::size_t n) {
  std::rotate(e.begin(), e.begin() + 1, e.end());
  e[n - 1] = 0;
  double f = 0;
  double largest = 0;
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  constexpr int kMostSteps = 60;  // a handful in practice
  for (std::size_t l = 0; l < n; ++l) {
    largest = std::max(largest, std::fabs(d[l]) + std::fabs(e[l]));
    std::size_t m = l;
    while (m + 1 < n && std::fabs(e[m]) > kEpsilon * largest) ++m;
    for (int step = 0; m > l && step < kMostSteps; ++step) {
      double g = d[l];
      double p = (d[l + 1] - g) / (2 * e[l]);
      double r = std::hypot(p, 1.0);
      if (p < 0) r = -r;
      d[l] = e[l] / (p + r);
      d[l + 1] = e[l] * (p + r);
      const double next = d[l + 1];
      double h = g - d[l];
      for (std::size_t i = l + 2; i < n; ++i) d[i] -= h;
      f += h;
      p = d[m];
      double c = 1;
      double c2 = 1;
      double c3 = 1;
      double s = 0;
      double s2 = 0;
      const double el1 = e[l + 1];
      for (std::size_t i = m; i-- > l;) {
        c3 = c2;
        c2 = c;
        s2 = s;
        g = c * e[i];
        h = c * p;
        r = std::hypot(p, e[i]);
        e[i + 1] = s * r;
        s = e[i] / r;
        c = p / r;
        p = c * d[i] - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]);
        rotate(v.data() + i * n, v.data() + (i + 1) * n, c, s, n);
      }
      p = -s * s2 * c3 * el1 * e[l] / next;
      e[l] = s * p;
      d[l] = c * p;
      if (!(std::fabs(e[l]) > kEpsilon * largest)) break;
    }
    d[l] += f;
    e[l] = 0;
  }
}

}  // namespace

Eigen eigen_symmetric(std::vector<double> a, std::size_t n) {
  if (n == 0) return {};
  std::vector<double> d(n, 0.0);
  std::vector<double> e(n, 0.0);
  tridiagonalize(a, d, e, n);
  diagonalize(a, d, e, n);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t x, std::size_t y) { return d[x] > d[y]; });
  Eigen out{std::vector<double>(n), std::vector<double>(n * n)};
  for (std::size_t i = 0; i < n; ++i) {
    out.values[i] = d[order[i]];
    std::copy_n(a.begin() + static_cast<std::ptrdiff_t>(order[i] * n), n,
                out.vectors.begin() + static_cast<std::ptrdiff_t>(i * n));
  }
  return out;
}

}  // namespace kerf::compress
