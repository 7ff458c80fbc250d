// Ops that others say as well: Einsum, Scatter, AffineGrid, CenterCropPad, and the windows of audio models.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "workers/graph/einsum.h"
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

/// The letters of `text` that stand in `in` (or don't).
std::string filtered(const std::string& text, const std::string& in, bool wanted) {
  std::string out;
  for (const char letter : text) {
    if ((in.find(letter) != std::string::npos) == wanted) out += letter;
  }
  return out;
}

/// The value with its axes, called `from`, in the order `to`.
Result<std::string> turned(Canonicalizer& c, const Node& owner, const std::string& value,
                           const std::string& from, const std::string& to,
                           const std::string& output = "") {
  std::vector<std::int64_t> order;
  for (const char letter : to) order.push_back(static_cast<std::int64_t>(from.find(letter)));
  if (from == to && output.empty()) return value;
  Node node{c.fresh(owner.name + "/transpose"),
            "Transpose",
            "",
            {value},
            {output.empty() ? c.fresh(value + "/turned") : output},
            {{"perm", order}}};
  std::string made = node.outputs[0];
  KERF_TRY(c.emit(std::move(node)));
  return made;
}

/// A batched matrix product in Einsum's words becomes one; anything else stays Einsum.
Result<void> einsum(Canonicalizer& c, Node node) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    KERF_ASSIGN(const graph::shapes::Value* value, c.input(node, i));
    ranks.push_back(value->shape.size());
  }
  const auto equation = graph::parse_einsum(node.text("equation", ""), ranks);
  if (!equation || ranks.size() != 2 || node.outputs.size() != 1) return c.emit(std::move(node));
  const std::string& a = equation->inputs[0];
  const std::string& b = equation->inputs[1];
  const std::string& out = equation->output;
  const std::string batch = filtered(filtered(out, a, true), b, true);
  const std::string summed = filtered(filtered(a, b, true), out, false);
  const std::string rows = filtered(filtered(a, b, false), out, true);
  const std::string columns = filtered(filtered(b, a, false), out, true);
  const bool whole = batch.size() + summed.size() + rows.size() == a.size() &&
                     batch.size() + summed.size() + columns.size() == b.size();
  if (!whole || summed.size() != 1 || rows.size() != 1 || columns.size() != 1 ||
      rows.size() + columns.size() + batch.size() != out.size()) {
    return c.emit(std::move(node));
  }
  KERF_ASSIGN(const std::string left, turned(c, node, node.inputs[0], a, batch + rows + summed));
  KERF_ASSIGN(const std::string right,
              turned(c, node, node.inputs[1], b, batch + summed + columns));
  const std::string made = batch + rows + columns;
  const std::string output = node.outputs[0];
  node.op = "MatMul";
  node.attributes.clear();
  node.inputs = {left, right};
  if (made == out) return c.emit(std::move(node));
  node.outputs = {c.fresh(output + "/product")};
  const Node product = node;
  KERF_TRY(c.emit(std::move(node)));
  KERF_TRY(turned(c, product, product.outputs[0], made, out, output));
  return {};
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
  rules["Einsum"] = einsum;
  rules["AffineGrid"] = affine_grid;
  rules["DFT"] = dft;
  rules["MelWeightMatrix"] = mel_weights;
  rules["CenterCropPad"] = center_crop_pad;
  for (const char* op : {"HannWindow", "HammingWindow", "BlackmanWindow"}) rules[op] = window;
}

}  // namespace kerf::onnx
