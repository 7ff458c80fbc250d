#include "workers/engine/kernels/ordering.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

/// An integer that is larger where the number is.
std::uint32_t order_of(float x) {
  if (x != x) return ~std::uint32_t{0};
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0F);  // -0 is 0
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
std::uint32_t order_of(std::int32_t x) { return static_cast<std::uint32_t>(x) ^ 0x80000000U; }

template <class T>
void top_of_each(const TopK& what, const T* x, T* values, std::int64_t* indices, std::byte* scratch) {
  const std::int64_t runs = what.outer * what.inner;
  const std::int64_t tasks = std::max(what.threads, 1);
  parallel_for(static_cast<std::size_t>(tasks), static_cast<std::size_t>(runs * what.extent * 4 / tasks), what.threads, [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    auto* keys = reinterpret_cast<std::uint64_t*>(scratch + t * what.scratch_bytes());
    for (std::int64_t run = runs * t / tasks; run < runs * (t + 1) / tasks; ++run) {
      const std::int64_t o = run / what.inner;
      const std::int64_t i = run % what.inner;
      const T* from = x + o * what.extent * what.inner + i;
      for (std::int64_t e = 0; e < what.extent; ++e) {
        const std::uint32_t order = order_of(from[e * what.inner]);
        keys[e] = static_cast<std::uint64_t>(what.largest ? ~order : order) << 32U | static_cast<std::uint64_t>(e);
      }
      if (what.k * 4 < what.extent) {
        std::partial_sort(keys, keys + what.k, keys + what.extent);
      } else {
        if (what.k < what.extent) std::nth_element(keys, keys + what.k, keys + what.extent);
        std::sort(keys, keys + what.k);
      }
      for (std::int64_t k = 0; k < what.k; ++k) {
        const auto index = static_cast<std::int64_t>(keys[k] & 0xFFFFFFFFU);
        const std::int64_t to = (o * what.k + k) * what.inner + i;
        values[to] = from[index * what.inner];
        indices[to] = index;
      }
    }
  });
}

template <class T>
KERF_INLINE void sums(const RunningSum& what, const T* x, T* y) {
  using W = std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;
  for (std::int64_t o = 0; o < what.outer; ++o) {
    for (std::int64_t step = 0; step < what.extent; ++step) {
      const std::int64_t e = what.reverse ? what.extent - 1 - step : step;
      const std::int64_t before = what.reverse ? e + 1 : e - 1;
      const std::int64_t base = o * what.extent;
      T* to = y + (base + e) * what.inner;
      // The sum before it, and what is added to that.
      const T* sum = y + (base + before) * what.inner;
      const T* next = x + (base + (what.exclusive ? before : e)) * what.inner;
      if (step == 0) {
        for (std::int64_t i = 0; i < what.inner; ++i) to[i] = what.exclusive ? T{} : next[i];
      } else {
        for (std::int64_t i = 0; i < what.inner; ++i) to[i] = static_cast<T>(static_cast<W>(sum[i]) + static_cast<W>(next[i]));
      }
    }
  }
}

}  // namespace

void top_k(const TopK& what, const float* x, float* values, std::int64_t* indices, std::byte* scratch) {
  top_of_each(what, x, values, indices, scratch);
}
void top_k(const TopK& what, const std::int32_t* x, std::int32_t* values, std::int64_t* indices, std::byte* scratch) {
  top_of_each(what, x, values, indices, scratch);
}

KERF_VECTORIZED void running_sum(const RunningSum& what, const float* x, float* y) { sums(what, x, y); }
KERF_VECTORIZED void running_sum(const RunningSum& what, const std::int32_t* x, std::int32_t* y) { sums(what, x, y); }
KERF_VECTORIZED void running_sum(const RunningSum& what, const std::int64_t* x, std::int64_t* y) { sums(what, x, y); }

}  // namespace kerf::engine
