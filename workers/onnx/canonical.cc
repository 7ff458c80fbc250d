#include "workers/onnx/canonical.h"

#include <algorithm>
#include <initializer_list>

#include "workers/onnx/limits.h"

namespace kerf::onnx {

using graph::Node;
using graph::Tensor;

Error node_error(const Node& node, const std::string& why) {
  return invalid_argument("node " + node.label() + ": " + why);
}
Error node_unsupported(const Node& node, const std::string& why) {
  return unimplemented("node " + node.label() + ": " + why);
}

namespace {

/// What to do about an op that isn't supported.
std::string way_out(const Node& node) {
  const auto any = [&](std::initializer_list<const char*> parts) {
    return std::any_of(parts.begin(), parts.end(), [&](const char* part) {
      return node.op.find(part) != std::string::npos;
    });
  };
  if (node.domain == "ai.onnx.ml") return "export the model as tensor operators";
  if (!node.domain.empty()) return "export the model with operators of ai.onnx alone";
  if (any({"Sequence", "Optional"})) return "export the model with tensors instead of sequences";
  if (any({"String", "Regex", "TfIdf"})) return "prepare text before the model";
  if (any({"ImageDecoder"})) return "decode images before the model";
  if (any({"Random", "Bernoulli", "Multinomial"})) return "feed random numbers as an input";
  if (any({"Loss", "Adam", "Adagrad", "Momentum", "Gradient"}))
    return "export the model for inference";
  if (any({"NonMaxSuppression", "NonZero", "Unique", "Compress"}))
    return "the size of its output depends on the data: cut the model before it";
  return "replace it in the model, or cut the model before it";
}

}  // namespace

Canonicalizer::Canonicalizer(graph::Graph& graph, std::int64_t opset,
                             std::unordered_set<std::string> taken)
    : graph_(graph), opset_(opset), taken_(std::move(taken)), inference_(graph) {
  for (const graph::ValueInfo& output : graph.outputs) outputs_.insert(output.name);
}

const CanonicalRules& canonical_rules() {
  static const CanonicalRules rules = [] {
    CanonicalRules all;
    add_attribute_rules(all);
    add_identity_rules(all);
    add_resampling_rules(all);
    add_normalization_rules(all);
    add_quantized_rules(all);
    add_control_rules(all);
    add_composed_rules(all);
    add_einsum_rules(all);
    add_attention_rules(all);
    return all;
  }();
  return rules;
}

Result<void> Canonicalizer::add(Node node) {
  const CanonicalRules& rules = canonical_rules();
  const std::string key = node.domain.empty() ? node.op : node.domain + "." + node.op;
  if (const auto rule = rules.find(key); rule != rules.end())
    return rule->second(*this, std::move(node));
  if (!node.domain.empty() || !graph::shapes::registry().contains(node.op)) {
    return node_unsupported(node, "op " + key + " is not supported (opset " +
                                      std::to_string(opset_) + "); " + way_out(node) +
                                      " (supported ops: docs/operators.md)");
  }
  return emit(std::move(node));
}

Result<void> Canonicalizer::emit(Node node) {
  while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
  KERF_TRY(inference_.infer(node));
  graph_.nodes.push_back(std::move(node));
  return {};
}

Result<void> Canonicalizer::count_expanded(const Node& owner, std::size_t nodes) {
  expanded_ += nodes;
  if (expanded_ <= kMaxNodes) return {};
  return Error{ErrorCode::kResourceExhausted,
               "node " + owner.label() + ": unrolled it has more than " +
                   std::to_string(kMaxNodes) + " nodes; export the model with fewer steps"};
}

Result<void> Canonicalizer::replace_by_constant(const std::string& name, Tensor tensor) {
  if (!graph_.initializers.emplace(name, std::move(tensor)).second) {
    return invalid_argument("value '" + name + "' is both an initializer and the output of a node");
  }
  return {};
}

std::string Canonicalizer::fresh(const std::string& stem) {
  std::string name = stem;
  if (taken_.insert(name).second) return name;
  // Counted on from the last one: an unrolled loop asks for the same stem once a step.
  std::size_t& next = next_[stem];
  do {
    name = stem + "_" + std::to_string(++next);
  } while (!taken_.insert(name).second);
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

std::optional<std::vector<std::int64_t>> Canonicalizer::known_integers(const Node& node,
                                                                       std::size_t i) {
  if (!node.has_input(i)) return std::nullopt;
  if (const Tensor* constant = graph_.constant(node.inputs[i])) {
    if (graph::shapes::is_float(constant->dtype())) return std::nullopt;
    return constant->to_integers();
  }
  const graph::shapes::Value* value = inference_.find(node.inputs[i]);
  if (value == nullptr || value->elements == nullptr || graph::shapes::is_float(value->dtype))
    return std::nullopt;
  std::vector<std::int64_t> out;
  for (const auto& element : *value->elements) {
    if (!element.known()) return std::nullopt;
    out.push_back(graph::shapes::to_dim(element));
  }
  return out;
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
