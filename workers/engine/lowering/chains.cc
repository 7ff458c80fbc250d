#include "workers/engine/lowering/chains.h"

#include <algorithm>
#include <cmath>

#include "workers/engine/reference/scalar.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

std::optional<float> scalar_constant(const Graph& graph, const std::string& value) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->dtype() != DType::kF32 || tensor->elements() != 1) return std::nullopt;
  return tensor->as<float>()[0];
}

PointStage plain(PointOp op, float alpha = 0.0F, float beta = 0.0F) { return {op, -1, alpha, beta, {}}; }

PointStage block(vector::BlockFunction function, float alpha = 0.0F, float beta = 0.0F) {
  return {PointOp::kBlock, -1, alpha, beta, {}, function};
}

/// The ops that have a loop of their own.
std::optional<PointStage> block_stage(const Node& node) {
  static const std::map<std::string, vector::BlockFunction, std::less<>> functions{
      {"Erf", vector::error_function}, {"Log", vector::logarithm}, {"Softsign", vector::softsign},     {"Floor", vector::floor},
      {"Ceil", vector::ceiling},       {"Round", vector::round},   {"Sign", vector::sign},             {"Reciprocal", vector::reciprocal},
      {"Sin", vector::sine},           {"Cos", vector::cosine}};
  const std::string& op = node.op;
  if (const auto found = functions.find(op); found != functions.end()) return block(found->second);
  if (op == "Selu") return block(vector::selu, node.real("alpha", 1.67326319F), node.real("gamma", 1.05070102F));
  if (op == "Celu") return block(vector::celu, node.real("alpha", 1.0F));
  if (op == "ThresholdedRelu") return block(vector::threshold, node.real("alpha", 1.0F));
  if (op == "Shrink") return block(vector::shrink, node.real("bias", 0.0F), node.real("lambd", 0.5F));
  if (op == "QuickGelu") return block(vector::quick_gelu, node.real("alpha", 1.702F));
  return std::nullopt;
}

std::optional<PointStage> clip_stage(const Graph& graph, const Node& node) {
  float low = std::numeric_limits<float>::lowest();
  float high = std::numeric_limits<float>::max();
  for (std::size_t i = 1; i < 3; ++i) {
    if (!node.has_input(i)) continue;
    const auto bound = scalar_constant(graph, node.inputs[i]);
    if (!bound) return std::nullopt;
    (i == 1 ? low : high) = *bound;
  }
  return plain(PointOp::kClip, low, high);
}

/// Add, Sub, Mul, Div, Max, Min with a constant scalar as a function of the other input.
std::optional<PointStage> scalar_stage(const Graph& graph, const Node& node) {
  if (node.inputs.size() != 2) return std::nullopt;
  const auto right = scalar_constant(graph, node.inputs[1]);
  const auto left = scalar_constant(graph, node.inputs[0]);
  if (right.has_value() == left.has_value()) return std::nullopt;
  const float c = right ? *right : *left;
  // The scalar may only bring its value, not dimensions.
  const Tensor* tensor = graph.constant(node.inputs[right ? 1 : 0]);
  const graph::ValueInfo* data = graph.value(node.inputs[right ? 0 : 1]);
  if (data == nullptr || tensor->rank() > data->shape.size()) return std::nullopt;
  if (node.op == "Add") return plain(PointOp::kLinear, 1.0F, c);
  if (node.op == "Sub") return right ? plain(PointOp::kLinear, 1.0F, -c) : plain(PointOp::kLinear, -1.0F, c);
  if (node.op == "Mul") return plain(PointOp::kLinear, c, 0.0F);
  if (node.op == "Max") return plain(PointOp::kClip, c, std::numeric_limits<float>::max());
  if (node.op == "Min") return plain(PointOp::kClip, std::numeric_limits<float>::lowest(), c);
  if (node.op == "Div" && right) {
    // A division stays one unless its reciprocal is exact.
    int exponent = 0;
    if (std::frexp(c, &exponent) == 0.5F) return plain(PointOp::kLinear, 1.0F / c, 0.0F);
    return block(vector::divide_by, c);
  }
  if (node.op == "Div" && c == 1.0F) return block(vector::reciprocal);
  if (node.op == "Pow" && right) {
    if (c == 2.0F) return plain(PointOp::kSquare);
    if (c == 3.0F) return block(vector::cube);
    if (c == 0.5F) return plain(PointOp::kSquareRoot);
    if (c == -1.0F) return block(vector::reciprocal);
    PointStage stage = plain(PointOp::kFunction);
    stage.function = [c](float x) { return static_cast<float>(std::pow(static_cast<double>(x), static_cast<double>(c))); };
    return stage;
  }
  return std::nullopt;
}

