// Products of signs in plain C++: what the other versions are tested against, and what runs where they don't.
#include <dnnl.h>

#include "workers/engine/kernels/signs_isa.h"

namespace kerf::engine {
namespace {

template <class T>
void pack(const T* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative) {
  for (std::int64_t i = 0; i < n; i += 8) pack_few_signs(x + i, n - i < 8 ? n - i : 8, present + i / 8, negative + i / 8);
}

void gather(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile) {
  gather_sign_words(words, present, negative, at, tile);
}

void multiply(const SignTile& tile, const std::uint64_t* weights, std::int64_t blocks, const SignScaling& scaling, float* y, std::int64_t stride) {
  for (int p = 0; p < tile.pixels; ++p) {
    for (std::int64_t b = 0; b < blocks; ++b) {
      std::int32_t differ[8] = {};
      for (std::int64_t w = 0; w < tile.words; ++w) {
        const std::uint64_t there = tile.present[p * tile.words + w];
        const std::uint64_t below = tile.negative[p * tile.words + w];
        const std::uint64_t* lanes = weights + (b * tile.words + w) * 8;
        for (int lane = 0; lane < 8; ++lane) differ[lane] += __builtin_popcountll((below ^ lanes[lane]) & there);
      }
      for (std::int64_t lane = 0; lane < 8 && b * 8 + lane < scaling.outputs; ++lane) {
        const std::int64_t o = b * 8 + lane;
        std::int32_t sum = tile.totals[p] - 2 * differ[lane];
        if (scaling.alive != nullptr) sum &= scaling.alive[o];
        const float scaled = static_cast<float>(sum) * scaling.scales[o];
        y[p * stride + o] = scaling.bias == nullptr ? scaled : scaled + scaling.bias[o];
      }
    }
  }
}

constexpr SignKernels kPlain{"plain", pack<std::int8_t>, pack<float>, gather, multiply};

const SignKernels& best() {
#if defined(__x86_64__)
  const int isa = dnnl_get_effective_cpu_isa();
  const auto allowed = [isa](int wanted) { return (isa & wanted) == wanted; };
  if (allowed(dnnl_cpu_isa_avx512_core) && __builtin_cpu_supports("avx512vpopcntdq") != 0) return *avx512_sign_kernels();
  if (allowed(dnnl_cpu_isa_avx2) && __builtin_cpu_supports("avx2") != 0) return *avx2_sign_kernels();
#endif
  return kPlain;
}

}  // namespace

const SignKernels& plain_sign_kernels() { return kPlain; }

const SignKernels& sign_kernels() {
  static const SignKernels& found = best();
  return found;
}

}  // namespace kerf::engine
