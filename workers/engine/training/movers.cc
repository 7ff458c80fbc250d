// What moves values without computing, and means and sums over axes.
#include <algorithm>
#include <numeric>

#include "workers/engine/geometry.h"
#include "workers/engine/training/nest.h"
#include "workers/engine/training/network.h"

namespace kerf::engine::training {

using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

Shape axes_in_order(const Value& value) {
  Shape order(value.dims.size());
  std::iota(order.begin(), order.end(), 0);
  if (order.size() > 2 && value.layout == Layout::kChannelsLast) {
    std::rotate(order.begin() + 1, order.begin() + 2, order.end());
  }
  return order;
}

/// Copies parts of values to parts of values.
class Move final : public Op {
 public:
  struct Part {
    Sink from;
    Value* to = nullptr;
    std::int64_t from_offset = 0, to_offset = 0;
    Nest nest;            ///< `from`, `to`.
    Nest back;            ///< `to`, `from`.
    bool whole = true;    ///< Each element of `from` goes to exactly one of `to`.
  };

  /// `fill`: what the outputs hold where nothing is copied to; nullopt: everything is.
  Move(std::vector<Part> parts, std::optional<float> fill) : parts_(std::move(parts)), fill_(fill) {}

  void forward() override {
    if (fill_) std::fill_n(parts_[0].to->data, parts_[0].to->count, *fill_);
    for (const Part& part : parts_) {
      move(part.nest, part.from.value->data + part.from_offset, part.to->data + part.to_offset, 1.0F, false);
    }
  }
  void backward() override {
    for (Part& part : parts_) {
      if (!part.from.wanted()) continue;
      if (!part.whole && !part.from.accumulate) std::fill_n(part.from.to(), part.from.value->count, 0.0F);
      move(part.back, part.to->gradient + part.to_offset, part.from.to() + part.from_offset, 1.0F,
           part.from.accumulate || !part.whole);
    }
  }
  std::vector<Sink*> sinks() override {
    std::vector<Sink*> out;
    for (Part& part : parts_) out.push_back(&part.from);
    return out;
  }
  [[nodiscard]] Value* output() const override { return parts_[0].to; }

 private:
  std::vector<Part> parts_;
  std::optional<float> fill_;
};

Move::Part make_part(Value* from, Value* to, const Shape& dims, const Shape& from_strides, const Shape& to_strides,
                     const Shape& order) {
  Move::Part part;
  part.from.value = from;
  part.to = to;
  part.nest = Nest(dims, {from_strides, to_strides}, order);
  part.back = Nest(dims, {to_strides, from_strides}, order);
  return part;
}

void add_move(Network& network, Move::Part part, std::optional<float> fill = std::nullopt) {
  std::vector<Move::Part> parts;
  parts.push_back(std::move(part));
  network.add(std::make_unique<Move>(std::move(parts), fill));
}

/// y = factor · Σ x over some axes.
class Reduce final : public Op {
 public:
  Reduce(Value* x, Value* y, const std::vector<bool>& reduced, float factor) : x_{x}, y_(y), factor_(factor) {
    Shape to = x->dims;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = reduced[i] ? 1 : to[i];
    Shape strides = row_major_strides(to);
    for (std::size_t i = 0; i < to.size(); ++i) strides[i] = reduced[i] ? 0 : strides[i];
    const Shape order = axes_in_order(*x);
    nest_ = Nest(x->dims, {x->strides(), strides}, order);
    back_ = Nest(x->dims, {strides, x->strides()}, order);
  }
  void forward() override {
    std::fill_n(y_->data, y_->count, 0.0F);
    move(nest_, x_.value->data, y_->data, factor_, true);
  }
  void backward() override {
    if (x_.wanted()) move(back_, y_->gradient, x_.to(), factor_, x_.accumulate);
  }
  std::vector<Sink*> sinks() override { return {&x_}; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_;
  Value* y_;  // plain
  float factor_;
  Nest nest_, back_;
};

Result<std::vector<std::int64_t>> integers(const Network& network, const Node& node, std::size_t input) {
  if (!node.has_input(input)) return std::vector<std::int64_t>();
  const Tensor* constant = network.graph().constant(node.inputs[input]);
  if (constant == nullptr || constant->dtype() == graph::DType::kF32) {
    return no_gradient(node, "input " + std::to_string(input) + " isn't constant");
  }
  return constant->to_integers();
}

/// The shape that inference found for a node's output.
Result<Shape> shape_of(const Network& network, const Node& node, std::size_t output = 0) {
  const graph::ValueInfo* info = network.graph().value(node.outputs.at(output));
  if (info == nullptr || !graph::element_count(info->shape)) return no_gradient(node, "its shape isn't known");
  return info->shape;
}

Result<void> reshape(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0, Layout::kPlain));
  KERF_ASSIGN(const Shape dims, shape_of(network, node));
  Value* y = network.make(dims, Layout::kPlain, x->wants_gradient);
  if (y->count != x->count) return no_gradient(node, "its shapes don't fit");
  const Shape all{static_cast<std::int64_t>(x->count)};
  add_move(network, make_part(x, y, all, {1}, {1}, {0}));
  network.set(node.outputs[0], y);
  return {};
}

