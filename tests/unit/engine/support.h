#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "workers/engine/executor.h"
#include "workers/engine/passes.h"
#include "workers/engine/reference/reference.h"
#include "workers/graph/graph.h"

namespace kerf::engine::testing {

using graph::Attribute;
using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Whether oneDNN has kernels for bf16, which it emulates where AVX-512 alone is there.
[[nodiscard]] inline bool has_bf16() { return isa_in_use().starts_with("avx512") || isa_in_use() == "avx2_vnni_2"; }

/// What a layer runs as whose plan says bf16.
[[nodiscard]] inline std::string narrow_layer() { return has_bf16() ? "bf16" : "f32 (bf16 weights)"; }

/// What a layer runs as whose input is bytes and whose weights go beyond 64: without VNNI sums of such saturate.
[[nodiscard]] inline std::string full_bytes() { return has_vnni() ? "s8" : "f32 (8-bit weights)"; }

/// Seeded numbers; KERF_TEST_SEED in the environment replays a run.
class Random {
 public:
  explicit Random(std::uint32_t stream = 0);
  [[nodiscard]] std::uint32_t seed() const { return seed_; }
  float normal() { return normal_(engine_); }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(n)); }
  bool chance(double p) { return std::uniform_real_distribution<double>()(engine_) < p; }
  Tensor f32(const Shape& shape, float deviation = 1.0F, float mean = 0.0F);
  Tensor positive(const Shape& shape, float low, float high);
  Tensor bytes(DType dtype, const Shape& shape, int low, int high);

 private:
  std::uint32_t seed_;
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

/// Builds a graph node by node; each call gives the name of the node's (first) output.
class Builder {
 public:
  std::string input(const Shape& shape, DType dtype = DType::kF32);
  std::string constant(Tensor tensor);
  std::string node(const std::string& op, const std::vector<std::string>& inputs,
                   std::map<std::string, Attribute> attributes = {}, std::size_t outputs = 1);
  /// QuantizeLinear and DequantizeLinear with one scale and zero point.
  std::string quantize(const std::string& value, float scale, int zero, DType dtype);
  std::string dequantize(const std::string& value, float scale, int zero, DType dtype);
  std::string rounded(const std::string& value, float scale, int zero, DType dtype) {
    return dequantize(quantize(value, scale, zero, dtype), scale, zero, dtype);
  }
  /// Weights behind a DequantizeLinear with a scale for each index of `axis`.
  std::string integer_weights(const Tensor& values, const std::vector<float>& scales, std::int64_t axis, int bits = 8);
  void output(const std::string& value) { graph.outputs.push_back({value, DType::kF32, {}}); }

  Graph graph;

 private:
  std::string fresh(const std::string& stem) { return stem + "_" + std::to_string(next_++); }
  int next_ = 0;
};

/// Random inputs for the graph's inputs (f32).
std::vector<Tensor> random_inputs(const Graph& graph, Random& random);

struct Ran {
  std::vector<Tensor> outputs;
  std::vector<StepInfo> steps;
};
/// simplify, compile, run.
Ran execute(const Graph& graph, const std::vector<Tensor>& inputs, int threads = 1, const PassOptions& passes = {});

/// Compares the executor with the reference kernels on the graph as it stands. `tolerance` is
/// relative to the largest magnitude of the reference's output, and absolute below 1.
Ran expect_like_reference(const Graph& graph, const std::vector<Tensor>& inputs, float tolerance, int threads = 1);
void expect_close(const Tensor& got, const Tensor& wanted, float tolerance, const std::string& what);

/// For sums of `depth` products in f32: a random walk of rounding errors, with room.
inline float sum_tolerance(std::int64_t depth) {
  return 1.2e-7F * 8.0F * std::sqrt(static_cast<float>(depth < 1 ? 1 : depth));
}

/// One op by its reference kernel; an empty tensor stands for an input that is left out.
std::vector<Tensor> eval(const std::string& op, const std::vector<Tensor>& inputs,
                         std::map<std::string, Attribute> attributes = {}, std::size_t outputs = 1);

const StepInfo* layer_step(const Ran& ran, const std::string& op);
std::int64_t count_steps(const Ran& ran, const std::string& op);

}  // namespace kerf::engine::testing
