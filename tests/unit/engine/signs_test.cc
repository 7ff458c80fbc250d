#include "workers/engine/kernels/signs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/engine/support.h"

namespace kerf::engine {
namespace {

using testing::Random;

struct Layer {
  SignGeometry geometry;
  std::vector<std::int8_t> x, weights;  ///< [n, h, w, c] and [o, c, kh, kw].
};

/// All kernels that this processor runs.
std::vector<const SignKernels*> all_kernels() {
  std::vector<const SignKernels*> out{&plain_sign_kernels()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") != 0) out.push_back(avx2_sign_kernels());
  if (__builtin_cpu_supports("avx512vpopcntdq") != 0) out.push_back(avx512_sign_kernels());
#endif
  return out;
}

Layer random_layer(Random& random, SignGeometry g) {
  Layer out{g, {}, {}};
  out.x.resize(static_cast<std::size_t>(g.batch * g.in[0] * g.in[1] * g.channels));
  out.weights.resize(static_cast<std::size_t>(g.outputs * g.channels * g.kernel[0] * g.kernel[1]));
  for (auto& v : out.x) v = static_cast<std::int8_t>(random.below(3) - 1);
  for (auto& v : out.weights) v = random.chance(0.5) ? 1 : -1;
  return out;
}

std::vector<std::int32_t> reference(const Layer& layer) {
  const SignGeometry& g = layer.geometry;
  std::vector<std::int32_t> y;
  for (std::int64_t n = 0; n < g.batch; ++n) {
    for (std::int64_t i = 0; i < g.out[0]; ++i) {
      for (std::int64_t j = 0; j < g.out[1]; ++j) {
        for (std::int64_t o = 0; o < g.outputs; ++o) {
          std::int32_t sum = 0;
          for (std::int64_t ky = 0; ky < g.kernel[0]; ++ky) {
            for (std::int64_t kx = 0; kx < g.kernel[1]; ++kx) {
              const std::int64_t r = i * g.strides[0] + ky * g.dilations[0] - g.before[0];
              const std::int64_t s = j * g.strides[1] + kx * g.dilations[1] - g.before[1];
              if (r < 0 || r >= g.in[0] || s < 0 || s >= g.in[1]) continue;  // a pad is 0
              for (std::int64_t c = 0; c < g.channels; ++c) {
                sum += layer.x[static_cast<std::size_t>(((n * g.in[0] + r) * g.in[1] + s) * g.channels + c)] *
                       layer.weights[static_cast<std::size_t>(((o * g.channels + c) * g.kernel[0] + ky) * g.kernel[1] + kx)];
              }
            }
          }
          y.push_back(sum);
        }
      }
    }
  }
  return y;
}

/// What a step does with the layer: sums times 1, as floats, which hold them exactly.
template <class T>
std::vector<float> run(const Layer& layer, const std::vector<T>& x, const SignKernels& kernels, int threads, SignFinish finish = {}) {
  const SignGeometry& g = layer.geometry;
  const SignProduct product(g, kernels, threads);
  std::vector<std::uint64_t> weights(static_cast<std::size_t>(product.weight_words()));
  const std::int64_t window = g.kernel[0] * g.kernel[1];
  product.pack_weights(layer.weights.data(), {g.channels * window, window, g.kernel[1], 1}, weights.data());
  const std::vector<float> ones(static_cast<std::size_t>(product.padded_outputs()), 1.0F);
  if (finish.scales == nullptr) finish.scales = ones.data();
  std::vector<float> y(static_cast<std::size_t>(g.batch * g.out[0] * g.out[1] * g.outputs), std::numeric_limits<float>::quiet_NaN());
  // What another step left in the scratchpad must not matter.
  std::vector<std::uint64_t> scratch(static_cast<std::size_t>(product.scratch_bytes() / 8), ~0ULL);
  product.run(x.data(), weights.data(), finish, y.data(), reinterpret_cast<std::byte*>(scratch.data()));
  return y;
}

std::string shown(const SignGeometry& g) {
  const auto pair = [](const auto& p) { return std::to_string(p[0]) + "x" + std::to_string(p[1]); };
  return std::to_string(g.batch) + " of " + pair(g.in) + ", " + std::to_string(g.channels) + " -> " + std::to_string(g.outputs) + ", kernel " +
         pair(g.kernel) + ", strides " + pair(g.strides) + ", dilations " + pair(g.dilations) + ", pads " + pair(g.before);
}

SignGeometry random_geometry(Random& random) {
  SignGeometry g;
  g.batch = 1 + random.below(3);
  constexpr std::int64_t kChannels[] = {1, 3, 8, 16, 24, 40, 63, 64, 65, 100, 128, 200};
  g.channels = random.chance(0.5) ? kChannels[random.below(12)] : 1 + random.below(150);
  g.outputs = 1 + random.below(40);
  for (std::size_t d = 0; d < 2; ++d) {
    g.in[d] = 1 + random.below(9);
    g.kernel[d] = 1 + random.below(4);
    g.strides[d] = 1 + random.below(3);
    g.dilations[d] = 1 + random.below(2);
    const std::int64_t reach = (g.kernel[d] - 1) * g.dilations[d] + 1;
    g.before[d] = random.below(reach + 1);
    const std::int64_t after = std::max<std::int64_t>(random.below(reach + 1), reach - g.before[d] - g.in[d]);
    g.out[d] = (g.in[d] + g.before[d] + after - reach) / g.strides[d] + 1;
  }
  return g;
}

TEST(Signs, SumsAreExactForAnyShape) {
  Random random(700);
  for (int round = 0; round < 400; ++round) {
    const Layer layer = random_layer(random, random_geometry(random));
    SCOPED_TRACE("seed " + std::to_string(random.seed()) + ", round " + std::to_string(round) + ": " + shown(layer.geometry));
    const std::vector<std::int32_t> wanted = reference(layer);
    std::vector<float> floats;
    for (const std::int8_t v : layer.x) floats.push_back(static_cast<float>(v) * std::fabs(random.normal() + 4.0F));
    for (const SignKernels* kernels : all_kernels()) {
      for (const int threads : {1, 3}) {
        for (const auto& got : {run(layer, layer.x, *kernels, threads), run(layer, floats, *kernels, threads)}) {
          ASSERT_EQ(std::vector<std::int32_t>(got.begin(), got.end()), wanted) << kernels->name << ", " << threads << " threads";
        }
      }
    }
  }
}

TEST(Signs, MatricesOfAnyDepthAreExact) {
  Random random(701);
  // From where the bytes of AVX2's counters would overflow, and far beyond.
  for (const std::int64_t depth : {1, 7, 64, 1000, 1984, 1985, 2048, 5000, 40000}) {
    for (const std::int64_t rows : {1, 2, 3, 7}) {
      SignGeometry g;
      g.batch = rows;
      g.channels = depth;
      g.outputs = 19;
      Layer layer = random_layer(random, g);
      if (depth == 1984) std::ranges::fill(layer.x, std::int8_t{-1});
      if (depth == 1984) std::ranges::fill(layer.weights, std::int8_t{1});
      const std::vector<std::int32_t> wanted = reference(layer);
      for (const SignKernels* kernels : all_kernels()) {
        const auto got = run(layer, layer.x, *kernels, 2);
        ASSERT_EQ(std::vector<std::int32_t>(got.begin(), got.end()), wanted) << kernels->name << ", " << rows << " rows of " << depth;
      }
    }
  }
}

TEST(Signs, TeamsShareWhatThereIs) {
  Random random(702);
  for (const std::array<std::int64_t, 3>& size : {std::array<std::int64_t, 3>{1, 4096, 600}, {3, 2048, 500}, {400, 256, 100}}) {
    SignGeometry g;
    g.batch = size[0];
    g.channels = size[1];
    g.outputs = size[2];
    const Layer layer = random_layer(random, g);
    const std::vector<float> one = run(layer, layer.x, sign_kernels(), 1);
    for (const int threads : {2, 5, 64}) EXPECT_EQ(run(layer, layer.x, sign_kernels(), threads), one) << shown(g) << ", " << threads << " threads";
  }
}

TEST(Signs, NothingButTheSignOfAFloatCounts) {
  SignGeometry g;
  g.channels = 8;
  g.outputs = 1;
  const Layer layer{g, {}, std::vector<std::int8_t>(8, 1)};
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x{tiny, -0.0F, 1e30F, std::numeric_limits<float>::quiet_NaN(), inf, 0.0F, 0.5F, -tiny};
  for (const SignKernels* kernels : all_kernels()) EXPECT_EQ(run(layer, x, *kernels, 1), std::vector<float>{3.0F}) << kernels->name;
}

TEST(Signs, ScaleBiasResidualAndActivationsFollowInTheirOrder) {
  Random random(703);
  SignGeometry g;
  g.batch = 3;
  g.channels = 70;
  g.outputs = 11;
  const Layer layer = random_layer(random, g);
  const std::vector<std::int32_t> sums = reference(layer);
  const auto numbers = [&](std::int64_t n) {
    const testing::Tensor tensor = random.f32({n});
    return std::vector<float>(tensor.as<float>().begin(), tensor.as<float>().end());
  };
  const std::vector<float> scales = numbers(16), bias = numbers(16), residual = numbers(33);
  std::vector<std::int32_t> alive(16, -1);
  alive[4] = 0;
  SignFinish finish;
  finish.scales = scales.data();
  finish.bias = bias.data();
  finish.alive = alive.data();
  finish.residual = residual.data();
  PointStage leaky, add, clip;
  leaky.op = PointOp::kRelu;
  leaky.alpha = 0.25F;
  add.op = PointOp::kAdd;
  clip.op = PointOp::kClip;
  clip.alpha = -2.0F;
  clip.beta = 1.5F;
  finish.stages = {leaky, add, clip};
  std::vector<float> wanted;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const std::size_t o = i % 11;
    const volatile float scaled = static_cast<float>(sums[i] & alive[o]) * scales[o];
    float v = scaled + bias[o];
    v = v < 0 ? 0.25F * v : v;
    v += residual[i];
    wanted.push_back(std::min(std::max(v, -2.0F), 1.5F));
  }
  for (const SignKernels* kernels : all_kernels()) {
    EXPECT_EQ(run(layer, layer.x, *kernels, 1, finish), wanted) << kernels->name;
    EXPECT_EQ(run(layer, layer.x, *kernels, 3, finish), wanted) << kernels->name;
  }
}

}  // namespace
}  // namespace kerf::engine
