// Ops that others say as well: Scatter, AffineGrid, CenterCropPad, and the windows of audio models.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "workers/onnx/canonical.h"
#include "workers/onnx/tensor_reader.h"

namespace kerf::onnx {
namespace {

using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Until opset 10 ScatterElements was called so.
Result<void> scatter(Canonicalizer& c, Node node) {
  node.op = "ScatterElements";
  return c.emit(std::move(node));
}

/// Appends a helper of `owner`'s; the name of what it makes.
Result<std::string> helper(Canonicalizer& c, const Node& owner, const std::string& op, std::vector<std::string> inputs,
                           std::map<std::string, graph::Attribute> attributes = {}) {
  std::string made = c.fresh(owner.outputs[0] + "/" + op);
  KERF_TRY(c.emit(Node{c.fresh(owner.name + "/" + op), op, "", std::move(inputs), {made}, std::move(attributes)}));
  return made;
}

/// The node itself as another op.
Result<void> become(Canonicalizer& c, Node node, const std::string& op, std::vector<std::string> inputs,
                    std::map<std::string, graph::Attribute> attributes = {}) {
  node.op = op;
  node.inputs = std::move(inputs);
  node.attributes = std::move(attributes);
  return c.emit(std::move(node));
}

std::string list(Canonicalizer& c, const Node& owner, const char* what, const std::vector<std::int64_t>& values) {
  return c.constant(owner, what, Tensor::s64({static_cast<std::int64_t>(values.size())}, values));
}

/// (x - mean) / (deviation + 1e-9) over the axes.
Result<void> mean_variance(Canonicalizer& c, Node node) {
  if (node.inputs.size() != 1 || node.outputs.size() != 1) return node_error(node, "needs one input and one output");
  const std::string axes = list(c, node, "axes", node.integers("axes", {0, 2, 3}));
  KERF_ASSIGN(const std::string mean, helper(c, node, "ReduceMean", {node.inputs[0], axes}));
  KERF_ASSIGN(const std::string centred, helper(c, node, "Sub", {node.inputs[0], mean}));
  KERF_ASSIGN(const std::string squares, helper(c, node, "Mul", {centred, centred}));
  KERF_ASSIGN(const std::string variance, helper(c, node, "ReduceMean", {squares, axes}));
  KERF_ASSIGN(const std::string deviation, helper(c, node, "Sqrt", {variance}));
  KERF_ASSIGN(const std::string divisor, helper(c, node, "Add", {deviation, c.constant(node, "least", Tensor::scalar(1e-9F))}));
  return become(c, std::move(node), "Div", {centred, divisor});
}

/// x / norm along an axis; of zeros alone, zeros.
Result<void> lp_normalization(Canonicalizer& c, Node node) {
  const std::int64_t p = node.integer("p", 2);
  if (node.inputs.size() != 1 || node.outputs.size() != 1) return node_error(node, "needs one input and one output");
  if (p != 1 && p != 2) return node_error(node, "p is " + std::to_string(p) + ", expected 1 or 2");
  const std::string axis = list(c, node, "axis", {node.integer("axis", -1)});
  KERF_ASSIGN(const std::string norm, helper(c, node, p == 1 ? "ReduceL1" : "ReduceL2", {node.inputs[0], axis}));
  KERF_ASSIGN(const std::string divisor, helper(c, node, "Max", {norm, c.constant(node, "least", Tensor::scalar(std::numeric_limits<float>::min()))}));
  const std::string x = node.inputs[0];
  return become(c, std::move(node), "Div", {x, divisor});
}

/// The middle of the input, or the input in the middle of zeros.
Result<void> center_crop_pad(Canonicalizer& c, Node node) {
  KERF_ASSIGN(const graph::shapes::Value* x, c.input(node, 0));
  const Shape shape = x->shape;
  const auto wanted = c.known_integers(node, 1);
  if (!wanted) return node_unsupported(node, "the target shape must be a constant");
  const std::vector<std::int64_t>& sizes = *wanted;
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::vector<std::int64_t> axes = node.integers("axes");
  if (axes.empty()) {
    for (std::int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  if (axes.size() != sizes.size() || node.outputs.size() != 1)
    return node_error(node, "the target shape doesn't fit the axes");
  std::vector<std::int64_t> starts(shape.size(), 0);
  std::vector<std::int64_t> ends(shape.size(), INT64_MAX);
  std::vector<std::int64_t> pads(2 * shape.size(), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    if (axis < 0 || axis >= rank) return node_error(node, "an axis doesn't exist");
    const auto at = static_cast<std::size_t>(axis);
    if (shape[at] < 0 || sizes[i] < 0)
      return node_unsupported(node, "the dimensions that it crops must be known");
    const std::int64_t more = sizes[i] - shape[at];
    if (more < 0) {
      starts[at] = -more / 2;
      ends[at] = starts[at] + sizes[i];
    } else {
      pads[at] = more / 2;
      pads[at + shape.size()] = more - more / 2;
    }
  }
  Node crop{c.fresh(node.name + "/crop"),
            "Slice",
            "",
            {node.inputs[0], c.constant(node, "starts", Tensor::s64({rank}, starts)),
             c.constant(node, "ends", Tensor::s64({rank}, ends))},
            {c.fresh(node.outputs[0] + "/crop")},
            {}};
  node.op = "Pad";
  node.attributes.clear();
  node.inputs = {crop.outputs[0], c.constant(node, "pads", Tensor::s64({2 * rank}, pads))};
  KERF_TRY(c.emit(std::move(crop)));
  return c.emit(std::move(node));
}

/// HannWindow, HammingWindow and BlackmanWindow of a known length are constants.
Result<void> window(Canonicalizer& c, Node node) {
  constexpr std::int64_t kLongest = 1 << 20;
  const auto length = c.known_integers(node, 0);
  if (!length || length->size() != 1)
    return node_unsupported(node, "the window's length must be a constant");
  const std::int64_t size = length->front();
  if (size < 0 || size > kLongest || node.outputs.size() != 1)
    return node_error(node, "a window of " + std::to_string(size) + " values");
  const auto dtype = dtype_of(static_cast<std::int32_t>(node.integer("output_datatype", 1)));
  if (!dtype || canonical_dtype(*dtype) != graph::DType::kF32)
    return node_unsupported(node, "output_datatype must be floating point");
  const bool periodic = node.integer("periodic", 1) != 0;
  const double steps = static_cast<double>(std::max<std::int64_t>(periodic ? size : size - 1, 1));
  std::vector<float> values;
  for (std::int64_t i = 0; i < size; ++i) {
    const double turn = 2 * std::numbers::pi * static_cast<double>(i) / steps;
    double value = 0;
    if (node.op == "HannWindow") value = 0.5 - 0.5 * std::cos(turn);
    else if (node.op == "HammingWindow") value = 25.0 / 46 - 21.0 / 46 * std::cos(turn);
    else value = 0.42 - 0.5 * std::cos(turn) + 0.08 * std::cos(2 * turn);
    values.push_back(static_cast<float>(value));
  }
  return c.replace_by_constant(node.outputs[0], Tensor::f32({size}, values));
}

/// Places of an output's elements between -1 and 1, times theta: base grid x theta^T.
Result<void> affine_grid(Canonicalizer& c, Node node) {
  constexpr std::int64_t kMost = 1 << 26;
  const auto size = c.known_integers(node, 1);
  if (!size || size->size() < 4 || size->size() > 5 || node.outputs.size() != 1)
    return node_unsupported(node, "the output's size must be a constant of 4 or 5 numbers");
  const std::vector<std::int64_t>& sizes = *size;
  const Shape extents(sizes.begin() + 2, sizes.end());
  const auto dims = static_cast<std::int64_t>(extents.size());
  const auto count = graph::element_count(extents);
  if (!count || *count < 1 || *count > kMost)
    return node_unsupported(node, "the output's size is " + graph::to_string(sizes));
  const bool align = node.integer("align_corners", 0) != 0;
  std::vector<float> base;
  for (std::int64_t i = 0; i < *count; ++i) {
    // Width first, as theta wants it, and a 1 for the shift.
    std::int64_t rest = i;
    for (std::int64_t d = dims; d-- > 0;) {
      const std::int64_t extent = extents[static_cast<std::size_t>(d)];
      const auto at = static_cast<double>(rest % extent);
      const auto last = static_cast<double>(extent - 1);
      rest /= extent;
      const double place = align ? (extent == 1 ? -1.0 : 2 * at / last - 1)
                                 : (2 * at + 1) / static_cast<double>(extent) - 1;
      base.push_back(static_cast<float>(place));
    }
    base.push_back(1.0F);
  }
  Node turn{c.fresh(node.name + "/transpose"),
            "Transpose",
            "",
            {node.inputs[0]},
            {c.fresh(node.inputs[0] + "/turned")},
            {{"perm", std::vector<std::int64_t>{0, 2, 1}}}};
  Node product{c.fresh(node.name + "/product"),
               "MatMul",
               "",
               {c.constant(node, "base", Tensor::f32({1, *count, dims + 1}, base)), turn.outputs[0]},
               {c.fresh(node.outputs[0] + "/flat")},
               {}};
  std::vector<std::int64_t> shape{0};
  shape.insert(shape.end(), extents.begin(), extents.end());
  shape.push_back(dims);
  node.op = "Reshape";
  node.attributes.clear();
  node.inputs = {product.outputs[0], c.constant(node, "shape", Tensor::s64({dims + 2}, shape))};
  KERF_TRY(c.emit(std::move(turn)));
  KERF_TRY(c.emit(std::move(product)));
  return c.emit(std::move(node));
}

/// Since opset 20 the axis is an input.
Result<void> dft(Canonicalizer& c, Node node) {
  if (c.opset() >= 20) {
    std::int64_t axis = -2;
    if (node.has_input(2)) {
      const auto given = c.known_integers(node, 2);
      if (!given || given->size() != 1)
        return node_unsupported(node, "the axis must be a constant");
      axis = given->front();
    }
    node.attributes["axis"] = axis;
    if (node.inputs.size() > 2) node.inputs.resize(2);
  }
  return c.emit(std::move(node));
}

/// How much of each frequency belongs to each mel band, where all is known: a constant.
Result<void> mel_weights(Canonicalizer& c, Node node) {
  constexpr std::int64_t kMost = 1 << 22;
  std::int64_t numbers[3] = {};
  double edges[2] = {};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto known = c.known_integers(node, i);
    if (!known || known->size() != 1)
      return node_unsupported(node, "bands, transform length and sample rate must be constants");
    numbers[i] = known->front();
  }
  for (std::size_t i = 0; i < 2; ++i) {
    const Tensor* edge = c.constant_input(node, i + 3);
    if (edge == nullptr || edge->elements() != 1)
      return node_unsupported(node, "the edges must be constants");
    edges[i] = static_cast<double>(edge->to_floats()[0]);
  }
  const std::int64_t bands = numbers[0];
  const std::int64_t rows = numbers[1] / 2 + 1;
  if (bands < 1 || numbers[1] < 1 || numbers[2] < 1 || bands > kMost || rows > kMost / bands ||
      !(edges[0] >= 0) || !(edges[1] >= edges[0]) || node.outputs.size() != 1 ||
      edges[1] > static_cast<double>(numbers[2])) {
    return node_error(node, "its numbers describe no filter bank");
  }
  const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double step = (mel(edges[1]) - mel(edges[0])) / static_cast<double>(bands + 2);
  std::vector<std::int64_t> bins;
  for (std::int64_t i = 0; i < bands + 2; ++i) {
    const double hertz =
        700 * (std::pow(10, (static_cast<double>(i) * step + mel(edges[0])) / 2595) - 1);
    const auto bin = static_cast<std::int64_t>(std::floor(
        static_cast<double>(numbers[1] + 1) * hertz / static_cast<double>(numbers[2])));
    bins.push_back(std::clamp<std::int64_t>(bin, 0, rows));
  }
  std::vector<float> weights(static_cast<std::size_t>(rows * bands), 0.0F);
  const auto put = [&](std::int64_t row, std::int64_t band, double value) {
    if (row < rows) weights[static_cast<std::size_t>(row * bands + band)] = static_cast<float>(value);
  };
  for (std::int64_t band = 0; band < bands; ++band) {
    const std::int64_t low = bins[static_cast<std::size_t>(band)];
    const std::int64_t middle = bins[static_cast<std::size_t>(band) + 1];
    const std::int64_t high = bins[static_cast<std::size_t>(band) + 2];
    if (low == middle) put(middle, band, 1);
    for (std::int64_t row = low; low < middle && row <= middle; ++row)
      put(row, band, static_cast<double>(row - low) / static_cast<double>(middle - low));
    for (std::int64_t row = middle; row < high; ++row)
      put(row, band, static_cast<double>(high - row) / static_cast<double>(high - middle));
  }
  return c.replace_by_constant(node.outputs[0], Tensor::f32({rows, bands}, weights));
}

}  // namespace

void add_composed_rules(CanonicalRules& rules) {
  rules["Scatter"] = scatter;
  rules["MeanVarianceNormalization"] = mean_variance;
  rules["LpNormalization"] = lp_normalization;
  rules["AffineGrid"] = affine_grid;
  rules["DFT"] = dft;
  rules["MelWeightMatrix"] = mel_weights;
  rules["CenterCropPad"] = center_crop_pad;
  for (const char* op : {"HannWindow", "HammingWindow", "BlackmanWindow"}) rules[op] = window;
}

}  // namespace kerf::onnx
