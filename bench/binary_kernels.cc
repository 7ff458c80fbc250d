// Whether layers that are binary on both sides would gain from kernels of their own: sums of bits
// (AVX-512 VPOPCNTDQ) beside the u8·s8 convolution that runs them today, on the layers of the examples.
// Both start with the rounded activations as bytes, as the step before leaves them, and end with the
// integer sums; packing the bits is part of the time. docs/decisions/ has what came of it.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <random>
#include <vector>

namespace {

struct Shape {
  const char* name;
  std::int64_t channels, outputs, side, kernel, stride;
};

constexpr Shape kShapes[] = {
    {"resnet20 first 3x16 @32", 3, 16, 32, 3, 1}, {"resnet20 16x16 @32", 16, 16, 32, 3, 1},
    {"resnet20 16x32 @32/2", 16, 32, 32, 3, 2},   {"resnet20 32x32 @16", 32, 32, 16, 3, 1},
    {"resnet20 64x64 @8", 64, 64, 8, 3, 1},       {"resnet18w32 128x128 @8", 128, 128, 8, 3, 1},
    {"resnet18w32 256x256 @4", 256, 256, 4, 3, 1}, {"pointwise 64x64 @8", 64, 64, 8, 1, 1},
    {"mlp 64x128", 64, 128, 1, 1, 1},             {"matrix 1024x1024", 1024, 1024, 1, 1, 1}};

std::int64_t out_side(const Shape& s) { return (s.side + 2 * (s.kernel / 2) - s.kernel) / s.stride + 1; }

/// Median microseconds of a call.
template <class F>
double median_us(F&& call) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  const auto end = Clock::now() + std::chrono::milliseconds(200);
  for (int i = 0; i < 20; ++i) call();
  while (Clock::now() < end || times.size() < 50) {
    const auto begin = Clock::now();
    call();
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

/// Sums over taps of Σ x·w with x in {−1, 0, 1} (bits "not zero" and "negative") and w in {−1, 1}:
/// popcount(not zero) − 2·popcount(not zero and signs differ), eight outputs to a register.
class BitConvolution {
 public:
  BitConvolution(const Shape& shape, const std::vector<std::int8_t>& weights)
      : s_(shape),
        words_((shape.channels + 63) / 64),
        blocks_((shape.outputs + 7) / 8),
        padded_(shape.side + 2 * (shape.kernel / 2)) {
    // [block of outputs][tap][word][output of the block]
    weights_.assign(static_cast<std::size_t>(blocks_ * s_.kernel * s_.kernel * words_ * 8), 0);
    for (std::int64_t o = 0; o < s_.outputs; ++o) {
      for (std::int64_t t = 0; t < s_.kernel * s_.kernel; ++t) {
        for (std::int64_t c = 0; c < s_.channels; ++c) {
          const bool negative = weights[static_cast<std::size_t>((o * s_.channels + c) * s_.kernel * s_.kernel + t)] < 0;
          const auto at = static_cast<std::size_t>((((o / 8) * s_.kernel * s_.kernel + t) * words_ + c / 64) * 8 + o % 8);
          weights_[at] |= static_cast<std::uint64_t>(negative) << (c % 64);
        }
      }
    }
    present_.assign(static_cast<std::size_t>(padded_ * padded_ * words_), 0);
    negative_ = present_;
  }

  /// x: channels last, side · side pixels; y: channels last.
  void run(const std::int8_t* x, std::int32_t* y) {
    pack(x);
    const std::int64_t side = out_side(s_);
    for (std::int64_t i = 0; i < side; ++i) {
      for (std::int64_t j = 0; j < side; ++j) pixel(i * s_.stride, j * s_.stride, y + (i * side + j) * s_.outputs);
    }
  }

 private:
  void pack(const std::int8_t* x) {
    const std::int64_t border = s_.kernel / 2;
    for (std::int64_t i = 0; i < s_.side; ++i) {
      for (std::int64_t j = 0; j < s_.side; ++j) {
        const std::int8_t* from = x + (i * s_.side + j) * s_.channels;
        const auto to = static_cast<std::size_t>(((i + border) * padded_ + j + border) * words_);
        for (std::int64_t w = 0; w < words_; ++w) {
          const std::int64_t left = std::min<std::int64_t>(64, s_.channels - 64 * w);
          const __mmask64 mask = left == 64 ? ~0ULL : (1ULL << left) - 1;
          const __m512i bytes = _mm512_maskz_loadu_epi8(mask, from + 64 * w);
          present_[to + static_cast<std::size_t>(w)] = _mm512_test_epi8_mask(bytes, bytes);
          negative_[to + static_cast<std::size_t>(w)] = _mm512_movepi8_mask(bytes);
        }
      }
    }
  }

  void pixel(std::int64_t row, std::int64_t column, std::int32_t* y) const {
    const std::uint64_t* weights = weights_.data();
    std::int64_t total = 0;
    for (std::int64_t ky = 0; ky < s_.kernel; ++ky) {
      for (std::int64_t k = 0; k < s_.kernel * words_; ++k) {
        total += __builtin_popcountll(present_[static_cast<std::size_t>(((row + ky) * padded_ + column) * words_ + k)]);
      }
    }
    for (std::int64_t b = 0; b < blocks_; ++b) {
      __m512i sum = _mm512_setzero_si512();
      for (std::int64_t ky = 0; ky < s_.kernel; ++ky) {
        const auto at = static_cast<std::size_t>(((row + ky) * padded_ + column) * words_);
        for (std::int64_t k = 0; k < s_.kernel * words_; ++k, weights += 8) {
          const __m512i there = _mm512_set1_epi64(static_cast<std::int64_t>(present_[at + static_cast<std::size_t>(k)]));
          const __m512i sign = _mm512_set1_epi64(static_cast<std::int64_t>(negative_[at + static_cast<std::size_t>(k)]));
          // (sign ^ weight) & there
          const __m512i differ = _mm512_ternarylogic_epi64(sign, _mm512_loadu_si512(weights), there, 0x28);
          sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(differ));
        }
      }
      const __m512i whole = _mm512_sub_epi64(_mm512_set1_epi64(total), _mm512_slli_epi64(sum, 1));
      const auto left = static_cast<unsigned>(std::min<std::int64_t>(8, s_.outputs - 8 * b));
      _mm256_mask_storeu_epi32(y + 8 * b, static_cast<__mmask8>((1U << left) - 1), _mm512_cvtepi64_epi32(whole));
    }
  }

  Shape s_;
  std::int64_t words_, blocks_, padded_;
  std::vector<std::uint64_t> weights_, present_, negative_;
};

/// oneDNN's convolution of the same bytes to s32, channels last, weights in its own layout.
class ByteConvolution {
 public:
  ByteConvolution(const Shape& s, const std::vector<std::int8_t>& weights, const std::int8_t* x, std::int32_t* y)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Tag = dnnl::memory::format_tag;
    using Type = dnnl::memory::data_type;
    const dnnl::memory::dims border{s.kernel / 2, s.kernel / 2};
    const dnnl::memory::desc from({1, s.channels, s.side, s.side}, Type::s8, Tag::nhwc);
    const dnnl::memory::desc to({1, s.outputs, out_side(s), out_side(s)}, Type::s32, Tag::nhwc);
    const dnnl::memory::desc any({s.outputs, s.channels, s.kernel, s.kernel}, Type::s8, Tag::any);
    const dnnl::memory::desc plain({s.outputs, s.channels, s.kernel, s.kernel}, Type::s8, Tag::oihw);
    dnnl::primitive_attr attr;
    const dnnl::convolution_forward::primitive_desc desc(engine_, dnnl::prop_kind::forward_inference,
                                                         dnnl::algorithm::convolution_direct, from, any, to,
                                                         {s.stride, s.stride}, border, border, attr);
    kernel = desc.impl_info_str();
    packed_ = dnnl::memory(desc.weights_desc(), engine_);
    dnnl::memory raw(plain, engine_, const_cast<std::int8_t*>(weights.data()));
    dnnl::reorder(raw, packed_).execute(stream_, raw, packed_);
    convolution_ = dnnl::convolution_forward(desc);
    arguments_ = {{DNNL_ARG_SRC, dnnl::memory(from, engine_, const_cast<std::int8_t*>(x))},
                  {DNNL_ARG_WEIGHTS, packed_},
                  {DNNL_ARG_DST, dnnl::memory(to, engine_, y)}};
  }

