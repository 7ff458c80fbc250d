// Pad, Upsample and Resize, whose signatures changed most often.
#include "workers/onnx/canonical.h"

namespace kerf::onnx {
namespace {

using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Axes as 0 … rank-1.
Result<std::vector<std::size_t>> positions(const Node& node, const std::vector<std::int64_t>& axes,
                                           std::size_t rank) {
  std::vector<std::size_t> out;
  for (const std::int64_t axis : axes) {
    const auto size = static_cast<std::int64_t>(rank);
    if (axis < -size || axis >= size) {
      return node_error(
          node, "axis " + std::to_string(axis) + " doesn't exist in rank " + std::to_string(rank));
    }
    out.push_back(static_cast<std::size_t>(axis < 0 ? axis + size : axis));
  }
  return out;
}

Result<void> pad(Canonicalizer& c, Node node) {
  if (node.text("mode", "constant") == "wrap")
    return node_unsupported(node, "mode 'wrap' is not supported");
  if (c.opset() < 11) {
    const std::vector<std::int64_t> pads = node.integers("pads");
    const float value = node.real("value", 0.0F);
    node.attributes.erase("pads");
    node.attributes.erase("value");
    node.inputs.resize(1);
    node.inputs.push_back(
        c.constant(node, "pads", Tensor::s64({static_cast<std::int64_t>(pads.size())}, pads)));
    if (value != 0.0F) node.inputs.push_back(c.constant(node, "value", Tensor::scalar(value)));
  }
  if (node.has_input(3)) {
    const Tensor* axes = c.constant_input(node, 3);
    const Tensor* pads = c.constant_input(node, 1);
    if (axes == nullptr || pads == nullptr || graph::shapes::is_float(axes->dtype()) ||
        graph::shapes::is_float(pads->dtype()) || pads->elements() != 2 * axes->elements()) {
      return node_unsupported(node, "pads and axes must be constants of matching lengths");
    }
    KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
    const std::size_t rank = x->shape.size();
    KERF_ASSIGN(const std::vector<std::size_t> at, positions(node, axes->to_integers(), rank));
    const auto given = pads->to_integers();
    std::vector<std::int64_t> all(2 * rank, 0);
    for (std::size_t i = 0; i < at.size(); ++i) {
      all[at[i]] = given[i];
      all[at[i] + rank] = given[i + at.size()];
    }
    node.inputs.resize(3);
    node.inputs[1] =
        c.constant(node, "pads", Tensor::s64({static_cast<std::int64_t>(all.size())}, all));
  }
  if (node.inputs.size() > 2 && node.inputs[2].empty()) node.inputs.resize(2);
  return c.emit(std::move(node));
}

/// What Upsample and Resize-10 mean in today's words.
void set_old_sampling(Node& node) {
  node.attributes["coordinate_transformation_mode"] = std::string("asymmetric");
  if (node.text("mode", "nearest") == "nearest")
    node.attributes["nearest_mode"] = std::string("floor");
}

Result<void> upsample(Canonicalizer& c, Node node) {
  std::string scales = node.has_input(1) ? node.inputs[1] : "";
  if (scales.empty()) {
    const auto found = node.attributes.find("scales");
    const auto* values =
        found == node.attributes.end() ? nullptr : std::get_if<std::vector<float>>(&found->second);
    if (values == nullptr) return node_error(node, "scales are missing");
    scales = c.constant(node, "scales",
                        Tensor::f32({static_cast<std::int64_t>(values->size())}, *values));
    node.attributes.erase("scales");
  }
  node.op = "Resize";
  if (node.inputs.empty()) return node_error(node, "needs an input");
  node.inputs = {node.inputs[0], "", scales};
  set_old_sampling(node);
  return c.emit(std::move(node));
}

Result<void> resize(Canonicalizer& c, Node node) {
  if (c.opset() < 11) {
    if (node.inputs.size() != 2) return node_error(node, "needs input and scales");
    node.inputs = {node.inputs[0], "", node.inputs[1]};
    set_old_sampling(node);
    return c.emit(std::move(node));
  }
  if (node.integer("antialias", 0) != 0)
    return node_unsupported(node, "antialias is not supported");
  if (node.text("keep_aspect_ratio_policy", "stretch") != "stretch") {
    return node_unsupported(node, "keep_aspect_ratio_policy other than 'stretch' is not supported");
  }
  const std::string coordinates = node.text("coordinate_transformation_mode", "half_pixel");
  if (coordinates == "tf_crop_and_resize" || coordinates == "half_pixel_symmetric") {
    return node_unsupported(
        node, "coordinate_transformation_mode '" + coordinates + "' is not supported");
  }
  node.attributes.erase("antialias");
  node.attributes.erase("keep_aspect_ratio_policy");
  node.attributes.erase("extrapolation_value");  // tf_crop_and_resize's alone, like roi
  if (node.inputs.size() > 1) node.inputs[1].clear();
  // Both given, one empty: exporters of opset 11 to 13 wrote it so.
  for (const std::size_t i : {2U, 3U}) {
    const Tensor* given = c.constant_input(node, i);
    if (given != nullptr && given->elements() == 0) node.inputs[i].clear();
  }
  while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
  if (node.attributes.contains("axes")) {
    KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
    const std::size_t rank = x->shape.size();
    KERF_ASSIGN(const std::vector<std::size_t> at, positions(node, node.integers("axes"), rank));
    node.attributes.erase("axes");
    const std::size_t which = node.has_input(3) ? 3 : 2;
    const Tensor* given = c.constant_input(node, which);
    if (given == nullptr || given->elements() != static_cast<std::int64_t>(at.size())) {
      return node_unsupported(node,
                              "with axes, scales or sizes must be a constant of one value an axis");
    }
    const auto size = static_cast<std::int64_t>(rank);
    if (which == 2) {
      std::vector<float> all(rank, 1.0F);
      const auto values = given->to_floats();
      for (std::size_t i = 0; i < at.size(); ++i) all[at[i]] = values[i];
      node.inputs[2] = c.constant(node, "scales", Tensor::f32({size}, all));
    } else {
      std::vector<std::int64_t> all = x->shape;
      const auto values = given->to_integers();
      for (std::size_t i = 0; i < at.size(); ++i) all[at[i]] = values[i];
      for (const std::int64_t dim : all) {
        if (dim < 0)
          return node_unsupported(
              node, "sizes for some axes need the others' dimensions, which are free");
      }
      node.inputs[3] = c.constant(node, "sizes", Tensor::s64({size}, all));
    }
  }
  return c.emit(std::move(node));
}

}  // namespace

void add_resampling_rules(CanonicalRules& rules) {
  rules["Pad"] = pad;
  rules["Upsample"] = upsample;
  rules["Resize"] = resize;
}

}  // namespace kerf::onnx