Result<void> transpose(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0));
  const std::size_t rank = x->dims.size();
  Shape order(rank);
  for (std::size_t i = 0; i < rank; ++i) order[i] = static_cast<std::int64_t>(rank - 1 - i);
  order = node.integers("perm", order);
  const Shape own = x->strides();
  Shape dims, strides;
  for (const std::int64_t axis : order) {
    dims.push_back(x->dims.at(static_cast<std::size_t>(axis)));
    strides.push_back(own[static_cast<std::size_t>(axis)]);
  }
  Value* y = network.make(dims, Layout::kPlain, x->wants_gradient);
  add_move(network, make_part(x, y, dims, strides, y->strides(), axes_in_order(*y)));
  network.set(node.outputs[0], y);
  return {};
}

Result<void> concat(Network& network, const Node& node) {
  std::vector<Value*> inputs;
  bool wants = false;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    KERF_ASSIGN(Value * value, network.value(node, i));
    wants = wants || value->wants_gradient;
    inputs.push_back(value);
  }
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), inputs[0]->dims.size());
  if (axis < 0) return no_gradient(node, "its axis is outside");
  const auto at = static_cast<std::size_t>(axis);
  Shape dims = inputs[0]->dims;
  dims[at] = 0;
  for (const Value* input : inputs) dims[at] += input->dims.at(at);
  Value* y = network.make(dims, inputs[0]->layout, wants);
  const Shape strides = y->strides();
  std::vector<Move::Part> parts;
  std::int64_t begin = 0;
  for (Value* input : inputs) {
    parts.push_back(make_part(input, y, input->dims, input->strides(), strides, axes_in_order(*y)));
    parts.back().to_offset = begin * strides[at];
    begin += input->dims[at];
  }
  network.add(std::make_unique<Move>(std::move(parts), std::nullopt));
  network.set(node.outputs[0], y);
  return {};
}

Result<void> slice(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0));
  KERF_ASSIGN(const auto starts, integers(network, node, 1));
  KERF_ASSIGN(const auto ends, integers(network, node, 2));
  KERF_ASSIGN(const auto axes, integers(network, node, 3));
  KERF_ASSIGN(const auto steps, integers(network, node, 4));
  KERF_ASSIGN(const SliceRange range, slice_ranges(node, x->dims, starts, ends, axes, steps));
  Value* y = network.make(range.count, x->layout, x->wants_gradient);
  Shape strides = x->strides();
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < strides.size(); ++i) {
    offset += range.start[i] * strides[i];
    strides[i] *= range.step[i];
  }
  Move::Part part = make_part(x, y, y->dims, strides, y->strides(), axes_in_order(*y));
  part.from_offset = offset;
  part.whole = y->count == x->count;
  add_move(network, std::move(part));
  network.set(node.outputs[0], y);
  return {};
}

