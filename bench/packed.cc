// The packed file: how fast weights come out of it, and what it costs to know its size.
//
// bytes_per_second counts weights as they lie in memory: one byte an integer, whatever its bits, four
// an f32. One core.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "workers/compress/packed/packed_file.h"
#include "workers/compress/packed/tensor_codec.h"

namespace {

using kerf::graph::DType;
using kerf::graph::Tensor;
namespace packed = kerf::compress::packed;

/// Normal weights; their largest of a channel is what 2^(bits−1) − 1 stands for.
Tensor integers(std::int64_t count, int bits, double zeros) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<double> uniform;
  const float top = static_cast<float>((1 << (bits - 1)) - 1);
  Tensor out(bits <= 4 ? DType::kS4 : DType::kS8, {count});
  for (std::int8_t& value : out.mutable_as<std::int8_t>()) {
    const bool zero = uniform(engine) < zeros;
    const float q = std::nearbyint(normal(engine) * top / 3.5F);
    value = static_cast<std::int8_t>(zero ? 0 : std::fmin(std::fmax(q, -top), top));
  }
  return out;
}

Tensor shared_values(std::int64_t count, int entries) {
  std::mt19937 engine(2);
  std::normal_distribution<float> normal;
  Tensor out(DType::kF32, {count});
  const auto half = static_cast<float>(entries) / 2;
  for (float& value : out.mutable_as<float>()) {
    // + 0: no negative zero, which would be a value of its own.
    value = std::nearbyint(std::fmin(std::fmax(normal(engine) * half / 3, -half), half - 1)) * 0.013F + 0.0F;
  }
  return out;
}

void decode(benchmark::State& state, const Tensor& tensor) {
  const packed::TensorPlan plan(tensor);
  std::string bytes;
  plan.write(bytes);
  Tensor back;
  for (auto _ : state) {
    if (!packed::read_tensor(bytes, tensor.dtype(), tensor.shape(), back)) state.SkipWithError("unreadable");
    benchmark::DoNotOptimize(back.raw());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(tensor.bytes()));
  state.counters["bits_a_weight"] = 8.0 * static_cast<double>(bytes.size()) / static_cast<double>(tensor.elements());
  state.SetLabel(plan.sparse() ? "zero runs" : plan.palette() ? "palette" : "dense");
}

constexpr std::int64_t kWeights = 4 << 20;

void BM_Decode(benchmark::State& state) {
  decode(state, integers(kWeights, static_cast<int>(state.range(0)), 0.01 * static_cast<double>(state.range(1))));
}
BENCHMARK(BM_Decode)->ArgNames({"bits", "zeros"})->Args({8, 0})->Args({4, 0})->Args({2, 0})->Args({8, 90})->Args({4, 90})->Unit(benchmark::kMillisecond);

void BM_DecodeCodebook(benchmark::State& state) {
  decode(state, shared_values(kWeights, static_cast<int>(state.range(0))));
}
BENCHMARK(BM_DecodeCodebook)->ArgName("entries")->Arg(16)->Arg(256)->Unit(benchmark::kMillisecond);

void BM_SizeOfTensor(benchmark::State& state) {
  const Tensor tensor = state.range(0) == 32 ? shared_values(kWeights, 4096)
                                             : integers(kWeights, static_cast<int>(state.range(0)), 0.01 * static_cast<double>(state.range(1)));
  for (auto _ : state) benchmark::DoNotOptimize(packed::TensorPlan(tensor).size());
  state.SetItemsProcessed(state.iterations() * kWeights);
}
BENCHMARK(BM_SizeOfTensor)->ArgNames({"bits", "zeros"})->Args({8, 0})->Args({4, 0})->Args({8, 50})->Args({32, 0})->Unit(benchmark::kMillisecond);

/// A model of 12 layers with 78 000 weights in all.
kerf::graph::Graph small_model(int bits) {
  kerf::graph::Graph graph;
  graph.inputs.push_back({"x", DType::kF32, {-1, 80}});
  std::string value = "x";
  for (int i = 0; i < 12; ++i) {
    const std::string name = "layer" + std::to_string(i);
    Tensor weights = integers(80 * 80, bits, 0);
    graph.initializers[name + ".weight"] = weights.reshaped({80, 80});
    graph.initializers[name + ".scale"] = Tensor(DType::kF32, {80});
    kerf::graph::Node dequantize;
    dequantize.name = name + ".dequantize";
    dequantize.op = "DequantizeLinear";
    dequantize.inputs = {name + ".weight", name + ".scale"};
    dequantize.outputs = {name + ".real"};
    dequantize.attributes["axis"] = std::int64_t{1};
    kerf::graph::Node node;
    node.name = name;
    node.op = "MatMul";
    node.inputs = {value, name + ".real"};
    node.outputs = {value = name + ".out"};
    graph.nodes.push_back(dequantize);
    graph.nodes.push_back(node);
  }
  graph.outputs.push_back({value, DType::kF32, {-1, 80}});
  return graph;
}

void BM_Size(benchmark::State& state) {
  const kerf::graph::Graph graph = small_model(static_cast<int>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(kerf::compress::packed_size(graph));
}
BENCHMARK(BM_Size)->ArgName("bits")->Arg(8)->Arg(4)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
