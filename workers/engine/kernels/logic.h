#pragma once

#include <cstdint>
#include <optional>

namespace kerf::engine {

/// What two elements give. The first group gives a bool (one byte, 0 or 1), the second the type
/// itself: integers wrap around, a division by 0 gives 0.
enum class PairOp : std::uint8_t {
  kEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kAnd, kOr, kXor,
  kAdd, kSubtract, kMultiply, kDivide, kRemainder, kTruncatedRemainder, kMaximum, kMinimum,
  kBitAnd, kBitOr, kBitXor,
};

/// n elements of a and b, which lie `a_stride` and `b_stride` elements apart (0: one value).
/// Comparisons for f32, s32, s64, u8 (bool too) and s8; arithmetic for s32, s64, u8 and s8.
using PairRun = void (*)(PairOp op, const void* a, std::int64_t a_stride, const void* b, std::int64_t b_stride, void* to,
                         std::int64_t n);
enum class ElementType : std::uint8_t { kF32, kS32, kS64, kU8, kS8 };
[[nodiscard]] PairRun pair_run(ElementType type);

/// to = condition ? a : b for elements of 1, 2, 4 or 8 bytes.
using SelectRun = void (*)(const std::uint8_t* condition, std::int64_t condition_stride, const void* a, std::int64_t a_stride,
                           const void* b, std::int64_t b_stride, void* to, std::int64_t n);
[[nodiscard]] SelectRun select_run(std::size_t element_size);

/// to = 1 where the byte is 0, else 0.
void invert(const std::uint8_t* from, std::uint8_t* to, std::size_t n);
/// to = 1 where x is NaN.
void is_nan(const float* from, std::uint8_t* to, std::size_t n);
/// to = 1 where x is infinite, of the signs that are asked for.
void is_infinite(const float* from, std::uint8_t* to, std::size_t n, bool positive, bool negative);

}  // namespace kerf::engine
