#include "workers/onnx/canonical.h"

namespace kerf::onnx {

using graph::Node;
using graph::Tensor;

Error node_error(const Node& node, const std::string& why) {
  return invalid_argument("node " + node.label() + ": " + why);
}
Error node_unsupported(const Node& node, const std::string& why) {
  return unimplemented("node " + node.label() + ": " + why);
}

Canonicalizer::Canonicalizer(graph::Graph& graph, std::int64_t opset,
                             std::unordered_set<std::string> taken)
    : graph_(graph), opset_(opset), taken_(std::move(taken)), inference_(graph) {
  for (const graph::ValueInfo& output : graph.outputs) outputs_.insert(output.name);
}

Result<void> Canonicalizer::add(Node node) {
  static const CanonicalRules rules = [] {
    CanonicalRules all;
    add_attribute_rules(all);
    add_identity_rules(all);
    add_resampling_rules(all);
    add_normalization_rules(all);
    add_quantized_rules(all);
    return all;
  }();
  const std::string key = node.domain.empty() ? node.op : node.domain + "." + node.op;
  if (const auto rule = rules.find(key); rule != rules.end())
    return rule->second(*this, std::move(node));
  if (!node.domain.empty() || !graph::shapes::registry().contains(node.op)) {
    return node_unsupported(node, "op " + key + " is not supported (opset " +
                                      std::to_string(opset_) +
                                      "); supported: see docs/operators.md");
  }
  return emit(std::move(node));
}

Result<void> Canonicalizer::emit(Node node) {
  while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
  KERF_TRY(inference_.infer(node));
  graph_.nodes.push_back(std::move(node));
  return {};
}

Result<void> Canonicalizer::replace_by_constant(const std::string& name, Tensor tensor) {
  if (!graph_.initializers.emplace(name, std::move(tensor)).second) {
    return invalid_argument("value '" + name + "' is both an initializer and the output of a node");
  }
  return {};
}

std::string Canonicalizer::fresh(const std::string& stem) {
  std::string name = stem;
  for (int i = 1; !taken_.insert(name).second; ++i) name = stem + "_" + std::to_string(i);
  return name;
}

std::string Canonicalizer::constant(const Node& node, const std::string& what, Tensor tensor) {
  std::string name = fresh(node.name + "/" + what);
  graph_.initializers.emplace(name, std::move(tensor));
  return name;
}

const Tensor* Canonicalizer::constant_input(const Node& node, std::size_t i) const {
  return node.has_input(i) ? graph_.constant(node.inputs[i]) : nullptr;
}

Result<const graph::shapes::Value*> Canonicalizer::input(const Node& node, std::size_t i) {
  if (!node.has_input(i)) return node_error(node, "input " + std::to_string(i) + " must be given");
  const graph::shapes::Value* value = inference_.find(node.inputs[i]);
  if (value == nullptr) {
    return node_error(node, "reads '" + node.inputs[i] + "', which nothing before it produces");
  }
  return value;
}

}  // namespace kerf::onnx
