#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "workers/graph/graph.h"
#include "workers/graph/tensor.h"

namespace kerf::measure {

inline graph::Tensor normal_tensor(const graph::Shape& shape, std::uint64_t seed, float scale) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  graph::Tensor tensor(graph::DType::kF32, shape);
  for (float& value : tensor.mutable_as<float>()) value = normal(random);
  return tensor;
}

/// Four convolutions in a row, pooled, and a Gemm.
inline graph::Graph chain() {
  using Ints = std::vector<std::int64_t>;
  graph::Graph graph;
  graph.inputs = {{"x", graph::DType::kF32, {-1, 3, 12, 12}}};
  graph.outputs = {{"out", graph::DType::kF32, {-1, 5}}};
  std::string value = "x";
  std::int64_t channels = 3;
  for (const std::string name : {"c1", "c2", "c3", "c4"}) {
    graph.initializers[name + ".w"] = normal_tensor({16, channels, 3, 3}, graph.nodes.size() + 1, 0.12F);
    graph.initializers[name + ".b"] = normal_tensor({16}, graph.nodes.size() + 101, 0.1F);
    graph.nodes.push_back({name, "Conv", "", {value, name + ".w", name + ".b"}, {name + ".out"}, {{"pads", Ints{1, 1, 1, 1}}}});
    graph.nodes.push_back({name + ".relu", "Relu", "", {name + ".out"}, {name + ".r"}, {}});
    value = name + ".r";
    channels = 16;
  }
  graph.initializers["fc.w"] = normal_tensor({5, 16}, 77, 0.3F);
  graph.initializers["fc.b"] = normal_tensor({5}, 78, 0.3F);
  graph.nodes.push_back({"pool", "GlobalAveragePool", "", {value}, {"p"}, {}});
  graph.nodes.push_back({"flat", "Flatten", "", {"p"}, {"f"}, {}});
  graph.nodes.push_back({"fc", "Gemm", "", {"f", "fc.w", "fc.b"}, {"out"}, {{"transB", std::int64_t{1}}}});
  return graph;
}

}  // namespace kerf::measure
