// Softmax and its kin before opset 13, BatchNormalization before 14, GroupNormalization before 21.
#include <algorithm>

#include "workers/onnx/canonical.h"

namespace kerf::onnx {
namespace {

using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Softmax and its kin along `axis`: Hardmax is a one where the largest stands.
Result<void> along_axis(Canonicalizer& c, Node node) {
  if (node.op != "Hardmax") return c.emit(std::move(node));
  KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
  const auto rank = static_cast<std::int64_t>(x->shape.size());
  std::int64_t axis = node.integer("axis", -1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return node_error(node, "its axis doesn't exist in rank " + std::to_string(rank));
  const std::int64_t extent = x->shape[static_cast<std::size_t>(axis)];
  if (extent < 1 || node.outputs.size() != 1 || x->dtype != graph::DType::kF32) return c.emit(std::move(node));
  Node largest{c.fresh(node.name + "/largest"),
               "ArgMax",
               "",
               {node.inputs[0]},
               {c.fresh(node.outputs[0] + "/largest")},
               {{"axis", axis}, {"keepdims", std::int64_t{0}}}};
  node.op = "OneHot";
  node.attributes = {{"axis", axis}};
  node.inputs = {largest.outputs[0], c.constant(node, "depth", Tensor::s64({}, {extent})), c.constant(node, "values", Tensor::f32({2}, {0, 1}))};
  KERF_TRY(c.emit(std::move(largest)));
  return c.emit(std::move(node));
}

/// Before opset 13 these ops see their input as a matrix [product before axis, product from axis].
Result<void> softmax(Canonicalizer& c, Node node) {
  if (c.opset() >= 13) return along_axis(c, std::move(node));
  KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
  const Shape shape = x->shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::int64_t axis = node.integer("axis", 1);
  if (axis < -rank || axis > rank) {
    return node_error(
        node, "axis " + std::to_string(axis) + " doesn't exist in rank " + std::to_string(rank));
  }
  if (axis < 0) axis += rank;
  // Where all dimensions from axis on but one are 1, that one is the axis.
  const auto tail = shape.begin() + axis;
  const auto wide = std::count_if(tail, shape.end(), [](std::int64_t dim) { return dim != 1; });
  if (wide <= 1 && axis < rank) {
    const auto at = std::find_if(tail, shape.end(), [](std::int64_t dim) { return dim != 1; });
    const std::int64_t only = at == shape.end() ? rank - 1 : at - shape.begin();
    node.attributes["axis"] = only == rank - 1 ? std::int64_t{-1} : only;
    return along_axis(c, std::move(node));
  }
  if (node.outputs.size() != 1) return node_error(node, "needs one output");
  const auto free =
      std::count_if(shape.begin(), shape.end(), [](std::int64_t dim) { return dim < 0; });
  std::string target;
  if (free == 0 || (axis == 1 && free == 1 && shape[0] < 0)) {
    Shape dims = shape;
    if (axis == 1) dims[0] = 0;  // copied, so that another batch fits as well
    target = c.constant(node, "shape", Tensor::s64({rank}, dims));
  } else {
    Node measure{c.fresh(node.name + "/shape"),        "Shape", "", {node.inputs[0]},
                 {c.fresh(node.inputs[0] + "/shape")}, {}};
    target = measure.outputs[0];
    KERF_TRY(c.emit(std::move(measure)));
  }
  Node flat{c.fresh(node.name + "/flatten"),     "Flatten",       "", {node.inputs[0]},
            {c.fresh(node.inputs[0] + "/flat")}, {{"axis", axis}}};
  const std::string output = node.outputs[0];
  node.inputs[0] = flat.outputs[0];
  node.outputs[0] = c.fresh(output + "/flat");
  node.attributes["axis"] = std::int64_t{-1};
  Node back{c.fresh(node.name + "/reshape"), "Reshape", "",
            {node.outputs[0], target},       {output},  {}};
  KERF_TRY(c.emit(std::move(flat)));
  KERF_TRY(along_axis(c, std::move(node)));
  return c.emit(std::move(back));
}

Result<void> batch_normalization(Canonicalizer& c, Node node) {
  if (node.integer("spatial", 1) != 1) {
    return node_unsupported(node,
                            "spatial = 0 is not supported; export the model with opset 9 or later");
  }
  while (!node.outputs.empty() && node.outputs.back().empty()) node.outputs.pop_back();
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (c.is_read(node.outputs[i])) {
      return node_unsupported(node, "its training output '" + node.outputs[i] +
                                        "' is read; export the model for inference");
    }
  }
  if (node.integer("training_mode", 0) != 0 || (c.opset() < 14 && node.outputs.size() > 1)) {
    return node_unsupported(node, "training mode is not supported; export the model for inference");
  }
  if (node.outputs.size() > 1) node.outputs.resize(1);
  for (const char* name : {"spatial", "momentum", "training_mode", "is_test", "consumed_inputs"}) {
    node.attributes.erase(name);
  }
  return c.emit(std::move(node));
}

/// Opset 18 gives scale and bias per group, opset 21 per channel.
Result<void> group_normalization(Canonicalizer& c, Node node) {
  node.attributes.erase("stash_type");
  if (c.opset() < 21) {
    KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
    const std::int64_t groups = node.integer("num_groups", 0);
    const std::int64_t channels = x->shape.size() > 1 ? x->shape[1] : -1;
    if (groups < 1 || channels < 0 || channels % groups != 0) {
      return node_error(node, "num_groups doesn't fit " + std::to_string(channels) + " channels");
    }
    for (const std::size_t i : {1U, 2U}) {
      const Tensor* given = c.constant_input(node, i);
      if (given == nullptr || given->elements() != groups) {
        return node_unsupported(node, "scale and bias must be constants of one value a group");
      }
      const auto values = given->to_floats();
      std::vector<float> wide;
      for (std::int64_t channel = 0; channel < channels; ++channel) {
        wide.push_back(values[static_cast<std::size_t>(channel / (channels / groups))]);
      }
      node.inputs[i] = c.constant(node, i == 1 ? "scale" : "bias", Tensor::f32({channels}, wide));
    }
  }
  return c.emit(std::move(node));
}

Result<void> layer_normalization(Canonicalizer& c, Node node) {
  node.attributes.erase("stash_type");
  return c.emit(std::move(node));
}

}  // namespace

void add_normalization_rules(CanonicalRules& rules) {
  rules["Softmax"] = softmax;
  rules["LogSoftmax"] = softmax;
  rules["Hardmax"] = softmax;
  rules["BatchNormalization"] = batch_normalization;
  rules["GroupNormalization"] = group_normalization;
  rules["RMSNormalization"] = layer_normalization;
  rules["LayerNormalization"] = layer_normalization;
}

}  // namespace kerf::onnx
