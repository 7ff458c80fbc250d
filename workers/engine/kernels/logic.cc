#include "workers/engine/kernels/logic.h"

#include <limits>
#include <type_traits>

#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

/// Three loops without strides, which vectorize, and one for what is left.
template <class T, class To, class F>
KERF_INLINE void pairs(const T* a, std::int64_t sa, const T* b, std::int64_t sb, To* to, std::int64_t n, F f) {
  if (sa == 1 && sb == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(f(a[i], b[i]));
  } else if (sa == 1 && sb == 0) {
    const T c = *b;
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(f(a[i], c));
  } else if (sa == 0 && sb == 1) {
    const T c = *a;
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(f(c, b[i]));
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(f(a[i * sa], b[i * sb]));
  }
}

template <class T>
KERF_INLINE T quotient(T a, T b) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(std::make_unsigned_t<T>{} - static_cast<std::make_unsigned_t<T>>(a));
  }
  return static_cast<T>(a / b);
}

/// With the sign of b, or as C has it.
template <class T>
KERF_INLINE T remainder(T a, T b, bool truncated) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
    const T r = static_cast<T>(a % b);
    return truncated || r == 0 || (r < 0) == (b < 0) ? r : static_cast<T>(r + b);
  } else {
    return static_cast<T>(a % b);
  }
}

template <class T>
KERF_INLINE void compared(PairOp op, const T* a, std::int64_t sa, const T* b, std::int64_t sb, std::uint8_t* to, std::int64_t n) {
  switch (op) {
    case PairOp::kEqual: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x == y; }); break;
    case PairOp::kLess: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x < y; }); break;
    case PairOp::kLessOrEqual: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x <= y; }); break;
    case PairOp::kGreater: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x > y; }); break;
    case PairOp::kGreaterOrEqual: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x >= y; }); break;
    case PairOp::kAnd: pairs(a, sa, b, sb, to, n, [](T x, T y) { return (x != T{}) & (y != T{}); }); break;
    case PairOp::kOr: pairs(a, sa, b, sb, to, n, [](T x, T y) { return (x != T{}) | (y != T{}); }); break;
    default: pairs(a, sa, b, sb, to, n, [](T x, T y) { return (x != T{}) != (y != T{}); }); break;
  }
}

template <class T>
KERF_INLINE void combined(PairOp op, const T* a, std::int64_t sa, const T* b, std::int64_t sb, T* to, std::int64_t n) {
  using U = std::uint64_t;
  switch (op) {
    case PairOp::kAdd: pairs(a, sa, b, sb, to, n, [](T x, T y) { return static_cast<T>(static_cast<U>(x) + static_cast<U>(y)); }); break;
    case PairOp::kSubtract: pairs(a, sa, b, sb, to, n, [](T x, T y) { return static_cast<T>(static_cast<U>(x) - static_cast<U>(y)); }); break;
    case PairOp::kMultiply: pairs(a, sa, b, sb, to, n, [](T x, T y) { return static_cast<T>(static_cast<U>(x) * static_cast<U>(y)); }); break;
    case PairOp::kDivide: pairs(a, sa, b, sb, to, n, [](T x, T y) { return quotient(x, y); }); break;
    case PairOp::kRemainder: pairs(a, sa, b, sb, to, n, [](T x, T y) { return remainder(x, y, false); }); break;
    case PairOp::kTruncatedRemainder: pairs(a, sa, b, sb, to, n, [](T x, T y) { return remainder(x, y, true); }); break;
    case PairOp::kMaximum: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x > y ? x : y; }); break;
    case PairOp::kMinimum: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x < y ? x : y; }); break;
    case PairOp::kBitAnd: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x & y; }); break;
    case PairOp::kBitOr: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x | y; }); break;
    default: pairs(a, sa, b, sb, to, n, [](T x, T y) { return x ^ y; }); break;
  }
}

template <class T>
KERF_INLINE void run(PairOp op, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  const auto* x = static_cast<const T*>(a);
  const auto* y = static_cast<const T*>(b);
  if (op <= PairOp::kXor) {
    compared(op, x, sa, y, sb, static_cast<std::uint8_t*>(to), n);
  } else if constexpr (std::is_integral_v<T>) {
    combined(op, x, sa, y, sb, static_cast<T*>(to), n);
  }
}

KERF_VECTORIZED void run_f32(PairOp op, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  run<float>(op, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void run_s32(PairOp op, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  run<std::int32_t>(op, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void run_s64(PairOp op, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  run<std::int64_t>(op, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void run_u8(PairOp op, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  run<std::uint8_t>(op, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void run_s8(PairOp op, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  run<std::int8_t>(op, a, sa, b, sb, to, n);
}

template <class T>
KERF_INLINE void select(const std::uint8_t* condition, std::int64_t sc, const void* a, std::int64_t sa, const void* b, std::int64_t sb,
                        void* target, std::int64_t n) {
  const auto* x = static_cast<const T*>(a);
  const auto* y = static_cast<const T*>(b);
  auto* to = static_cast<T*>(target);
  if (sc == 1 && sa == 1 && sb == 1) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = condition[i] != 0 ? x[i] : y[i];
  } else if (sc == 1 && sa == 1 && sb == 0) {
    const T v = *y;
    for (std::int64_t i = 0; i < n; ++i) to[i] = condition[i] != 0 ? x[i] : v;
  } else if (sc == 1 && sa == 0 && sb == 1) {
    const T v = *x;
    for (std::int64_t i = 0; i < n; ++i) to[i] = condition[i] != 0 ? v : y[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = condition[i * sc] != 0 ? x[i * sa] : y[i * sb];
  }
}

KERF_VECTORIZED void select_1(const std::uint8_t* c, std::int64_t sc, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  select<std::uint8_t>(c, sc, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void select_2(const std::uint8_t* c, std::int64_t sc, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  select<std::uint16_t>(c, sc, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void select_4(const std::uint8_t* c, std::int64_t sc, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  select<std::uint32_t>(c, sc, a, sa, b, sb, to, n);
}
KERF_VECTORIZED void select_8(const std::uint8_t* c, std::int64_t sc, const void* a, std::int64_t sa, const void* b, std::int64_t sb, void* to, std::int64_t n) {
  select<std::uint64_t>(c, sc, a, sa, b, sb, to, n);
}

}  // namespace

PairRun pair_run(ElementType type) {
  switch (type) {
    case ElementType::kF32: return run_f32;
    case ElementType::kS32: return run_s32;
    case ElementType::kS64: return run_s64;
    case ElementType::kU8: return run_u8;
    default: return run_s8;
  }
}

SelectRun select_run(std::size_t element_size) {
  return element_size == 1 ? select_1 : element_size == 2 ? select_2 : element_size == 4 ? select_4 : select_8;
}

KERF_VECTORIZED void invert(const std::uint8_t* from, std::uint8_t* to, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] = from[i] == 0 ? 1 : 0;
}
KERF_VECTORIZED void is_nan(const float* from, std::uint8_t* to, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] = from[i] != from[i] ? 1 : 0;
}
KERF_VECTORIZED void is_infinite(const float* from, std::uint8_t* to, std::size_t n, bool positive, bool negative) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // A bound that nothing reaches where the sign isn't asked for.
  const float high = positive ? kInfinity : std::numeric_limits<float>::quiet_NaN();
  const float low = negative ? -kInfinity : std::numeric_limits<float>::quiet_NaN();
  for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<std::uint8_t>((from[i] == high) | (from[i] == low));
}

}  // namespace kerf::engine
