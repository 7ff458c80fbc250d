#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "workers/graph/graph.h"

namespace kerf::graph {

/// A graph in a few words: value x of shape `input`, nodes added one by one.
class Builder {
 public:
  explicit Builder(Shape input, DType dtype = DType::kF32) {
    graph.inputs = {{"x", dtype, std::move(input)}};
  }

  Builder& input(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    graph.inputs.push_back({name, dtype, std::move(shape)});
    return *this;
  }
  Builder& floats(const std::string& name, const Shape& shape, std::vector<float> values = {}) {
    if (values.empty()) values.assign(static_cast<std::size_t>(*element_count(shape)), 0.5F);
    graph.initializers[name] = Tensor::f32(shape, values);
    return *this;
  }
  Builder& integers(const std::string& name, const std::vector<std::int64_t>& values) {
    graph.initializers[name] = Tensor::s64({static_cast<std::int64_t>(values.size())}, values);
    return *this;
  }
  Builder& scalar(const std::string& name, std::int64_t value) {
    graph.initializers[name] = Tensor::s64({}, {value});
    return *this;
  }
  Builder& node(const std::string& op, std::vector<std::string> inputs,
                std::vector<std::string> outputs,
                std::map<std::string, Attribute> attributes = {}) {
    graph.nodes.push_back({op + "_" + outputs[0], op, "", std::move(inputs), std::move(outputs),
                           std::move(attributes)});
    return *this;
  }
  Graph with_output(const std::string& name) {
    graph.outputs.push_back({name, DType::kF32, {}});
    return graph;
  }

  Graph graph;
};

using Ints = std::vector<std::int64_t>;

}  // namespace kerf::graph
