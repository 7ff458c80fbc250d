// Nodes that compute nothing in an f32 inference graph: Constant, Dropout, casts between floats.
#include "workers/onnx/canonical.h"
#include "workers/onnx/tensor_reader.h"

namespace kerf::onnx {
namespace {

using graph::Node;
using graph::Tensor;

Result<void> constant(Canonicalizer& c, Node node) {
  if (node.attributes.size() != 1 || node.outputs.size() != 1 || node.outputs[0].empty()) {
    return node_error(node, "needs exactly one value and one output");
  }
  const auto& [name, value] = *node.attributes.begin();
  const auto count = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  Tensor tensor;
  if (name == "value" && std::holds_alternative<Tensor>(value)) {
    tensor = std::get<Tensor>(value);
  } else if (name == "value_float" && std::holds_alternative<float>(value)) {
    tensor = Tensor::scalar(std::get<float>(value));
  } else if (name == "value_int" && std::holds_alternative<std::int64_t>(value)) {
    tensor = Tensor::s64({}, {std::get<std::int64_t>(value)});
  } else if (name == "value_floats" && std::holds_alternative<std::vector<float>>(value)) {
    tensor = Tensor::f32({count(std::get<std::vector<float>>(value))},
                         std::get<std::vector<float>>(value));
  } else if (name == "value_ints" && std::holds_alternative<std::vector<std::int64_t>>(value)) {
    const auto& list = std::get<std::vector<std::int64_t>>(value);
    tensor = Tensor::s64({count(list)}, list);
  } else {
    return node_unsupported(node, "a constant given as '" + name + "' is not supported");
  }
  return c.replace_by_constant(node.outputs[0], std::move(tensor));
}

/// Identity of a constant is that constant: layers then see their weights.
Result<void> identity(Canonicalizer& c, Node node) {
  if (node.inputs.size() != 1 || node.outputs.size() != 1) {
    return node_error(node, "has " + std::to_string(node.inputs.size()) + " inputs and " +
                                std::to_string(node.outputs.size()) + " outputs, expected 1 and 1");
  }
  if (const Tensor* known = c.constant_input(node, 0);
      known != nullptr && !c.is_output(node.outputs[0])) {
    return c.replace_by_constant(node.outputs[0], *known);
  }
  node.op = "Identity";
  node.attributes.clear();
  return c.emit(std::move(node));
}

Result<void> dropout(Canonicalizer& c, Node node) {
  if (const Tensor* training = c.constant_input(node, 2);
      node.has_input(2) &&
      (training == nullptr || training->elements() != 1 ||
       training->dtype() != graph::DType::kBool || training->to_integers()[0] != 0)) {
    return node_unsupported(
        node, "training_mode must be a constant false; export the model for inference");
  }
  if (node.inputs.empty() || node.outputs.empty())
    return node_error(node, "needs an input and an output");
  if (node.outputs.size() > 1 && !node.outputs[1].empty() && c.is_read(node.outputs[1])) {
    // Nothing is dropped: the mask is true everywhere.
    Node measure{c.fresh(node.name + "/shape"),        "Shape", "", {node.inputs[0]},
                 {c.fresh(node.inputs[0] + "/shape")}, {}};
    Node mask{c.fresh(node.name + "/mask"),
              "ConstantOfShape",
              "",
              {measure.outputs[0]},
              {node.outputs[1]},
              {{"value", Tensor::of<std::uint8_t>(graph::DType::kBool, {1}, {1})}}};
    KERF_TRY(c.emit(std::move(measure)));
    KERF_TRY(c.emit(std::move(mask)));
  }
  node.inputs.resize(1);
  node.outputs.resize(1);
  return identity(c, std::move(node));
}

Result<void> cast(Canonicalizer& c, Node node) {
  node.attributes.erase("saturate");
  node.attributes.erase("round_mode");
  const auto wanted = dtype_of(static_cast<std::int32_t>(node.integer("to", 0)));
  if (!wanted) {
    return node_unsupported(
        node, "casting to type " + std::to_string(node.integer("to", 0)) + " is not supported");
  }
  const graph::DType to = canonical_dtype(*wanted);
  node.attributes["to"] = static_cast<std::int64_t>(code_of(to));
  KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
  if (x->dtype == to) return identity(c, std::move(node));
  return c.emit(std::move(node));
}

Result<void> eye_like(Canonicalizer& c, Node node) {
  if (const std::int64_t code = node.integer("dtype", 0); code != 0) {
    const auto wanted = dtype_of(static_cast<std::int32_t>(code));
    if (!wanted) return node_unsupported(node, "dtype " + std::to_string(code) + " is not supported");
    node.attributes["dtype"] = static_cast<std::int64_t>(code_of(canonical_dtype(*wanted)));
  }
  return c.emit(std::move(node));
}

Result<void> cast_like(Canonicalizer& c, Node node) {
  KERF_ASSIGN(const graph::shapes::Value* like, c.input(node, 1));
  node.op = "Cast";
  node.inputs.resize(1);
  node.attributes.clear();
  node.attributes["to"] = static_cast<std::int64_t>(code_of(like->dtype));
  return cast(c, std::move(node));
}

/// x * sigmoid(alpha * x), an op of its own since opset 24.
Result<void> swish(Canonicalizer& c, Node node) {
  if (node.inputs.size() != 1 || node.outputs.size() != 1)
    return node_error(node, "needs one input and one output");
  const float alpha = node.real("alpha", 1.0F);
  std::string x = node.inputs[0];
  if (alpha != 1.0F) {
    Node scaled{c.fresh(node.name + "/scale"),
                "Mul",
                "",
                {x, c.constant(node, "alpha", Tensor::scalar(alpha))},
                {c.fresh(node.outputs[0] + "/scaled")},
                {}};
    x = scaled.outputs[0];
    KERF_TRY(c.emit(std::move(scaled)));
  }
  Node gate{c.fresh(node.name + "/sigmoid"),      "Sigmoid", "", {x},
            {c.fresh(node.outputs[0] + "/gate")}, {}};
  const std::string gate_value = gate.outputs[0];
  KERF_TRY(c.emit(std::move(gate)));
  node.op = "Mul";
  node.attributes.clear();
  node.inputs.push_back(gate_value);
  return c.emit(std::move(node));
}

Result<void> microsoft_gelu(Canonicalizer& c, Node node) {
  node.domain.clear();
  node.op = "Gelu";
  node.attributes.clear();
  return c.emit(std::move(node));
}

}  // namespace

void add_identity_rules(CanonicalRules& rules) {
  rules["Constant"] = constant;
  rules["Identity"] = identity;
  rules["Dropout"] = dropout;
  rules["Cast"] = cast;
  rules["CastLike"] = cast_like;
  rules["EyeLike"] = eye_like;
  rules["Swish"] = swish;
  rules["com.microsoft.Gelu"] = microsoft_gelu;
}

}  // namespace kerf::onnx