bool is_f32(const Graph& graph, const std::string& value) {
  const graph::ValueInfo* info = graph.value(value);
  if (info == nullptr) {
    const Tensor* tensor = graph.constant(value);
    return tensor != nullptr && tensor->dtype() == DType::kF32;
  }
  return info->dtype == DType::kF32;
}

const graph::Shape* shape_of(const Graph& graph, const std::string& value) {
  if (const Tensor* tensor = graph.constant(value)) return &tensor->shape();
  const graph::ValueInfo* info = graph.value(value);
  return info == nullptr ? nullptr : &info->shape;
}

bool is_elementwise(const Graph& graph, const Node& node) {
  if (node.outputs.size() != 1 || !is_f32(graph, node.outputs[0])) return false;
  if (node.op == "QuantizeLinear" || node.op == "DequantizeLinear") return false;
  for (const std::string& input : node.inputs) {
    if (!input.empty() && !is_f32(graph, input)) return false;
  }
  return unary_stage(graph, node).has_value() ||
         (node.inputs.size() == 2 && binary_op(node, false).has_value());
}

/// Grows chains; each node belongs to one at most.
class Finder {
 public:
  explicit Finder(const Graph& graph)
      : graph_(graph),
        links_(graph),
        fuses_(!graph.disabled_passes.contains(graph::kFuseActivations)),
        taken_(graph.nodes.size(), false) {
    chains_.ending_at.resize(graph.nodes.size());
    chains_.member.assign(graph.nodes.size(), false);
    for (const graph::ValueInfo& output : graph.outputs) outputs_.insert(output.name);
  }

  Chains find() {
    // Layers first and from the back, so that of two layers that meet in an Add the later one does
    // it: the other one's result is there by then.
    for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
      if (graph::is_layer(graph_, graph_.nodes[i]) && graph_.nodes[i].outputs.size() == 1) grow(i, true);
    }
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!taken_[i] && is_elementwise(graph_, graph_.nodes[i])) grow(i, false);
    }
    return std::move(chains_);
  }

 private:
  void grow(std::size_t anchor, bool layer) {
    Chain chain;
    chain.anchor = chain.last = anchor;
    chain.output = graph_.nodes[anchor].outputs[0];
    taken_[anchor] = true;
    while (fuses_ && extend(chain, layer)) {
    }
    if (chain.last != anchor) {
      chains_.member[anchor] = true;
      for (const ChainLink& link : chain.links) chains_.member[link.node] = true;
      chains_.member[chain.last] = false;
    }
    const std::size_t last = chain.last;
    chains_.ending_at[last] = std::move(chain);
  }

  bool extend(Chain& chain, bool layer) {
    if (chain.quantize || outputs_.contains(chain.output)) return false;
    const std::vector<std::size_t>& readers = links_.of(chain.output);
    if (readers.size() != 1 || taken_[readers[0]]) return false;
    const std::size_t i = readers[0];
    const Node& node = graph_.nodes[i];
    if (node.op == "QuantizeLinear") {
      const auto numeric = tensor_numeric(graph_, node);
      if (!numeric || node.inputs[0] != chain.output) return false;
      chain.quantize = numeric;
      accept(chain, i);
      return true;
    }
    if (node.outputs.size() != 1 || !is_f32(graph_, node.outputs[0])) return false;
    const graph::Shape* before = shape_of(graph_, chain.output);
    const graph::Shape* after = shape_of(graph_, node.outputs[0]);
    if (before == nullptr || after == nullptr || *before != *after) return false;
    if (auto stage = unary_stage(graph_, node)) {
      if (layer && (stage->op == PointOp::kFunction || stage->op == PointOp::kBlock)) return false;
      chain.links.push_back({*stage, "", i});
      accept(chain, i);
      return true;
    }
    return extend_binary(chain, i, layer);
  }

  bool extend_binary(Chain& chain, std::size_t i, bool layer) {
    const Node& node = graph_.nodes[i];
    if (node.inputs.size() != 2 || node.inputs[0] == node.inputs[1]) return false;
    const bool reversed = node.inputs[1] == chain.output;
    const std::string& other = node.inputs[reversed ? 0 : 1];
    const auto op = binary_op(node, reversed);
    if (!op || !is_f32(graph_, other)) return false;
    if (layer) {
      // A layer takes one residual of its own shape, or a bias along its last axis.
      const graph::Shape* shape = shape_of(graph_, other);
      const graph::Shape* own = shape_of(graph_, chain.output);
      if (*op != PointOp::kAdd || shape == nullptr || own == nullptr) return false;
      const bool residual = *shape == *own && graph_.constant(other) == nullptr;
      const bool bias = graph_.constant(other) != nullptr && chain.links.empty() &&
                        graph_.nodes[chain.anchor].op == "MatMul" && shape->size() == 1 &&
                        shape->back() == own->back();
      const bool has_residual = std::any_of(chain.links.begin(), chain.links.end(),
                                            [](const ChainLink& link) { return !link.other.empty(); });
      if (!bias && (!residual || has_residual)) return false;
    }
    PointStage stage;
    stage.op = *op;
    chain.links.push_back({stage, other, i});
    accept(chain, i);
    return true;
  }

  void accept(Chain& chain, std::size_t i) {
    taken_[i] = true;
    chain.last = i;
    chain.output = graph_.nodes[i].outputs[0];
  }

  const Graph& graph_;
  graph::Links links_;
  bool fuses_;
  std::vector<bool> taken_;
  std::set<std::string> outputs_;
  Chains chains_;
};

}  // namespace

