// Attributes that became inputs between opset 7 and 17, and the axes of the Reduce* family.
#include <limits>
#include <numeric>

#include "workers/onnx/canonical.h"

namespace kerf::onnx {
namespace {

using graph::Node;
using graph::Tensor;

Tensor vector_of(const std::vector<std::int64_t>& values) {
  return Tensor::s64({static_cast<std::int64_t>(values.size())}, values);
}

/// Attribute `name` (a list of integers) becomes input `at`.
void list_to_input(Canonicalizer& c, Node& node, const std::string& name, std::size_t at) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return;
  const std::vector<std::int64_t> values = node.integers(name);
  node.attributes.erase(found);
  if (node.inputs.size() <= at) node.inputs.resize(at + 1);
  node.inputs[at] = c.constant(node, name, vector_of(values));
}

Result<void> axes(Canonicalizer& c, Node node) {
  if (node.attributes.contains("axes") && node.has_input(1)) {
    return node_error(node, "axes are given as an attribute and as an input");
  }
  list_to_input(c, node, "axes", 1);
  return c.emit(std::move(node));
}

Result<void> clip(Canonicalizer& c, Node node) {
  if (c.opset() < 11) {
    const bool below = node.attributes.contains("min");
    const bool above = node.attributes.contains("max");
    const float least = node.real("min", std::numeric_limits<float>::lowest());
    const float most = node.real("max", std::numeric_limits<float>::max());
    node.attributes.clear();
    node.inputs.resize(1);
    if (below || above)
      node.inputs.push_back(below ? c.constant(node, "min", Tensor::scalar(least)) : "");
    if (above) node.inputs.push_back(c.constant(node, "max", Tensor::scalar(most)));
  }
  return c.emit(std::move(node));
}

Result<void> slice(Canonicalizer& c, Node node) {
  if (c.opset() < 10) {
    const auto starts = node.integers("starts");
    const auto ends = node.integers("ends");
    std::vector<std::int64_t> all(starts.size());
    std::iota(all.begin(), all.end(), 0);
    const auto along = node.integers("axes", all);
    if (starts.size() != ends.size() || along.size() != starts.size()) {
      return node_error(node, "starts, ends and axes differ in length");
    }
    node.attributes.clear();
    node.inputs.resize(1);
    node.inputs.push_back(c.constant(node, "starts", vector_of(starts)));
    node.inputs.push_back(c.constant(node, "ends", vector_of(ends)));
    node.inputs.push_back(c.constant(node, "axes", vector_of(along)));
  }
  return c.emit(std::move(node));
}

Result<void> top_k(Canonicalizer& c, Node node) {
  if (c.opset() < 10) {
    const std::int64_t k = node.integer("k", -1);
    if (k < 0) return node_error(node, "attribute k is missing");
    node.attributes.erase("k");
    node.inputs.resize(1);
    node.inputs.push_back(c.constant(node, "k", vector_of({k})));
  }
  return c.emit(std::move(node));
}

Result<void> split(Canonicalizer& c, Node node) {
  if (c.opset() < 13) list_to_input(c, node, "split", 1);
  if (const std::int64_t parts = node.integer("num_outputs", 0); parts != 0) {
    node.attributes.erase("num_outputs");
    if (parts != static_cast<std::int64_t>(node.outputs.size())) {
      return node_error(node, "num_outputs is " + std::to_string(parts) + ", but it has " +
                                  std::to_string(node.outputs.size()) + " outputs");
    }
    KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
    std::int64_t axis = node.integer("axis", 0);
    const auto rank = static_cast<std::int64_t>(x->shape.size());
    if (axis < -rank || axis >= rank) {
      return node_error(
          node, "axis " + std::to_string(axis) + " doesn't exist in rank " + std::to_string(rank));
    }
    const std::int64_t dim = x->shape[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
    // Opset 18 allows a smaller last part, which only explicit sizes say in opset 17.
    if (dim >= 0 && dim % parts != 0) {
      const std::int64_t size = (dim + parts - 1) / parts;
      std::vector<std::int64_t> sizes(static_cast<std::size_t>(parts), size);
      sizes.back() = dim - size * (parts - 1);
      if (sizes.back() < 0)
        return node_error(node, "cannot be split into " + std::to_string(parts) + " parts");
      node.inputs.resize(1);
      node.inputs.push_back(c.constant(node, "split", vector_of(sizes)));
    }
  }
  return c.emit(std::move(node));
}

}  // namespace

void add_attribute_rules(CanonicalRules& rules) {
  for (const char* op :
       {"Squeeze", "Unsqueeze", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
        "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"}) {
    rules[op] = axes;
  }
  rules["Clip"] = clip;
  rules["Slice"] = slice;
  rules["TopK"] = top_k;
  rules["Split"] = split;
}

}  // namespace kerf::onnx
