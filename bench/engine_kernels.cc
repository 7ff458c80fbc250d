// Kernels of kerf's own beside the oneDNN primitives that they replace.
#include <benchmark/benchmark.h>

#include <dnnl.hpp>
#include <random>
#include <vector>

#include "workers/engine/kernels/interleave.h"
#include "workers/engine/kernels/max_pool.h"

namespace {

using dnnl::memory;

std::vector<std::uint8_t> noise(std::int64_t n) {
  std::mt19937 engine(1);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(n));
  for (auto& v : out) v = static_cast<std::uint8_t>(engine());
  return out;
}

/// batch, channels, extent, kernel, stride, padding.
kerf::engine::ImagePool pool_of(const benchmark::State& state) {
  kerf::engine::ImagePool p;
  p.batch = state.range(0);
  p.channels = state.range(1);
  p.in_h = p.in_w = state.range(2);
  p.kernel_h = p.kernel_w = state.range(3);
  p.stride_h = p.stride_w = state.range(4);
  p.pad_h = p.pad_w = state.range(5);
  p.out_h = p.out_w = (p.in_h + 2 * p.pad_h - p.kernel_h) / p.stride_h + 1;
  return p;
}

void max_pool_kerf(benchmark::State& state) {
  const kerf::engine::ImagePool p = pool_of(state);
  const auto from = noise(p.batch * p.in_h * p.in_w * p.channels);
  std::vector<std::uint8_t> to(static_cast<std::size_t>(p.batch * p.out_h * p.out_w * p.channels));
  std::vector<std::uint8_t> scratch(static_cast<std::size_t>(p.scratch_elements()));
  for (auto _ : state) {
    kerf::engine::max_pool(p, from.data(), to.data(), scratch.data(), 1);
    benchmark::ClobberMemory();
  }
}

void max_pool_onednn(benchmark::State& state) {
  const kerf::engine::ImagePool p = pool_of(state);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto type = memory::data_type::u8;
  const memory::desc source({p.batch, p.channels, p.in_h, p.in_w}, type, memory::format_tag::nhwc);
  const memory::desc target({p.batch, p.channels, p.out_h, p.out_w}, type, memory::format_tag::nhwc);
  const dnnl::pooling_forward::primitive_desc descriptor(
      engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::pooling_max, source, target, {p.stride_h, p.stride_w},
      {p.kernel_h, p.kernel_w}, {0, 0}, {p.pad_h, p.pad_w}, {p.pad_h, p.pad_w});
  dnnl::pooling_forward primitive(descriptor);
  auto from = noise(p.batch * p.in_h * p.in_w * p.channels);
  memory x(source, engine, from.data());
  memory y(target, engine);
  for (auto _ : state) {
    primitive.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}});
    stream.wait();
  }
}

void pools(benchmark::internal::Benchmark* b) {
  b->Args({32, 8, 28, 2, 2, 0})->Args({32, 16, 14, 2, 2, 0})->Args({1, 8, 28, 2, 2, 0})->Args({8, 16, 32, 3, 2, 1});
  b->Args({8, 24, 32, 3, 2, 1})->Args({8, 32, 32, 2, 2, 0})->Args({8, 64, 32, 2, 2, 0})->Args({8, 64, 56, 3, 2, 1});
  b->Args({4, 128, 28, 2, 2, 0})->Args({4, 256, 13, 5, 1, 2})->Args({8, 13, 32, 2, 2, 0})->Args({8, 3, 32, 2, 2, 0});
  b->Args({1, 512, 7, 2, 2, 0});
}
BENCHMARK(max_pool_kerf)->Apply(pools)->Unit(benchmark::kMicrosecond);
BENCHMARK(max_pool_onednn)->Apply(pools)->Unit(benchmark::kMicrosecond);

/// batch, channels, extent.
void quantize_interleaved(benchmark::State& state) {
  const kerf::engine::Images images{state.range(0), state.range(1), state.range(2) * state.range(2), 1};
  const auto n = static_cast<std::size_t>(images.batch * images.channels * images.pixels);
  std::vector<float> from(n, 0.3F);
  std::vector<std::uint8_t> to(n);
  for (auto _ : state) {
    kerf::engine::quantize_images(images, from.data(), 0.01F, 3.0F, to.data());
    benchmark::ClobberMemory();
  }
}
void interleaved(benchmark::State& state) {
  const kerf::engine::Images images{state.range(0), state.range(1), state.range(2) * state.range(2), 1};
  const auto n = static_cast<std::size_t>(images.batch * images.channels * images.pixels);
  std::vector<std::uint32_t> from(n, 7);
  std::vector<std::uint32_t> to(n);
  for (auto _ : state) {
    kerf::engine::interleave_images(images, from.data(), to.data());
    benchmark::ClobberMemory();
  }
}
void images_of(benchmark::internal::Benchmark* b) { b->Args({32, 3, 32})->Args({1, 3, 32})->Args({1, 3, 96})->Args({32, 4, 32})->Args({32, 2, 32}); }
BENCHMARK(quantize_interleaved)->Apply(images_of)->Unit(benchmark::kMicrosecond);
BENCHMARK(interleaved)->Apply(images_of)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
