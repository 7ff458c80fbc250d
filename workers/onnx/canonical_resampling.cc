// Pad, Upsample and Resize, whose signatures changed most often.
#include <algorithm>
#include <cmath>
#include <optional>

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
    const auto axes = c.known_integers(node, 3);
    const auto pads = c.known_integers(node, 1);
    if (!axes || !pads || pads->size() != 2 * axes->size()) {
      return node_unsupported(node, "pads and axes must be constants of matching lengths");
    }
    KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
    const std::size_t rank = x->shape.size();
    KERF_ASSIGN(const std::vector<std::size_t> at, positions(node, *axes, rank));
    std::vector<std::int64_t> all(2 * rank, 0);
    for (std::size_t i = 0; i < at.size(); ++i) {
      all[at[i]] = (*pads)[i];
      all[at[i] + rank] = (*pads)[i + at.size()];
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

/// Sizes that one factor for all the axes reaches.
Result<void> keep_aspect(Canonicalizer& c, Node& node, const std::string& policy) {
  KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
  const auto given = c.known_integers(node, 3);
  std::vector<std::int64_t> axes = node.integers("axes");
  if (axes.empty()) {
    for (std::size_t i = 0; i < x->shape.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  KERF_ASSIGN(const std::vector<std::size_t> at, positions(node, axes, x->shape.size()));
  if (!given || given->size() != at.size()) {
    return node_unsupported(node, "with keep_aspect_ratio_policy, sizes must be a constant of one "
                                  "value an axis");
  }
  if (policy != "not_larger" && policy != "not_smaller")
    return node_error(node, "keep_aspect_ratio_policy '" + policy + "' isn't known");
  std::vector<std::int64_t> sizes = *given;
  std::optional<double> factor;
  for (std::size_t i = 0; i < at.size(); ++i) {
    const std::int64_t dim = x->shape[at[i]];
    if (dim < 1) {
      return node_unsupported(node, "keep_aspect_ratio_policy needs the input's dimensions, which "
                                    "are free");
    }
    const double own = static_cast<double>(sizes[i]) / static_cast<double>(dim);
    if (!factor) factor = own;
    factor = policy == "not_larger" ? std::min(*factor, own) : std::max(*factor, own);
  }
  for (std::size_t i = 0; i < at.size(); ++i) {
    sizes[i] = static_cast<std::int64_t>(
        std::floor(factor.value_or(1.0) * static_cast<double>(x->shape[at[i]]) + 0.5));
  }
  node.inputs[3] = c.constant(node, "kept_sizes",
                              Tensor::s64({static_cast<std::int64_t>(sizes.size())}, sizes));
  return {};
}

Result<void> resize(Canonicalizer& c, Node node) {
  if (c.opset() < 11) {
    if (node.inputs.size() != 2) return node_error(node, "needs input and scales");
    node.inputs = {node.inputs[0], "", node.inputs[1]};
    set_old_sampling(node);
    return c.emit(std::move(node));
  }
  const std::string policy = node.text("keep_aspect_ratio_policy", "stretch");
  const bool crops =
      node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  if (node.integer("antialias", 0) == 0) node.attributes.erase("antialias");
  node.attributes.erase("keep_aspect_ratio_policy");
  if (!crops) {
    node.attributes.erase("extrapolation_value");  // tf_crop_and_resize's alone, like roi
    if (node.inputs.size() > 1) node.inputs[1].clear();
  }
  // Both given, one empty: exporters of opset 11 to 13 wrote it so.
  for (const std::size_t i : {2U, 3U}) {
    const Tensor* given = c.constant_input(node, i);
    if (given != nullptr && given->elements() == 0) node.inputs[i].clear();
  }
  while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
  if (crops && (c.constant_input(node, 1) == nullptr || !node.has_input(3)))
    return node_unsupported(node, "tf_crop_and_resize needs a constant roi and sizes");
  if (policy != "stretch" && node.has_input(3)) KERF_TRY(keep_aspect(c, node, policy));
  if (node.attributes.contains("axes")) {
    KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
    const std::size_t rank = x->shape.size();
    KERF_ASSIGN(const std::vector<std::size_t> at, positions(node, node.integers("axes"), rank));
    node.attributes.erase("axes");
    if (crops) {
      const auto given_roi = c.constant_input(node, 1)->to_floats();
      if (given_roi.size() != 2 * at.size()) return node_error(node, "roi doesn't fit the axes");
      std::vector<float> roi(2 * rank, 0.0F);
      std::fill(roi.begin() + static_cast<std::ptrdiff_t>(rank), roi.end(), 1.0F);
      for (std::size_t i = 0; i < at.size(); ++i) {
        roi[at[i]] = given_roi[i];
        roi[at[i] + rank] = given_roi[i + at.size()];
      }
      node.inputs[1] =
          c.constant(node, "roi", Tensor::f32({static_cast<std::int64_t>(roi.size())}, roi));
    }
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

/// Modes as opset 20 calls them, for any number of dimensions.
Result<void> grid_sample(Canonicalizer& c, Node node) {
  const std::string mode = node.text("mode", "linear");
  if (mode == "bilinear") node.attributes["mode"] = std::string("linear");
  if (mode == "bicubic") node.attributes["mode"] = std::string("cubic");
  return c.emit(std::move(node));
}

}  // namespace

void add_resampling_rules(CanonicalRules& rules) {
  rules["GridSample"] = grid_sample;
  rules["Pad"] = pad;
  rules["Upsample"] = upsample;
  rules["Resize"] = resize;
}

}  // namespace kerf::onnx
