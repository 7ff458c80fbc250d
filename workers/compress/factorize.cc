#include "workers/compress/factorize.h"

#include <algorithm>
#include <cmath>

#include "workers/compress/linear_algebra.h"

namespace kerf::compress {
namespace {

using Matrix = std::vector<double>;

Matrix product(std::span<const double> a, std::span<const double> b, std::size_t n, std::size_t k,
               std::size_t m) {
  Matrix out(n * m, 0.0);
  add_product(a, b, out, n, k, m);
  return out;
}

/// A·G, or A where there is no G.
Matrix times_gram(std::span<const double> a, std::size_t rows, std::size_t columns, Gram gram) {
  if (gram.empty()) return {a.begin(), a.end()};
  return product(a, gram, rows, columns, columns);
}

/// G with a little of its mean diagonal, so that inputs that were never seen have a say and a
/// Cholesky decomposition exists.
Matrix damped(std::span<const double> a, std::size_t n, double share) {
  Matrix out(a.begin(), a.end());
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += out[i * n + i];
  const double more = trace > 0 ? share * trace / static_cast<double>(n) : 1.0;
  for (std::size_t i = 0; i < n; ++i) out[i * n + i] += more;
  return out;
}

/// Gives the i-th row of `first` and the i-th column of `second` the same norm.
void balance(Factors& factors, std::size_t rows, std::size_t columns) {
  for (std::size_t i = 0; i < factors.rank; ++i) {
    double one = 0;
    double two = 0;
    for (std::size_t c = 0; c < columns; ++c) one += std::pow(factors.first[i * columns + c], 2);
    for (std::size_t r = 0; r < rows; ++r) two += std::pow(factors.second[r * factors.rank + i], 2);
    if (!(one > 0) || !(two > 0)) continue;
    const double factor = std::sqrt(std::sqrt(two / one));
    for (std::size_t c = 0; c < columns; ++c) factors.first[i * columns + c] *= factor;
    for (std::size_t r = 0; r < rows; ++r) factors.second[r * factors.rank + i] /= factor;
  }
}

}  // namespace

std::size_t RankChoice::of(std::span<const double> eigenvalues) const {
  if (energy >= 1) return most;
  double sum = 0;
  for (const double value : eigenvalues) sum += std::max(0.0, value);
  double kept = 0;
  for (std::size_t rank = 0; rank < std::min(most, eigenvalues.size()); ++rank) {
    if (kept >= energy * sum) return std::max<std::size_t>(1, rank);
    kept += std::max(0.0, eigenvalues[rank]);
  }
  return most;
}

Factors factorize(std::span<const double> w, std::size_t rows, std::size_t columns, Gram gram,
                  RankChoice wanted) {
  std::size_t rank = wanted.most;
  const Matrix g = gram.empty() ? Matrix() : damped(gram, columns, 1e-4);
  Matrix u;  // [rank, rows]
  if (rows <= columns) {
    const Matrix wt = transposed(w, rows, columns);
    const Matrix wg = times_gram(w, rows, columns, g);
    Eigen eigen = eigen_symmetric(product(wg, wt, rows, columns, rows), rows);
    rank = wanted.of(eigen.values);
    u = std::move(eigen.vectors);
    u.resize(rank * rows);
  } else {
    Matrix m(w.begin(), w.end());  // W Rᵀ
    if (!g.empty()) {
      Matrix r = g;
      if (cholesky(r, columns)) m = product(w, transposed(r, columns, columns), rows, columns, columns);
    }
    const Eigen eigen =
        eigen_symmetric(product(transposed(m, rows, columns), m, columns, rows, columns), columns);
    rank = wanted.of(eigen.values);
    const Matrix v = transposed({eigen.vectors.data(), rank * columns}, rank, columns);
    u = transposed(product(m, v, rows, columns, rank), rows, rank);
    for (std::size_t i = 0; i < rank; ++i) {
      double norm = 0;
      for (std::size_t r = 0; r < rows; ++r) norm += u[i * rows + r] * u[i * rows + r];
      norm = std::sqrt(norm);
      // What is left of directions that the weights don't have is rounding noise.
      const bool there = norm > 1e-10 * std::sqrt(std::max(0.0, eigen.values[0]));
      for (std::size_t r = 0; r < rows; ++r) u[i * rows + r] = there ? u[i * rows + r] / norm : 0.0;
    }
  }
  Factors out{rank, {}, {}};
  out.first = product(u, w, rank, rows, columns);
  out.second = transposed(u, rank, rows);
  balance(out, rows, columns);
  return out;
}

std::vector<double> projected(Gram gram, std::span<const double> f, std::size_t height,
                              std::size_t columns) {
  return product(times_gram(f, height, columns, gram), transposed(f, height, columns), height,
                 columns, height);
}

std::vector<double> regress(std::span<const double> w, std::size_t rows, std::size_t columns,
                            Gram gram, std::span<const double> f, std::size_t height) {
  const Matrix fg = times_gram(f, height, columns, gram);
  Matrix normal = damped(product(fg, transposed(f, height, columns), height, columns, height),
                         height, 1e-6);
  Matrix right = product(fg, transposed(w, rows, columns), height, columns, rows);
  if (!cholesky(normal, height)) return Matrix(rows * height, 0.0);
  solve_cholesky(normal, height, right, rows);
  return transposed(right, height, rows);
}

Factors factorize_spatial(std::span<const double> w, const KernelShape& shape, Gram gram,
                          RankChoice wanted) {
  const auto [outputs, inputs, high, wide] = shape;
  const std::size_t tall = inputs * high;
  const std::size_t columns = shape.columns();
  const auto column = [&](std::size_t i, std::size_t y, std::size_t x) {
    return (i * high + y) * wide + x;
  };
  Matrix m(outputs * wide * tall);  // [(o, x), (i, y)]
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t x = 0; x < wide; ++x) {
      for (std::size_t c = 0; c < tall; ++c)
        m[(o * wide + x) * tall + c] = w[o * columns + column(c / high, c % high, x)];
    }
  }
  Matrix g;
  if (!gram.empty()) {  // of one column of the kernel: the mean over all of them
    g.assign(tall * tall, 0.0);
    for (std::size_t a = 0; a < tall; ++a) {
      for (std::size_t b = 0; b < tall; ++b) {
        for (std::size_t x = 0; x < wide; ++x) {
          g[a * tall + b] += gram[column(a / high, a % high, x) * columns +
                                  column(b / high, b % high, x)] / static_cast<double>(wide);
        }
      }
    }
  }
  Factors raw = factorize(m, outputs * wide, tall, g, wanted);
  const std::size_t rank = raw.rank;
  Factors out{rank, std::move(raw.first), Matrix(outputs * rank * wide)};
  if (gram.empty()) {
    for (std::size_t o = 0; o < outputs; ++o) {
      for (std::size_t x = 0; x < wide; ++x) {
        for (std::size_t r = 0; r < rank; ++r)
          out.second[(o * rank + r) * wide + x] = raw.second[(o * wide + x) * rank + r];
      }
    }
    return out;
  }
  Matrix f(rank * wide * columns, 0.0);  // [(r, x), (i, y, x)]
  for (std::size_t r = 0; r < rank; ++r) {
    for (std::size_t x = 0; x < wide; ++x) {
      for (std::size_t c = 0; c < tall; ++c)
        f[(r * wide + x) * columns + column(c / high, c % high, x)] = out.first[r * tall + c];
    }
  }
  out.second = regress(w, outputs, columns, gram, f, rank * wide);
  return out;
}