Result<void> pad(Network& network, const Node& node) {
  if (node.text("mode", "constant") != "constant") return no_gradient(node, "only the mode \"constant\"");
  KERF_ASSIGN(Value * x, network.value(node, 0));
  KERF_ASSIGN(const auto pads, integers(network, node, 1));
  const std::size_t rank = x->dims.size();
  if (node.has_input(3) || pads.size() != 2 * rank) return no_gradient(node, "only pads for all axes");
  float fill = 0;
  if (node.has_input(2)) {
    const Tensor* constant = network.graph().constant(node.inputs[2]);
    if (constant == nullptr || constant->elements() != 1) return no_gradient(node, "what it pads with isn't constant");
    fill = constant->to_floats()[0];
  }
  Shape dims = x->dims;
  Shape from = x->strides();
  std::int64_t from_offset = 0;
  Shape inner = x->dims;
  Shape begin(rank, 0);
  for (std::size_t i = 0; i < rank; ++i) {
    dims[i] += pads[i] + pads[i + rank];
    if (dims[i] < 0) return no_gradient(node, "it takes away more than there is");
    // Negative pads cut.
    const std::int64_t cut_front = std::max<std::int64_t>(0, -pads[i]);
    const std::int64_t cut_back = std::max<std::int64_t>(0, -pads[i + rank]);
    inner[i] = std::max<std::int64_t>(0, x->dims[i] - cut_front - cut_back);
    from_offset += cut_front * from[i];
    begin[i] = std::max<std::int64_t>(0, pads[i]);
  }
  Value* y = network.make(dims, x->layout, x->wants_gradient);
  Move::Part part = make_part(x, y, inner, from, y->strides(), axes_in_order(*y));
  part.from_offset = from_offset;
  for (std::size_t i = 0; i < rank; ++i) part.to_offset += begin[i] * y->strides()[i];
  part.whole = inner == x->dims;
  add_move(network, std::move(part), fill);
  network.set(node.outputs[0], y);
  return {};
}

Result<void> split(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0));
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), x->dims.size());
  if (axis < 0) return no_gradient(node, "its axis is outside");
  const auto at = static_cast<std::size_t>(axis);
  const Shape strides = x->strides();
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i].empty()) return no_gradient(node, "a part that nobody reads");
    KERF_ASSIGN(const Shape dims, shape_of(network, node, i));
    Value* y = network.make(dims, x->layout, x->wants_gradient);
    Move::Part part = make_part(x, y, dims, strides, y->strides(), axes_in_order(*y));
    part.from_offset = begin * strides[at];
    part.whole = false;
    add_move(network, std::move(part));
    network.set(node.outputs[i], y);
    begin += dims.at(at);
  }
  return {};
}

Result<void> reduce(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0));
  const std::size_t rank = x->dims.size();
  std::vector<bool> reduced(rank, false);
  bool keep = true;
  if (node.op == "GlobalAveragePool") {
    if (rank < 3) return no_gradient(node, "an input without spatial axes");
    std::fill(reduced.begin() + 2, reduced.end(), true);
  } else {
    KERF_ASSIGN(const auto axes, integers(network, node, 1));
    keep = node.integer("keepdims", 1) != 0;
    if (axes.empty() && node.integer("noop_with_empty_axes", 0) == 0) reduced.assign(rank, true);
    for (const std::int64_t axis : axes) {
      const std::int64_t at = normalized_axis(axis, rank);
      if (at < 0) return no_gradient(node, "an axis is outside");
      reduced[static_cast<std::size_t>(at)] = true;
    }
  }
  Shape dims;
  std::int64_t count = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    if (reduced[i]) count *= x->dims[i];
    if (!reduced[i] || keep) dims.push_back(reduced[i] ? 1 : x->dims[i]);
  }
  Value* y = network.make(dims, Layout::kPlain, x->wants_gradient);
  const float factor = node.op == "ReduceSum" ? 1.0F : 1.0F / static_cast<float>(std::max<std::int64_t>(1, count));
  network.add(std::make_unique<Reduce>(x, y, reduced, factor));
  network.set(node.outputs[0], y);
  return {};
}

}  // namespace

std::unique_ptr<Op> make_relayout(Value* from, Value* to) {
  std::vector<Move::Part> parts;
  parts.push_back(make_part(from, to, to->dims, from->strides(), to->strides(), axes_in_order(*to)));
  return std::make_unique<Move>(std::move(parts), std::nullopt);
}

Result<bool> add_mover(Network& network, const Node& node) {
  using Maker = Result<void> (*)(Network&, const Node&);
  static const std::map<std::string, Maker> makers = {
      {"Reshape", reshape},      {"Flatten", reshape},    {"Squeeze", reshape},
      {"Unsqueeze", reshape},    {"Transpose", transpose}, {"Concat", concat},
      {"Slice", slice},          {"Pad", pad},            {"Split", split},
      {"ReduceMean", reduce},    {"ReduceSum", reduce},   {"GlobalAveragePool", reduce},
  };
  const auto maker = makers.find(node.op);
  if (maker == makers.end()) return false;
  KERF_TRY(maker->second(network, node));
  return true;
}

}  // namespace kerf::engine::training
