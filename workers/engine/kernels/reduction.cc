#include "workers/engine/kernels/reduction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "workers/engine/kernels/fast_math.h"
#include "workers/engine/kernels/lanes.h"
#include "workers/engine/kernels/parallel.h"

namespace kerf::engine {
namespace {

using vector::reduced;

constexpr std::int64_t kColumns = 256;  ///< That are folded together.

template <class T>
KERF_INLINE T start_of(Fold fold) {
  if constexpr (std::is_floating_point_v<T>) {
    if (fold == Fold::kMaximum) return -std::numeric_limits<T>::infinity();
    if (fold == Fold::kMinimum) return std::numeric_limits<T>::infinity();
  } else {
    if (fold == Fold::kMaximum) return std::numeric_limits<T>::lowest();
    if (fold == Fold::kMinimum) return std::numeric_limits<T>::max();
  }
  return fold == Fold::kProduct ? T{1} : T{0};
}

KERF_VECTORIZED float fold_row(Fold fold, const float* x, std::size_t n) {
  const auto add = [](float a, float b) { return a + b; };
  const auto same = [](float v) { return v; };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (fold) {
    case Fold::kSum: return vector::sum_of(x, n);
    case Fold::kSumOfSquares: return vector::sum_of_squares(x, n, 0.0F);
    case Fold::kSumOfAbsolutes: return reduced(x, n, 0.0F, [](float v) { return v < 0 ? -v : v; }, add);
    case Fold::kMaximum: return reduced(x, n, -kInfinity, same, [](float a, float b) { return b > a ? b : a; });
    case Fold::kMinimum: return reduced(x, n, kInfinity, same, [](float a, float b) { return b < a ? b : a; });
    default: return reduced(x, n, 1.0F, same, [](float a, float b) { return a * b; });
  }
}

/// Unsigned where a sum may pass the type's end.
template <class T>
using Wrapping = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;

template <class T>
KERF_INLINE void fold_columns(Fold fold, const T* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, T* y) {
  using W = Wrapping<T>;
  T acc[kColumns];
  const T start = start_of<T>(fold);
  for (std::int64_t c = 0; c < columns; ++c) acc[c] = start;
  const auto each = [&](auto f) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* row = x + r * stride;
      for (std::int64_t c = 0; c < columns; ++c) acc[c] = f(acc[c], row[c]);
    }
  };
  switch (fold) {
    case Fold::kSum: each([](T a, T v) { return static_cast<T>(static_cast<W>(a) + static_cast<W>(v)); }); break;
    case Fold::kSumOfSquares:
      each([](T a, T v) { return static_cast<T>(static_cast<W>(a) + static_cast<W>(v) * static_cast<W>(v)); });
      break;
    case Fold::kSumOfAbsolutes:
      each([](T a, T v) { return static_cast<T>(static_cast<W>(a) + (v < T{0} ? W{0} - static_cast<W>(v) : static_cast<W>(v))); });
      break;
    case Fold::kMaximum: each([](T a, T v) { return v > a ? v : a; }); break;
    case Fold::kMinimum: each([](T a, T v) { return v < a ? v : a; }); break;
    default: each([](T a, T v) { return static_cast<T>(static_cast<W>(a) * static_cast<W>(v)); }); break;
  }
  for (std::int64_t c = 0; c < columns; ++c) y[c] = acc[c];
}

KERF_VECTORIZED void fold_part(Fold fold, const float* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, float* y) {
  fold_columns(fold, x, rows, stride, columns, y);
}
KERF_VECTORIZED void fold_part(Fold fold, const std::int32_t* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, std::int32_t* y) {
  fold_columns(fold, x, rows, stride, columns, y);
}
KERF_VECTORIZED void fold_part(Fold fold, const std::int64_t* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, std::int64_t* y) {
  fold_columns(fold, x, rows, stride, columns, y);
}

KERF_VECTORIZED void exponentials(const float* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, const float* high, float* y) {
  float acc[kColumns];
  for (std::int64_t c = 0; c < columns; ++c) acc[c] = 0.0F;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * stride;
    for (std::int64_t c = 0; c < columns; ++c) acc[c] += vector::fast_exp(row[c] - high[c]);
  }
  for (std::int64_t c = 0; c < columns; ++c) y[c] = acc[c];
}

KERF_VECTORIZED float exponentials_of_row(const float* x, std::size_t n, float high) {
  float acc[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (std::size_t k = 0; k < 16; ++k) acc[k] += vector::fast_exp(x[i + k] - high);
  }
  for (std::size_t k = 0; i < n; ++i, ++k) acc[k] += vector::fast_exp(x[i] - high);
  float sum = 0;
  for (const float v : acc) sum += v;
  return sum;
}

/// f(outer index, first column, columns).
template <class What, class F>
void each_block(const What& what, F&& f) {
  const std::int64_t blocks = (what.inner + kColumns - 1) / kColumns;
  const std::int64_t work = what.extent * std::min(kColumns, what.inner);
  parallel_for(static_cast<std::size_t>(what.outer * blocks), static_cast<std::size_t>(work), what.threads, [&](std::size_t i) {
    const auto block = static_cast<std::int64_t>(i);
    const std::int64_t first = block % blocks * kColumns;
    f(block / blocks, first, std::min(kColumns, what.inner - first));
  });
}

template <class T>
void fold_all(const Folding& what, const T* x, T* y) {
  if constexpr (std::is_same_v<T, float>) {
    if (what.inner == 1) {
      parallel_for(static_cast<std::size_t>(what.outer), static_cast<std::size_t>(what.extent), what.threads, [&](std::size_t i) {
        const auto row = static_cast<std::int64_t>(i);
        y[row] = fold_row(what.fold, x + row * what.extent, static_cast<std::size_t>(what.extent));
      });
      return;
    }
  }
  each_block(what, [&](std::int64_t outer, std::int64_t first, std::int64_t columns) {
    fold_part(what.fold, x + outer * what.extent * what.inner + first, what.extent, what.inner, columns, y + outer * what.inner + first);
  });
}

