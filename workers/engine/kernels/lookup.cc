#include "workers/engine/kernels/lookup.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kerf::engine {
namespace {

void one_by_one(const std::uint8_t* from, std::size_t n, const std::uint8_t* table, std::uint8_t* to) {
  for (std::size_t i = 0; i < n; ++i) to[i] = table[from[i]];
}

#if defined(__x86_64__)
// No compiler makes this of the loop, so it is written down.
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) void in_registers(const std::uint8_t* from, std::size_t n, const std::uint8_t* table, std::uint8_t* to) {
  const __m512i quarters[4] = {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64), _mm512_loadu_si512(table + 128), _mm512_loadu_si512(table + 192)};
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i index = _mm512_loadu_si512(from + i);
    // Seven bits choose within a half of the table, the eighth the half.
    const __m512i low = _mm512_permutex2var_epi8(quarters[0], index, quarters[1]);
    const __m512i high = _mm512_permutex2var_epi8(quarters[2], index, quarters[3]);
    _mm512_storeu_si512(to + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high));
  }
  one_by_one(from + i, n - i, table, to + i);
}
#endif

using Run = void (*)(const std::uint8_t*, std::size_t, const std::uint8_t*, std::uint8_t*);

Run best_run() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw")) return in_registers;
#endif
  return one_by_one;
}

}  // namespace

void look_up(const std::uint8_t* from, std::size_t n, const std::uint8_t* table, std::uint8_t* to) {
  static const Run run = best_run();
  run(from, n, table, to);
}

}  // namespace kerf::engine