TuckerFactors factorize_tucker(std::span<const double> w, const KernelShape& shape, Gram gram,
                               RankChoice wanted_in, RankChoice wanted_out) {
  const auto [outputs, inputs, high, wide] = shape;
  const std::size_t taps = high * wide;
  const std::size_t columns = shape.columns();
  Matrix m(outputs * taps * inputs);  // [(o, tap), i]
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t i = 0; i < inputs; ++i) {
      for (std::size_t t = 0; t < taps; ++t)
        m[(o * taps + t) * inputs + i] = w[o * columns + i * taps + t];
    }
  }
  Matrix g;
  if (!gram.empty()) {
    g.assign(inputs * inputs, 0.0);
    for (std::size_t a = 0; a < inputs; ++a) {
      for (std::size_t b = 0; b < inputs; ++b) {
        for (std::size_t t = 0; t < taps; ++t) {
          g[a * inputs + b] += gram[(a * taps + t) * columns + b * taps + t] / static_cast<double>(taps);
        }
      }
    }
  }
  TuckerFactors out;
  Factors side = factorize(m, outputs * taps, inputs, g, wanted_in);
  const std::size_t rank_in = out.rank_in = side.rank;
  out.input = std::move(side.first);
  const std::size_t height = rank_in * taps;
  Matrix f(height * columns, 0.0);  // [(r, tap), (i, tap)]
  for (std::size_t r = 0; r < rank_in; ++r) {
    for (std::size_t i = 0; i < inputs; ++i) {
      for (std::size_t t = 0; t < taps; ++t)
        f[(r * taps + t) * columns + i * taps + t] = out.input[r * inputs + i];
    }
  }
  const Matrix b = regress(w, outputs, columns, gram, f, height);
  const Matrix through = projected(gram, f, height, columns);
  Factors rest = factorize(b, outputs, height, through, 
                           {std::min(wanted_out.most, height), wanted_out.energy});
  out.rank_out = rest.rank;
  out.core = std::move(rest.first);
  out.output = std::move(rest.second);
  return out;
}

std::vector<double> compose(const Factors& factors, std::size_t rows, std::size_t columns) {
  return product(factors.second, factors.first, rows, factors.rank, columns);
}

std::vector<double> compose_spatial(const Factors& factors, const KernelShape& shape) {
  const auto [outputs, inputs, high, wide] = shape;
  Matrix out(outputs * shape.columns(), 0.0);
  const std::size_t tall = inputs * high;
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t r = 0; r < factors.rank; ++r) {
      for (std::size_t c = 0; c < tall; ++c) {
        for (std::size_t x = 0; x < wide; ++x) {
          out[(o * tall + c) * wide + x] += factors.second[(o * factors.rank + r) * wide + x] *
                                            factors.first[r * tall + c];
        }
      }
    }
  }
  return out;
}

std::vector<double> compose_tucker(const TuckerFactors& factors, const KernelShape& shape) {
  const auto [outputs, inputs, high, wide] = shape;
  const std::size_t taps = high * wide;
  const Matrix b = product(factors.output, factors.core, outputs, factors.rank_out,
                           factors.rank_in * taps);
  Matrix out(outputs * shape.columns(), 0.0);
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t r = 0; r < factors.rank_in; ++r) {
      for (std::size_t i = 0; i < inputs; ++i) {
        for (std::size_t t = 0; t < taps; ++t) {
          out[(o * inputs + i) * taps + t] +=
              b[(o * factors.rank_in + r) * taps + t] * factors.input[r * inputs + i];
        }
      }
    }
  }
  return out;
}

}  // namespace kerf::compress
