// The executor on ResNet-8 (32 x 32) with random weights: f32, bf16 and 8-bit, by batch size.
#include <benchmark/benchmark.h>

#include <random>
#include <stdexcept>

#include "workers/engine/executor.h"
#include "workers/engine/passes.h"

namespace {

using kerf::graph::DType;
using kerf::graph::Graph;
using kerf::graph::Node;
using kerf::graph::Tensor;
using Ints = std::vector<std::int64_t>;

enum Precision { kF32, kBF16, kU8 };

class Network {
 public:
  explicit Network(Precision precision) : precision_(precision) {
    graph_.inputs.push_back({"input", DType::kF32, {-1, 3, 32, 32}});
    std::string x = rounded("input", DType::kS8, 0.03F);
    x = rounded(relu(conv(x, 3, 16, 3, 1)));
    for (const std::int64_t channels : {16, 32, 64}) {
      const std::int64_t from = channels == 16 ? 16 : channels / 2;
      const std::int64_t stride = channels == 16 ? 1 : 2;
      const std::string shortcut = stride == 1 ? x : conv(x, from, channels, 1, stride);
      const std::string inner = rounded(relu(conv(x, from, channels, 3, stride)));
      x = rounded(relu(node("Add", {conv(inner, channels, channels, 3, 1), shortcut})));
    }
    x = node("Flatten", {node("GlobalAveragePool", {x})});
    graph_.outputs.push_back({layer("Gemm", rounded(x), {64, 10}, 1), DType::kF32, {}});
  }

  Graph take() {
    auto simple = kerf::engine::simplify(std::move(graph_));
    if (!simple.has_value()) throw std::runtime_error(simple.error().message);
    return std::move(*simple);
  }

 private:
  std::string constant(Tensor tensor) {
    const std::string name = "constant_" + std::to_string(next_++);
    graph_.initializers[name] = std::move(tensor);
    return name;
  }

  std::string node(const std::string& op, const std::vector<std::string>& inputs,
                   const std::map<std::string, kerf::graph::Attribute>& attributes = {}) {
    Node made;
    made.op = op;
    made.name = op + "_" + std::to_string(next_++);
    made.inputs = inputs;
    made.outputs = {made.name + "_out"};
    made.attributes = attributes;
    graph_.nodes.push_back(made);
    return made.outputs[0];
  }

  std::string relu(const std::string& x) { return node("Relu", {x}); }

  std::string rounded(const std::string& x, DType dtype = DType::kU8, float scale = 0.05F) {
    if (precision_ != kU8) return x;
    const std::string s = constant(Tensor::scalar(scale));
    const std::string z = constant(Tensor(dtype, {}));
    return node("DequantizeLinear", {node("QuantizeLinear", {x, s, z}), s, z});
  }

  std::string layer(const std::string& op, const std::string& x, const kerf::graph::Shape& shape, std::int64_t axis,
                    std::map<std::string, kerf::graph::Attribute> attributes = {}) {
    const std::int64_t channels = shape[static_cast<std::size_t>(axis)];
    std::normal_distribution<float> normal(0.0F, 0.1F);
    std::string weights;
    if (precision_ == kU8) {
      Tensor values(DType::kS8, shape);
      for (auto& v : values.mutable_as<std::int8_t>()) v = static_cast<std::int8_t>(engine_() % 255U - 127U);
      weights = node("DequantizeLinear",
                     {constant(values), constant(Tensor::f32({channels}, std::vector<float>(static_cast<std::size_t>(channels), 0.001F))),
                      constant(Tensor(DType::kS8, {channels}))}, {{"axis", axis}});
    } else {
      Tensor values(DType::kF32, shape);
      for (float& v : values.mutable_as<float>()) v = normal(engine_);
      weights = constant(values);
    }
    if (precision_ == kBF16) attributes["kerf_precision"] = std::string("bf16");
    return node(op, {x, weights, constant(Tensor(DType::kF32, {channels}))}, attributes);
  }

  std::string conv(const std::string& x, std::int64_t from, std::int64_t to, std::int64_t kernel, std::int64_t stride) {
    return layer("Conv", x, {to, from, kernel, kernel}, 0, {{"strides", Ints{stride, stride}}, {"pads", Ints(4, kernel / 2)}});
  }

  Precision precision_;
  Graph graph_;
  std::mt19937 engine_{1};
  int next_ = 0;
};

void resnet8(benchmark::State& state) {
  const auto graph = Network(static_cast<Precision>(state.range(0))).take();
  auto executor = kerf::engine::Executor::compile(graph, {state.range(1), static_cast<int>(state.range(2))});
  if (!executor.has_value()) {
    state.SkipWithError(executor.error().message.c_str());
    return;
  }
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  Tensor input(DType::kF32, {state.range(1), 3, 32, 32});
  for (float& v : input.mutable_as<float>()) v = normal(random);
  Tensor output(DType::kF32, {state.range(1), 10});
  const void* from[] = {input.raw()};
  void* to[] = {output.mutable_raw()};
  for (auto _ : state) (*executor)->run(from, to);
  state.SetItemsProcessed(state.iterations() * state.range(1));
}

void compile(benchmark::State& state) {
  const auto graph = Network(static_cast<Precision>(state.range(0))).take();
  for (auto _ : state) benchmark::DoNotOptimize(kerf::engine::Executor::compile(graph, {}));
}

}  // namespace

BENCHMARK(resnet8)->ArgNames({"precision", "batch", "threads"})->ArgsProduct({{kF32, kBF16, kU8}, {1, 4, 8, 16, 32}, {1}});
BENCHMARK(compile)->ArgName("precision")->Arg(kF32)->Arg(kU8)->Unit(benchmark::kMillisecond);

BENCHMARK_MAIN();
