#include "workers/graph/shapes/call.h"

#include <algorithm>

namespace kerf::graph::shapes {

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kF16 ||
         dtype == DType::kBF16;
}

std::optional<DType> dtype_of_code(std::int64_t code) {
  static const std::unordered_map<std::int64_t, DType> types = {
      {1, DType::kF32},  {2, DType::kU8},   {3, DType::kS8},   {4, DType::kU16}, {5, DType::kS16},
      {6, DType::kS32},  {7, DType::kS64},  {9, DType::kBool}, {10, DType::kF32}, {11, DType::kF32},
      {12, DType::kU32}, {13, DType::kU64}, {16, DType::kF32}, {21, DType::kU4}, {22, DType::kS4}};
  const auto found = types.find(code);
  return found == types.end() ? std::nullopt : std::optional(found->second);
}

std::int64_t to_dim(const Element& element) {
  return element.known() ? static_cast<std::int64_t>(element.value) : element.symbol;
}

Element to_element(std::int64_t dim) {
  return dim >= 0 ? Element{static_cast<long double>(dim), 0} : Element{0, dim};
}

std::optional<std::int64_t> product(const Shape& dims) {
  constexpr std::int64_t kLimit = 1LL << 40U;
  std::int64_t count = 1;
  std::int64_t symbol = 0;
  for (const std::int64_t dim : dims) {
    if (dim < 0) {
      symbol = symbol == 0 ? dim : kUnknown;
      continue;
    }
    if (dim != 0 && count > kLimit / dim) return std::nullopt;
    count *= dim;
  }
  if (count == 0 || symbol == 0) return count;
  return count == 1 ? symbol : kUnknown;
}

void Call::set(std::size_t i, DType dtype, Shape shape, std::shared_ptr<const Elements> elements) {
  if (i >= out.size()) return;
  out[i] = Value{dtype, std::move(shape), std::move(elements)};
}

Error Call::fail(const std::string& why) const {
  std::string inputs;
  for (std::size_t i = 0; i < in.size() && i < 8; ++i) {
    if (in[i] == nullptr) continue;
    if (!inputs.empty()) inputs += ", ";
    inputs += node.inputs[i] + " " + to_string(in[i]->shape);
  }
  return invalid_argument("node " + node.label() + ": " + why + " (inputs " + inputs + ")");
}

