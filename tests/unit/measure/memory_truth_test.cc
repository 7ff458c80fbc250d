#include <gtest/gtest.h>

#include "core/sanitized.h"
#include "workers/engine/executor.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/memory.h"

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;

// What the kernel counts is in pages and has a few of everybody's; what is compared is large enough
// for that to be a small part of two in a hundred.
constexpr double kTolerance = 0.02;

Tensor ramp(const graph::Shape& shape) {
  Tensor tensor(DType::kF32, shape);
  float value = -1;
  for (float& element : tensor.mutable_as<float>()) element = value = value > 1 ? -1 : value + 0.001F;
  return tensor;
}

/// A Gemm of 3000 x 6000 weights.
Graph heavy_weights() {
  Graph graph;
  graph.inputs = {{"x", DType::kF32, {-1, 6000}}};
  graph.outputs = {{"y", DType::kF32, {-1, 3000}}};
  graph.initializers["w"] = ramp({3000, 6000});
  graph.nodes = {{"fc", "Gemm", "", {"x", "w"}, {"y"}, {{"transB", std::int64_t{1}}}}};
  return graph;
}

/// Two convolutions with few weights and values of 32 MiB between them, pooled to almost nothing.
Graph heavy_activations() {
  using Ints = std::vector<std::int64_t>;
  Graph graph;
  graph.inputs = {{"x", DType::kF32, {-1, 1, 1024, 512}}};
  graph.outputs = {{"y", DType::kF32, {-1, 16, 1, 1}}};
  graph.initializers["w1"] = ramp({16, 1, 3, 3});
  graph.initializers["w2"] = ramp({16, 16, 1, 1});
  graph.nodes = {{"conv1", "Conv", "", {"x", "w1"}, {"a"}, {{"pads", Ints{1, 1, 1, 1}}}},
                 {"relu", "Relu", "", {"a"}, {"b"}, {}},
                 {"conv2", "Conv", "", {"b", "w2"}, {"c"}, {}},
                 {"pool", "GlobalAveragePool", "", {"c"}, {"y"}, {}}};
  return graph;
}

struct Counted {
  double system = 0;  ///< Peak over floor, bytes.
  double weights = 0;
  double arena = 0;
};

Counted count(const Graph& graph, const graph::Shape& input) {
  const std::vector<Tensor> inputs = {ramp(input)};
  const auto measure = [&] {
    PeakMemory memory;
    memory.set_floor();
    auto compiled = Compiled::make(graph, inputs, {.batch = 1});
    EXPECT_TRUE(compiled.has_value()) << (compiled.has_value() ? "" : compiled.error().message);
    Counted out;
    if (!compiled.has_value()) return out;
    const std::int64_t first = 0;
    EXPECT_TRUE(compiled->load(inputs, {&first, 1}).has_value());
    compiled->run();
    out.system = static_cast<double>(memory.peak_over_floor().value_or(-1));
    out.weights = static_cast<double>(compiled->executor().weight_bytes());
    out.arena = static_cast<double>(compiled->executor().activation_peak_bytes());
    // The caller's own buffers are neither weights nor arena.
    out.system -= static_cast<double>(inputs[0].bytes() + compiled->output().bytes());
    return out;
  };
  measure();  // what oneDNN and the C library set up once
  engine::release_caches();
  return measure();
}

TEST(MemoryTruth, WeightsAreWhatTheSystemCounts) {
  if (kSanitized) GTEST_SKIP() << "memory of a sanitizer is counted too";
  const Counted counted = count(heavy_weights(), {1, 6000});
  EXPECT_GT(counted.weights, 64e6);
  EXPECT_NEAR(counted.system, counted.weights + counted.arena, kTolerance * counted.system)
      << "weights " << counted.weights << ", arena " << counted.arena;
}

TEST(MemoryTruth, TheArenasPeakIsWhatTheSystemCounts) {
  if (kSanitized) GTEST_SKIP() << "memory of a sanitizer is counted too";
  const Counted counted = count(heavy_activations(), {1, 1, 1024, 512});
  EXPECT_GT(counted.arena, 32e6);
  EXPECT_NEAR(counted.system, counted.weights + counted.arena, kTolerance * counted.system)
      << "weights " << counted.weights << ", arena " << counted.arena;
}

}  // namespace
}  // namespace kerf::measure
