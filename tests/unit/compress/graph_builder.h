#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "workers/graph/graph.h"
#include "workers/graph/shape_inference.h"

namespace kerf::compress::testing {

using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Numbers that are the same on every platform: the distributions of <random> aren't.
class Numbers {
 public:
  explicit Numbers(std::uint32_t seed) : engine_(seed) {}

  /// Uniform in [-1, 1).
  float signed_unit() {
    return static_cast<float>(static_cast<std::int32_t>(engine_())) / 2147483648.0F;
  }

  /// About normal: the sum of twelve uniforms.
  float normal() {
    float sum = 0;
    for (int i = 0; i < 12; ++i) sum += signed_unit();
    return sum / 2;
  }

  /// Uniform in 0…n−1.
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint32_t>(n));
  }

  Tensor tensor(const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(*graph::element_count(shape)));
    for (float& value : values) value = normal();
    return Tensor::f32(shape, values);
  }

 private:
  std::mt19937 engine_;
};

/// Writes small graphs by hand. Every method returns the name of its output, which is also that of
/// its node; constants are "<node>.weight", "<node>.bias" ….
class GraphBuilder {
 public:
  explicit GraphBuilder(std::uint32_t seed = 1) : numbers(seed) {}

  Graph graph;
  Numbers numbers;

  std::string input(const std::string& name, Shape shape) {
    graph.inputs.push_back({name, graph::DType::kF32, std::move(shape)});
    return name;
  }

  std::string constant(const std::string& name, Tensor tensor) {
    graph.initializers[name] = std::move(tensor);
    return name;
  }

  Node& node(const std::string& name, const std::string& op, std::vector<std::string> inputs) {
    Node made;
    made.name = name;
    made.op = op;
    made.inputs = std::move(inputs);
    made.outputs = {name};
    graph.nodes.push_back(std::move(made));
    return graph.nodes.back();
  }

  std::string op(const std::string& name, const std::string& kind,
                 std::vector<std::string> inputs) {
    node(name, kind, std::move(inputs));
    return name;
  }

  std::string conv(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out,
                   std::int64_t kernel = 3, std::int64_t group = 1, std::int64_t stride = 1) {
    Node& made = node(name, "Conv", {x, name + ".weight", name + ".bias"});
    made.attributes["kernel_shape"] = std::vector<std::int64_t>{kernel, kernel};
    made.attributes["strides"] = std::vector<std::int64_t>{stride, stride};
    made.attributes["pads"] = std::vector<std::int64_t>(4, kernel / 2);
    made.attributes["group"] = group;
    graph.initializers[name + ".weight"] = numbers.tensor({out, in / group, kernel, kernel});
    graph.initializers[name + ".bias"] = numbers.tensor({out});
    return name;
  }

  /// transposed: weights [out, in], else [in, out].
  std::string gemm(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out,
                   bool transposed = true) {
    Node& made = node(name, "Gemm", {x, name + ".weight", name + ".bias"});
    made.attributes["transB"] = std::int64_t{transposed ? 1 : 0};
    graph.initializers[name + ".weight"] =
        numbers.tensor(transposed ? Shape{out, in} : Shape{in, out});
    graph.initializers[name + ".bias"] = numbers.tensor({out});
    return name;
  }

  std::string relu(const std::string& name, const std::string& x) { return op(name, "Relu", {x}); }

  std::string max_pool(const std::string& name, const std::string& x) {
    Node& made = node(name, "MaxPool", {x});
    made.attributes["kernel_shape"] = std::vector<std::int64_t>{2, 2};
    made.attributes["strides"] = std::vector<std::int64_t>{2, 2};
    return name;
  }

  std::string concat(const std::string& name, std::vector<std::string> inputs,
                     std::int64_t axis = 1) {
    node(name, "Concat", std::move(inputs)).attributes["axis"] = axis;
    return name;
  }

  std::string flatten(const std::string& name, const std::string& x) {
    node(name, "Flatten", {x}).attributes["axis"] = std::int64_t{1};
    return name;
  }

  /// Shapes inferred and checked.
  Graph finish(const std::vector<std::string>& outputs) {
    for (const std::string& output : outputs)
      graph.outputs.push_back({output, graph::DType::kF32, {}});
    const auto checked = graph.check();
    EXPECT_TRUE(checked.has_value()) << (checked.has_value() ? "" : checked.error().message);
    const auto inferred = graph::infer_shapes(graph);
    EXPECT_TRUE(inferred.has_value()) << (inferred.has_value() ? "" : inferred.error().message);
    return graph;
  }
};

/// Largest |a − b|.
inline double distance(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape(), b.shape());
  const auto x = a.to_floats();
  const auto y = b.to_floats();
  double largest = 0;
  for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
    largest = std::max(largest, static_cast<double>(std::abs(x[i] - y[i])));
  }
  return largest;
}

}  // namespace kerf::compress::testing