Result<std::int64_t> Call::axis(std::int64_t axis, std::int64_t rank) const {
  if (axis < -rank || axis >= rank) {
    return fail("axis " + std::to_string(axis) + " doesn't exist in rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + rank : axis;
}

Result<std::vector<std::int64_t>> Call::integers(std::size_t i, const char* what) const {
  if (is_float(in[i]->dtype)) return fail(std::string(what) + " must be integers");
  const Elements* known = elements(i);
  if (known == nullptr ||
      !std::all_of(known->begin(), known->end(), [](const Element& e) { return e.known(); })) {
    return fail(std::string(what) + " '" + node.inputs[i] +
                "' must be a constant or follow from shapes");
  }
  std::vector<std::int64_t> out_values;
  for (const Element& element : *known) out_values.push_back(to_dim(element));
  return out_values;
}

Result<void> Call::want_rank(std::size_t i, std::int64_t least, std::int64_t most) const {
  if (rank(i) >= least && rank(i) <= most) return {};
  const std::string range = least == most ? std::to_string(least)
                            : most >= static_cast<std::int64_t>(kMaxRank)
                                ? std::to_string(least) + " or more"
                                : std::to_string(least) + " to " + std::to_string(most);
  return fail("input " + std::to_string(i) + " has rank " + std::to_string(rank(i)) +
              ", expected " + range);
}

Result<void> Call::want_same_dtype(std::size_t a, std::size_t b) const {
  if (!has(a) || !has(b) || dtype(a) == dtype(b)) return {};
  return fail("inputs " + std::to_string(a) + " and " + std::to_string(b) + " have types " +
              std::string(to_string(dtype(a))) + " and " + std::string(to_string(dtype(b))) +
              ", expected the same");
}

std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t x = i + a.size() < rank ? 1 : a[i + a.size() - rank];
    const std::int64_t y = i + b.size() < rank ? 1 : b[i + b.size() - rank];
    if (x == y) {
      out[i] = x;
    } else if (x == 1) {
      out[i] = y;
    } else if (y == 1) {
      out[i] = x;
    } else if (x < 0 || y < 0) {
      // A free dimension against a known one that isn't 1 can only be that one (or 1).
      out[i] = std::max(x, y) >= 0 ? std::max(x, y) : kUnknown;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

const Registry& registry() {
  static const Registry all = [] {
    Registry r;
    register_elementwise(r);
    register_convolution(r);
    register_matrix(r);
    register_normalization(r);
    register_reduction(r);
    register_layout(r);
    register_selection(r);
    register_resampling(r);
    register_contents(r);
    register_quantization(r);
    register_recurrent(r);
    register_sampling(r);
    return r;
  }();
  return all;
}

Result<void> Inference::begin(std::int64_t batch) {
  for (const ValueInfo& input : graph_.inputs) {
    if (input.shape.size() > kMaxRank) {
      return invalid_argument("graph input '" + input.name + "' has rank " +
                              std::to_string(input.shape.size()) + ", at most 16 is supported");
    }
    Value value{input.dtype, input.shape, nullptr};
    for (std::size_t i = 0; i < value.shape.size(); ++i) {
      std::int64_t& dim = value.shape[i];
      if (dim < -1) {
        return invalid_argument("graph input '" + input.name + "' has the negative dimension " +
                                std::to_string(dim));
      }
      if (i == 0 && batch > 0) dim = batch;
      if (dim == -1) dim = i == 0 ? kBatchSymbol : next_symbol_--;
    }
    if (!product(value.shape)) {
      return invalid_argument("graph input '" + input.name + "' of shape " +
                              to_string(input.shape) + " has more than 2^40 elements");
    }
    values_[input.name] = std::move(value);
  }
  return {};
}

Value Inference::from_constant(const Tensor& tensor) {
  Value value{tensor.dtype(), tensor.shape(), nullptr};
  const bool floats = is_float(tensor.dtype());
  if (tensor.elements() > (floats ? kMaxFollowedFloats : kMaxFollowed)) return value;
  auto elements = std::make_shared<Elements>();
  if (floats) {
    for (const float f : tensor.to_floats()) elements->push_back({f, 0});
  } else {
    for (const std::int64_t integer : tensor.to_integers()) {
      elements->push_back({static_cast<long double>(integer), 0});
    }
  }
  value.elements = std::move(elements);
  return value;
}

const Value* Inference::find(const std::string& name) {
  if (const auto found = values_.find(name); found != values_.end()) return &found->second;
  if (const auto found = constants_.find(name); found != constants_.end()) return &found->second;
  const Tensor* tensor = graph_.constant(name);
  if (tensor == nullptr) return nullptr;
  return &(constants_[name] = from_constant(*tensor));
}

Result<void> Inference::infer(const Node& node) {
  const auto found = registry().find(node.op);
  if (found == registry().end() || !node.domain.empty()) {
    return unimplemented("node " + node.label() + ": op " +
                         (node.domain.empty() ? "" : node.domain + ".") + node.op +
                         " is not supported; supported: see docs/operators.md");
  }
  const Op& op = found->second;
  constants_.clear();
  Call call{node, {}, std::vector<Value>(node.outputs.size()), budget_ > 0};
  std::size_t given = node.inputs.size();
  while (given > 0 && node.inputs[given - 1].empty()) --given;
  if (given < op.least_inputs || given > op.most_inputs) {
    return invalid_argument("node " + node.label() + ": has " + std::to_string(given) +
                            " inputs, expected " + std::to_string(op.least_inputs) +
                            (op.most_inputs == op.least_inputs ? ""
                             : op.most_inputs == kAny          ? " or more"
                                                      : " to " + std::to_string(op.most_inputs)));
  }
  if (node.outputs.empty() || node.outputs.size() > op.most_outputs) {
    return invalid_argument("node " + node.label() + ": has " +
                            std::to_string(node.outputs.size()) + " outputs, expected 1" +
                            (op.most_outputs == 1 ? "" : " to " + std::to_string(op.most_outputs)));
  }
  for (std::size_t i = 0; i < given; ++i) {
    if (node.inputs[i].empty()) {
      if (i < op.least_inputs) {
        return invalid_argument("node " + node.label() + ": input " + std::to_string(i) +
                                " must be given");
      }
      call.in.push_back(nullptr);
      continue;
    }
    const Value* value = find(node.inputs[i]);
    if (value == nullptr) {
      return invalid_argument("node " + node.label() + ": reads '" + node.inputs[i] +
                              "', which nothing before it produces");
    }
    call.in.push_back(value);
  }
  KERF_TRY(op.rule(call));
  for (std::size_t i = 0; i < call.out.size(); ++i) {
    Value& value = call.out[i];
    if (node.outputs[i].empty()) continue;
    if (value.shape.size() > kMaxRank) {
      return call.fail("its output '" + node.outputs[i] + "' would have rank " +
                       std::to_string(value.shape.size()) + ", at most 16 is supported");
    }
    if (!product(value.shape)) {
      return call.fail("its output '" + node.outputs[i] + "' of shape " + to_string(value.shape) +
                       " would have more than 2^40 elements");
    }
    if (value.elements) {
      const auto count = static_cast<std::int64_t>(value.elements->size());
      if (count > kMaxFollowed || count > budget_) {
        value.elements = nullptr;
      } else {
        budget_ -= count;
      }
    }
    values_[node.outputs[i]] = std::move(value);
  }
  return {};
}

void Inference::store(std::map<std::string, ValueInfo>& values) const {
  for (const auto& [name, value] : values_) {
    ValueInfo info{name, value.dtype, value.shape};
    for (std::int64_t& dim : info.shape) dim = std::max<std::int64_t>(dim, -1);
    values[name] = std::move(info);
  }
}

Result<void> Inference::finish(Graph& graph) {
  graph.values.clear();
  store(graph.values);
  for (ValueInfo& output : graph.outputs) {
    const Value* value = find(output.name);
    if (value == nullptr) {
      return invalid_argument("graph output '" + output.name + "' has no producer");
    }
    output.dtype = value->dtype;
    output.shape = value->shape;
    for (std::int64_t& dim : output.shape) dim = std::max<std::int64_t>(dim, -1);
  }
  return {};
}

}  // namespace kerf::graph::shapes
