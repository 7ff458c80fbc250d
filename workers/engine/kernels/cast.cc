#include "workers/engine/kernels/cast.h"

#include <cstdint>
#include <limits>
#include <type_traits>

#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

using graph::DType;

struct Truth {};  ///< To bool.

template <class From, class To>
KERF_INLINE void convert(const void* source, void* target, std::size_t n) {
  const auto* from = static_cast<const From*>(source);
  if constexpr (std::is_same_v<To, Truth>) {
    auto* to = static_cast<std::uint8_t*>(target);
    for (std::size_t i = 0; i < n; ++i) to[i] = from[i] != From{} ? 1 : 0;
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    auto* to = static_cast<To*>(target);
    constexpr auto kLow = static_cast<float>(std::numeric_limits<To>::lowest());
    constexpr auto kHigh = static_cast<float>(std::numeric_limits<To>::max());
    for (std::size_t i = 0; i < n; ++i) {
      const float x = from[i];
      // Within the type before it is converted, for beyond that C says nothing.
      const float inside = x > kLow && x < kHigh ? x : 0.0F;
      To v = static_cast<To>(inside);
      v = x <= kLow ? std::numeric_limits<To>::lowest() : v;
      v = x >= kHigh ? std::numeric_limits<To>::max() : v;
      to[i] = v;
    }
  } else {
    auto* to = static_cast<To*>(target);
    for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<To>(from[i]);
  }
}

#define KERF_CAST(name, From, To) \
  KERF_VECTORIZED void name(const void* from, void* to, std::size_t n) { convert<From, To>(from, to, n); }
#define KERF_CASTS_OF(prefix, From)          \
  KERF_CAST(prefix##_f32, From, float)        \
  KERF_CAST(prefix##_s32, From, std::int32_t) \
  KERF_CAST(prefix##_s64, From, std::int64_t) \
  KERF_CAST(prefix##_u8, From, std::uint8_t)  \
  KERF_CAST(prefix##_s8, From, std::int8_t)   \
  KERF_CAST(prefix##_bool, From, Truth)
KERF_CASTS_OF(f32, float)
KERF_CASTS_OF(s32, std::int32_t)
KERF_CASTS_OF(s64, std::int64_t)
KERF_CASTS_OF(u8, std::uint8_t)
KERF_CASTS_OF(s8, std::int8_t)
#undef KERF_CASTS_OF
#undef KERF_CAST

int index_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return 0;
    case DType::kS32: return 1;
    case DType::kS64: return 2;
    case DType::kU8: return 3;
    case DType::kS8: return 4;
    case DType::kBool: return 5;
    default: return -1;
  }
}

}  // namespace

CastRun cast_run(DType from, DType to) {
  static constexpr CastRun kRuns[5][6] = {
      {f32_f32, f32_s32, f32_s64, f32_u8, f32_s8, f32_bool}, {s32_f32, s32_s32, s32_s64, s32_u8, s32_s8, s32_bool},
      {s64_f32, s64_s32, s64_s64, s64_u8, s64_s8, s64_bool}, {u8_f32, u8_s32, u8_s64, u8_u8, u8_s8, u8_bool},
      {s8_f32, s8_s32, s8_s64, s8_u8, s8_s8, s8_bool}};
  const int row = from == DType::kBool ? 3 : index_of(from);
  const int column = index_of(to);
  return row < 0 || column < 0 ? nullptr : kRuns[row][column];
}

}  // namespace kerf::engine
