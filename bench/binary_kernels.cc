// What layers that are binary on both sides gain from counting bits (workers/engine/kernels/signs.h), beside
// oneDNN's s8 kernels on the same layers: those of the examples, and what lies around the break-even.
// Both start with the activations as bytes and end with scaled sums as floats; packing the bits is part
// of the time. ONEDNN_MAX_CPU_ISA=AVX2_VNNI shows a processor without AVX-512; without VNNI oneDNN's results are wrong.
// docs/decisions/0006-layers-of-signs.md has the figures.

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "workers/engine/kernels/signs.h"

namespace {

struct Shape {
  const char* name;
  std::int64_t channels, outputs, side, kernel, stride;
};

constexpr Shape kShapes[] = {
    {"resnet20 first 3x16 @32", 3, 16, 32, 3, 1}, {"resnet20 16x16 @32", 16, 16, 32, 3, 1},
    {"resnet20 16x32 @32/2", 16, 32, 32, 3, 2},   {"resnet20 32x32 @16", 32, 32, 16, 3, 1},
    {"resnet20 64x64 @8", 64, 64, 8, 3, 1},       {"resnet18w32 128x128 @8", 128, 128, 8, 3, 1},
    {"resnet18w32 256x256 @4", 256, 256, 4, 3, 1}, {"pointwise 16x16 @32", 16, 16, 32, 1, 1},
    {"pointwise 32x32 @16", 32, 32, 16, 1, 1},    {"pointwise 64x64 @8", 64, 64, 8, 1, 1},
    {"pointwise 256x256 @8", 256, 256, 8, 1, 1},  {"resnet20 32x64 @16/2", 32, 64, 16, 3, 2},
    {"64x64 @56", 64, 64, 56, 3, 1},              {"mlp 64x10", 64, 10, 1, 1, 1},
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

/// The engine's products of signs: bytes in, scaled sums out.
class BitConvolution {
 public:
  BitConvolution(const Shape& s, const kerf::engine::SignKernels& kernels, const std::vector<std::int8_t>& weights, const std::vector<float>& scales)
      : product_(geometry(s), kernels, 1),
        weights_(static_cast<std::size_t>(product_.weight_words())),
        scratch_(static_cast<std::size_t>(product_.scratch_bytes())) {
    product_.pack_weights(weights.data(), {s.channels * s.kernel * s.kernel, s.kernel * s.kernel, s.kernel, 1}, weights_.data());
    finish_.scales = scales.data();
  }

  void run(const std::int8_t* x, float* y) { product_.run(x, weights_.data(), finish_, y, scratch_.data()); }

 private:
  static kerf::engine::SignGeometry geometry(const Shape& s) {
    kerf::engine::SignGeometry g;
    g.channels = s.channels;
    g.outputs = s.outputs;
    g.in = {s.side, s.side};
    g.out = {out_side(s), out_side(s)};
    g.kernel = {s.kernel, s.kernel};
    g.strides = {s.stride, s.stride};
    g.before = {s.kernel / 2, s.kernel / 2};
    return g;
  }

  kerf::engine::SignProduct product_;
  kerf::engine::SignFinish finish_;
  std::vector<std::uint64_t> weights_;
  std::vector<std::byte> scratch_;
};

/// oneDNN's convolution of the same bytes to floats, channels last, weights in its own layout.
class ByteConvolution {
 public:
  ByteConvolution(const Shape& s, const std::vector<std::int8_t>& weights, const std::vector<float>& scales, const std::int8_t* x, float* y)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Tag = dnnl::memory::format_tag;
    using Type = dnnl::memory::data_type;
    const dnnl::memory::dims border{s.kernel / 2, s.kernel / 2};
    const dnnl::memory::desc from({1, s.channels, s.side, s.side}, Type::s8, Tag::nhwc);
    const dnnl::memory::desc to({1, s.outputs, out_side(s), out_side(s)}, Type::f32, Tag::nhwc);
    const dnnl::memory::desc any({s.outputs, s.channels, s.kernel, s.kernel}, Type::s8, Tag::any);
    const dnnl::memory::desc plain({s.outputs, s.channels, s.kernel, s.kernel}, Type::s8, Tag::oihw);
    dnnl::primitive_attr attr;
    attr.set_scales_mask(DNNL_ARG_WEIGHTS, 1);
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
                  {DNNL_ARG_DST, dnnl::memory(to, engine_, y)},
                  {DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
                   dnnl::memory({{s.outputs}, Type::f32, Tag::x}, engine_, const_cast<float*>(scales.data()))}};
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
  // oneDNN's team otherwise has a thread for each core.
  omp_set_num_threads(1);
  std::mt19937 dice(1);
  const kerf::engine::SignKernels& kernels = kerf::engine::sign_kernels();
  std::printf("bits by %s\n%-26s %10s %10s %8s  %s\n", kernels.name, "layer", "bytes, us", "bits, us", "faster", "oneDNN's kernel");
  bool failed = false;
  for (const Shape& s : kShapes) {
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.outputs * s.channels * s.kernel * s.kernel));
    for (auto& w : weights) w = (dice() & 1U) != 0 ? 1 : -1;
    std::vector<float> scales(static_cast<std::size_t>((s.outputs + 15) / 16 * 16));
    for (auto& scale : scales) scale = 0.01F * static_cast<float>(1 + dice() % 100);
    std::vector<std::int8_t> x(static_cast<std::size_t>(s.side * s.side * s.channels) + 64);
    for (auto& value : x) value = static_cast<std::int8_t>(static_cast<int>(dice() % 3) - 1);
    const auto size = static_cast<std::size_t>(out_side(s) * out_side(s) * s.outputs);
    std::vector<float> wanted(size), got(size);
    ByteConvolution bytes(s, weights, scales, x.data(), wanted.data());
    BitConvolution bits(s, kernels, weights, scales);
    bytes.run();
    bits.run(x.data(), got.data());
    if (wanted != got) {
      std::size_t differing = 0;
      for (std::size_t i = 0; i < size; ++i) differing += wanted[i] != got[i] ? 1 : 0;
      const std::size_t first = static_cast<std::size_t>(std::mismatch(wanted.begin(), wanted.end(), got.begin()).first - wanted.begin());
      std::printf("%-26s %zu of %zu results differ, the first %g by bytes, %g by bits (%s)\n", s.name, differing, size, static_cast<double>(wanted[first]),
                  static_cast<double>(got[first]), bytes.kernel.c_str());
      failed = true;
      continue;
    }
    const double one = median_us([&] { bytes.run(); });
    const double two = median_us([&] { bits.run(x.data(), got.data()); });
    std::printf("%-26s %10.2f %10.2f %7.2fx  %s\n", s.name, one, two, one / two, bytes.kernel.c_str());
  }
  return failed ? 1 : 0;
}
