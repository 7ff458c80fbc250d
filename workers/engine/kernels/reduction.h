#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

enum class Fold : std::uint8_t { kSum, kSumOfAbsolutes, kSumOfSquares, kMaximum, kMinimum, kProduct };

/// The middle of three extents, folded. Memory: [outer, extent, inner] -> [outer, inner].
struct Folding {
  Fold fold = Fold::kSum;
  std::int64_t outer = 1, extent = 1, inner = 1;
  int threads = 1;
};

/// Sums of floats run in lanes (inner of 1) or down the columns; maxima pass over NaN unless all are.
void fold(const Folding& what, const float* x, float* y);
/// Integers wrap around.
void fold(const Folding& what, const std::int32_t* x, std::int32_t* y);
void fold(const Folding& what, const std::int64_t* x, std::int64_t* y);

/// sum of exp(x - high), where high is the maximum along the middle: [outer, inner].
void fold_exponentials(const Folding& what, const float* x, const float* high, float* y);

/// What comes after the fold, in place.
enum class Finish : std::uint8_t { kNone, kScale, kSquareRoot, kLogarithm };
void finish(Finish how, float factor, float* y, std::size_t n);
/// y += log(sums).
void add_logarithms(const float* sums, float* y, std::size_t n);

/// Index of the largest (or smallest) along the middle; of equal ones the first, or the last.
/// NaN is never the largest, except where it comes first.
struct Extremum {
  std::int64_t outer = 1, extent = 1, inner = 1;
  bool largest = true, last = false;
  int threads = 1;
};
void find_extremum(const Extremum& what, const float* x, std::int64_t* y);
void find_extremum(const Extremum& what, const std::int32_t* x, std::int64_t* y);
void find_extremum(const Extremum& what, const std::int64_t* x, std::int64_t* y);
void find_extremum(const Extremum& what, const std::uint8_t* x, std::int64_t* y);

}  // namespace kerf::engine