template <class T>
KERF_INLINE void extremum_of_columns(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, bool largest, bool last,
                                     std::int64_t* y) {
  T best[kColumns];
  std::int32_t index[kColumns];
  for (std::int64_t c = 0; c < columns; ++c) {
    best[c] = x[c];
    index[c] = 0;
  }
  const auto each = [&](auto better) {
    for (std::int64_t r = 1; r < rows; ++r) {
      const T* row = x + r * stride;
      const auto here = static_cast<std::int32_t>(r);
      for (std::int64_t c = 0; c < columns; ++c) {
        const bool wins = better(row[c], best[c]);
        best[c] = wins ? row[c] : best[c];
        index[c] = wins ? here : index[c];
      }
    }
  };
  if (largest && !last) each([](T v, T b) { return v > b; });
  else if (largest) each([](T v, T b) { return v >= b; });
  else if (!last) each([](T v, T b) { return v < b; });
  else each([](T v, T b) { return v <= b; });
  for (std::int64_t c = 0; c < columns; ++c) y[c] = index[c];
}

/// One row: the value first, which vectorizes, then its place.
KERF_VECTORIZED std::int64_t extremum_of_row(const float* x, std::int64_t n, bool largest, bool last) {
  if (x[0] != x[0]) return 0;
  float best = x[0];
  const auto size = static_cast<std::size_t>(n);
  const auto same = [](float v) { return v; };
  best = largest ? reduced(x, size, best, same, [](float a, float b) { return b > a ? b : a; })
                 : reduced(x, size, best, same, [](float a, float b) { return b < a ? b : a; });
  std::int64_t i = last ? n - 1 : 0;
  while (x[i] != best) i += last ? -1 : 1;
  return i;
}

KERF_VECTORIZED void extremum_part(const float* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, bool largest, bool last, std::int64_t* y) {
  extremum_of_columns(x, rows, stride, columns, largest, last, y);
}
KERF_VECTORIZED void extremum_part(const std::int32_t* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, bool largest, bool last, std::int64_t* y) {
  extremum_of_columns(x, rows, stride, columns, largest, last, y);
}
KERF_VECTORIZED void extremum_part(const std::int64_t* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, bool largest, bool last, std::int64_t* y) {
  extremum_of_columns(x, rows, stride, columns, largest, last, y);
}
KERF_VECTORIZED void extremum_part(const std::uint8_t* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, bool largest, bool last, std::int64_t* y) {
  extremum_of_columns(x, rows, stride, columns, largest, last, y);
}

template <class T>
void find_all(const Extremum& what, const T* x, std::int64_t* y) {
  if constexpr (std::is_same_v<T, float>) {
    if (what.inner == 1) {
      parallel_for(static_cast<std::size_t>(what.outer), static_cast<std::size_t>(what.extent), what.threads, [&](std::size_t i) {
        const auto row = static_cast<std::int64_t>(i);
        y[row] = extremum_of_row(x + row * what.extent, what.extent, what.largest, what.last);
      });
      return;
    }
  }
  each_block(what, [&](std::int64_t outer, std::int64_t first, std::int64_t columns) {
    extremum_part(x + outer * what.extent * what.inner + first, what.extent, what.inner, columns, what.largest, what.last,
                  y + outer * what.inner + first);
  });
}

}  // namespace

void fold(const Folding& what, const float* x, float* y) { fold_all(what, x, y); }
void fold(const Folding& what, const std::int32_t* x, std::int32_t* y) { fold_all(what, x, y); }
void fold(const Folding& what, const std::int64_t* x, std::int64_t* y) { fold_all(what, x, y); }

void fold_exponentials(const Folding& what, const float* x, const float* high, float* y) {
  if (what.inner == 1) {
    parallel_for(static_cast<std::size_t>(what.outer), static_cast<std::size_t>(what.extent * 8), what.threads, [&](std::size_t i) {
      const auto row = static_cast<std::int64_t>(i);
      y[row] = exponentials_of_row(x + row * what.extent, static_cast<std::size_t>(what.extent), high[row]);
    });
    return;
  }
  each_block(what, [&](std::int64_t outer, std::int64_t first, std::int64_t columns) {
    const std::int64_t to = outer * what.inner + first;
    exponentials(x + outer * what.extent * what.inner + first, what.extent, what.inner, columns, high + to, y + to);
  });
}

KERF_VECTORIZED void finish(Finish how, float factor, float* y, std::size_t n) {
  if (how == Finish::kScale) {
    for (std::size_t i = 0; i < n; ++i) y[i] /= factor;
  } else if (how == Finish::kSquareRoot) {
    for (std::size_t i = 0; i < n; ++i) y[i] = std::sqrt(y[i]);
  } else if (how == Finish::kLogarithm) {
    for (std::size_t i = 0; i < n; ++i) y[i] = vector::fast_log(y[i]);
  }
}

KERF_VECTORIZED void add_logarithms(const float* sums, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += vector::fast_log(sums[i]);
}

void find_extremum(const Extremum& what, const float* x, std::int64_t* y) { find_all(what, x, y); }
void find_extremum(const Extremum& what, const std::int32_t* x, std::int64_t* y) { find_all(what, x, y); }
void find_extremum(const Extremum& what, const std::int64_t* x, std::int64_t* y) { find_all(what, x, y); }
void find_extremum(const Extremum& what, const std::uint8_t* x, std::int64_t* y) { find_all(what, x, y); }

}  // namespace kerf::engine