std::optional<PointStage> unary_stage(const Graph& graph, const Node& node) {
  const std::string& op = node.op;
  if (op == "Relu") return plain(PointOp::kRelu, 0.0F);
  if (op == "LeakyRelu") return plain(PointOp::kRelu, node.real("alpha", 0.01F));
  if (op == "Clip") return clip_stage(graph, node);
  if (op == "Abs") return plain(PointOp::kAbsolute);
  if (op == "Neg") return plain(PointOp::kLinear, -1.0F, 0.0F);
  if (op == "Sqrt") return plain(PointOp::kSquareRoot);
  if (op == "HardSigmoid") return plain(PointOp::kHardSigmoid, node.real("alpha", 0.2F), node.real("beta", 0.5F));
  if (op == "HardSwish") return plain(PointOp::kHardSwish);
  if (op == "Exp") return plain(PointOp::kExponential);
  if (op == "Sigmoid") return plain(PointOp::kSigmoid);
  if (op == "Tanh") return plain(PointOp::kTanh);
  if (op == "Elu") return plain(PointOp::kElu, node.real("alpha", 1.0F));
  if (op == "Gelu" && node.text("approximate", "none") == "none") return plain(PointOp::kGelu);
  if (op == "Gelu") return plain(PointOp::kGeluTanh);
  if (op == "kerf_Swish") return plain(PointOp::kSwish);
  if (op == "Mish") return plain(PointOp::kMish);
  if (op == "Softplus") return plain(PointOp::kSoftplus);
  if (auto stage = scalar_stage(graph, node)) return stage;
  if (node.inputs.size() != 1) return std::nullopt;
  if (auto stage = block_stage(node)) return stage;
  if (auto function = reference::scalar_function(node, {})) {
    PointStage stage = plain(PointOp::kFunction);
    stage.function = std::move(*function);
    return stage;
  }
  return std::nullopt;
}

std::optional<PointOp> binary_op(const Node& node, bool reversed) {
  const std::string& op = node.op;
  if (op == "Add" || op == "Sum") return PointOp::kAdd;
  if (op == "Sub") return reversed ? PointOp::kSubtractFrom : PointOp::kSubtract;
  if (op == "Mul") return PointOp::kMultiply;
  if (op == "Div") return reversed ? PointOp::kDivideInto : PointOp::kDivide;
  if (op == "Max") return PointOp::kMaximum;
  if (op == "Min") return PointOp::kMinimum;
  if (op == "PRelu" && !reversed) return PointOp::kPRelu;
  return std::nullopt;
}

std::optional<Numeric> tensor_numeric(const Graph& graph, const Node& node) {
  if (!node.has_input(1)) return std::nullopt;
  const Tensor* scale = graph.constant(node.inputs[1]);
  const Tensor* zero = node.has_input(2) ? graph.constant(node.inputs[2]) : nullptr;
  if (scale == nullptr || scale->elements() != 1 || scale->dtype() != DType::kF32) return std::nullopt;
  if (node.has_input(2) && (zero == nullptr || zero->elements() != 1)) return std::nullopt;
  Numeric numeric;
  numeric.scale = scale->as<float>()[0];
  if (!(numeric.scale > 0.0F) || !std::isfinite(numeric.scale)) return std::nullopt;
  if (zero != nullptr) {
    numeric.dtype = zero->dtype();
  } else if (node.op == "QuantizeLinear") {
    numeric.dtype = DType::kU8;
  } else {
    const graph::ValueInfo* info = graph.value(node.inputs[0]);
    if (info == nullptr) return std::nullopt;
    numeric.dtype = info->dtype;
  }
  if (numeric.dtype != DType::kU8 && numeric.dtype != DType::kS8) return std::nullopt;
  numeric.zero = zero != nullptr ? static_cast<int>(zero->to_integers()[0]) : 0;
  return numeric;
}

Chains find_chains(const Graph& graph) { return Finder(graph).find(); }

}  // namespace kerf::engine