  void run() { convolution_.execute(stream_, arguments_); }

  std::string kernel;

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory packed_;
  dnnl::convolution_forward convolution_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

}  // namespace

int main() {
  if (__builtin_cpu_supports("avx512vpopcntdq") == 0 || __builtin_cpu_supports("avx512bw") == 0) {
    std::puts("skipped: this processor has no AVX-512 VPOPCNTDQ");
    return 0;
  }
  std::mt19937 dice(1);
  std::printf("%-26s %10s %10s %8s  %s\n", "layer", "bytes, us", "bits, us", "faster", "oneDNN's kernel");
  for (const Shape& s : kShapes) {
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.outputs * s.channels * s.kernel * s.kernel));
    for (auto& w : weights) w = (dice() & 1U) != 0 ? 1 : -1;
    std::vector<std::int8_t> x(static_cast<std::size_t>(s.side * s.side * s.channels) + 64);
    for (auto& value : x) value = static_cast<std::int8_t>(static_cast<int>(dice() % 3) - 1);
    const auto size = static_cast<std::size_t>(out_side(s) * out_side(s) * s.outputs);
    std::vector<std::int32_t> wanted(size), got(size);
    ByteConvolution bytes(s, weights, x.data(), wanted.data());
    BitConvolution bits(s, weights);
    bytes.run();
    bits.run(x.data(), got.data());
    if (wanted != got) {
      std::printf("%s: the sums differ\n", s.name);
      return 1;
    }
    const double one = median_us([&] { bytes.run(); });
    const double two = median_us([&] { bits.run(x.data(), got.data()); });
    std::printf("%-26s %10.2f %10.2f %7.2fx  %s\n", s.name, one, two, one / two, bytes.kernel.c_str());
  }
  return 0;
}
