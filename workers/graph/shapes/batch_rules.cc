#include "workers/graph/shapes/batch_rules.h"

#include <algorithm>

namespace kerf::graph::shapes {
namespace {

using State = Result<BatchState>;
using BatchRule = State (*)(const BatchCall&);

/// All inputs but `data` must not depend on the samples.
Result<void> others_fixed(const BatchCall& call, std::size_t data) {
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    if (i != data && !call.fixed(i)) {
      return call.mixes("input " + std::to_string(i) + " depends on the samples");
    }
  }
  if (!call.rows(data)) return call.mixes("a parameter depends on the samples, its data don't");
  return {};
}

/// Whether `name`'s axis (default `fallback`) is axis 0 in `rank` dimensions.
bool is_axis_zero(const BatchCall& call, std::int64_t fallback, std::int64_t rank) {
  const std::int64_t axis = call.node.integer("axis", fallback);
  return axis == 0 || axis == -rank;
}

State same(const BatchCall& call) {
  KERF_TRY(others_fixed(call, 0));
  return call.states[0];
}

State along_axis(const BatchCall& call) {
  KERF_TRY(others_fixed(call, 0));
  const std::string& op = call.node.op;
  const bool first =
      op == "ArgMax" || op == "ArgMin" || op == "Split";  // their axis is 0 by default
  if (is_axis_zero(call, first ? 0 : -1, call.rank(0)))
    return call.mixes("works along the batch axis");
  return call.states[0];
}

State quantize(const BatchCall& call) {
  KERF_TRY(others_fixed(call, 0));
  const bool per_axis =
      call.in[1]->shape.size() > 1 || (call.in[1]->shape.size() == 1 && call.in[1]->shape[0] != 1);
  if (per_axis && is_axis_zero(call, 1, call.rank(0)))
    return call.mixes("has a scale for each sample");
  return call.states[0];
}

State broadcasting(const BatchCall& call) {
  std::int64_t rank = 0;
  for (std::size_t i = 0; i < call.in.size(); ++i)
    rank = std::max(rank, call.has(i) ? call.rank(i) : 0);
  std::optional<BatchState> state;
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    if (!call.has(i)) continue;
    if (call.rows(i)) {
      if (call.rank(i) != rank) return call.mixes("broadcasts the batch axis to another one");
      if (state && state->factor != call.states[i].factor)
        return call.mixes("joins different rows of a sample");
      state = call.states[i];
    } else if (!call.fixed(i)) {
      return call.mixes("computes with the number of samples");
    } else if (call.rank(i) == rank && call.in[i]->shape[0] != 1) {
      return call.mixes("has an operand with values of its own for each row of the batch");
    }
  }
  return *state;
}

State product(const BatchCall& call) {
  const std::size_t right = call.node.op == "QLinearMatMul" ? 3 : 1;
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    if (i != 0 && i != right && !call.fixed(i))
      return call.mixes("a parameter depends on the samples");
  }
  const std::int64_t a = call.rank(0);
  const std::int64_t b = call.rank(right);
  if (call.rows(0) && call.rows(right)) {
    if (a == b && a >= 3 && call.states[0].factor == call.states[right].factor)
      return call.states[0];
    return call.mixes("multiplies samples with each other");
  }
  if (!call.fixed(0) && !call.rows(0)) return call.mixes("computes with the number of samples");
  if (!call.fixed(right) && !call.rows(right))
    return call.mixes("computes with the number of samples");
  if (call.rows(0)) {
    if (a >= 2 && (b < a || (b == a && (a == 2 || call.in[right]->shape[0] == 1))))
      return call.states[0];
    return call.mixes("sums over the batch axis or moves it");
  }
  if (b >= 3 && (a < b || call.in[0]->shape[0] == 1) && a <= b) return call.states[right];
  return call.mixes("sums over the batch axis or moves it");
}

State gemm(const BatchCall& call) {
  if (!call.rows(0) || !call.fixed(1)) return call.mixes("multiplies with samples as weights");
  if (call.node.integer("transA", 0) != 0) return call.mixes("sums over the batch axis");
  if (call.has(2)) {
    const bool one_row = call.fixed(2) && (call.rank(2) < 2 || call.in[2]->shape[0] == 1);
    const bool same_rows =
        call.rows(2) && call.rank(2) == 2 && call.states[2].factor == call.states[0].factor;
    if (!one_row && !same_rows)
      return call.mixes("adds values of its own to each row of the batch");
  }
  return call.states[0];
}

/// Rows stay in order whatever the target is; whether they end at sample boundaries is seen in the
/// output's first dimension.
State reshape(const BatchCall& call) {
  if (!call.rows(0)) return call.mixes("takes its shape from samples");
  const Shape& out = call.out[0]->shape;
  if (out.empty() || out[0] < 0 || out[0] % call.own_batch != 0 || out[0] == 0) {
    return call.mixes("the output's first dimension isn't a multiple of the batch");
  }
  return BatchState{BatchState::Kind::kRows, out[0] / call.own_batch};
}

/// Axes at input 1 must not hold 0.
State not_axis_zero(const BatchCall& call) {
  if (!call.rows(0) || !call.fixed(1)) return call.mixes("its axes depend on the samples");
  const bool grows = call.node.op == "Unsqueeze";
  if (!call.has(1) || call.in[1]->elements == nullptr || call.in[1]->elements->empty()) {
    if (call.node.op.starts_with("Reduce") && call.node.integer("noop_with_empty_axes", 0) != 0)
      return call.states[0];
    if (call.node.op == "Squeeze" && call.in[0]->shape[0] != 1) return call.states[0];
    return call.mixes("takes away or sums over the batch axis");
  }
  const auto count = static_cast<std::int64_t>(call.in[1]->elements->size());
  const std::int64_t rank = call.rank(0) + (grows ? count : 0);
  for (const Element& axis : *call.in[1]->elements) {
    if (to_dim(axis) == 0 || to_dim(axis) == -rank)
      return call.mixes("its axes contain the batch axis");
  }
  return call.states[0];
}

State transpose(const BatchCall& call) {
  const auto order = call.node.integers("perm");
  const bool stays = order.empty() ? call.rank(0) <= 1 : order[0] == 0;
  if (!stays) return call.mixes("moves the batch away from axis 0");
  return call.states[0];
}

State flatten(const BatchCall& call) {
  if (is_axis_zero(call, 1, call.rank(0))) return call.mixes("puts all samples into one row");
  return reshape(call);
}

State concat(const BatchCall& call) {
  if (is_axis_zero(call, 0, call.rank(0))) return call.mixes("joins along the batch axis");
  std::optional<BatchState> state;
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    if (call.rows(i)) {
      if (state && state->factor != call.states[i].factor)
        return call.mixes("joins different rows of a sample");
      state = call.states[i];
    } else if (!call.fixed(i) || call.in[i]->shape[0] != 1) {
      return call.mixes("joins samples with values that aren't one row for all");
    }
  }
  return *state;
}

State slice(const BatchCall& call) {
  if (!call.rows(0)) return call.mixes("its bounds depend on the samples");
  const Elements* axes = call.has(3) ? call.in[3]->elements.get() : nullptr;
  const Elements* steps = call.has(4) ? call.in[4]->elements.get() : nullptr;
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(call.in[1]->shape[0], 0));
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t axis = axes != nullptr ? to_dim((*axes)[i]) : static_cast<std::int64_t>(i);
    if (axis != 0 && axis != -call.rank(0)) continue;
    if ((steps != nullptr && to_dim((*steps)[i]) != 1) ||
        call.out[0]->shape[0] != call.in[0]->shape[0]) {
      return call.mixes("cuts the batch axis");
    }
  }
  return call.states[0];
}

State pad(const BatchCall& call) {
  if (!call.rows(0) || !call.fixed(2)) return call.mixes("its value depends on the samples");
  const Elements* pads = call.in[1]->elements.get();
  const auto rank = static_cast<std::size_t>(call.rank(0));
  if (pads == nullptr || to_dim((*pads)[0]) != 0 || to_dim((*pads)[rank]) != 0)
    return call.mixes("pads the batch axis");
  return call.states[0];
}

State gather(const BatchCall& call) {
  const bool zero = is_axis_zero(call, 0, call.rank(0));
  if (call.rows(0) && call.fixed(1) && !zero) return call.states[0];
  if (call.fixed(0) && call.rows(1) && zero && call.rank(1) >= 1) return call.states[1];
  return call.mixes("picks along the batch axis");
}

State gather_elements(const BatchCall& call) {
  const bool both = call.rows(0) && call.rows(1) && call.states[0].factor == call.states[1].factor;
  if (!both || is_axis_zero(call, 0, call.rank(0))) return call.mixes("picks along the batch axis");
  return call.states[0];
}

State grid_sample(const BatchCall& call) {
  if (call.rows(0) && call.rows(1) && call.states[0].factor == call.states[1].factor)
    return call.states[0];
  return call.mixes("has one grid for all samples, or one sample for all grids");
}

/// With layout 1 the batch is axis 0 of input, states and outputs.
State recurrent(const BatchCall& call) {
  if (call.node.integer("layout", 0) == 0) return call.mixes("has the batch at axis 1");
  for (std::size_t i = 4; i < 7; ++i) {
    if (call.has(i)) return call.mixes("has lengths or states of its own for each sample");
  }
  KERF_TRY(others_fixed(call, 0));
  return call.states[0];
}

State one_hot(const BatchCall& call) {
  KERF_TRY(others_fixed(call, 0));
  if (call.rank(0) < 1 || is_axis_zero(call, -1, call.rank(0) + 1))
    return call.mixes("moves the batch away from axis 0");
  return call.states[0];
}

/// Expand, Tile, Resize: axis 0 keeps its size.
State keeps_rows(const BatchCall& call) {
  if (!call.rows(0)) return call.mixes("its parameters depend on the samples");
  const Shape& from = call.in[0]->shape;
  const Shape& to = call.out[0]->shape;
  if (from.size() != to.size() || from[0] != to[0])
    return call.mixes("changes the size of the batch axis");
  if (call.node.op == "Tile" && call.in[1]->elements != nullptr &&
      to_dim((*call.in[1]->elements)[0]) != 1) {
    return call.mixes("repeats the batch axis");
  }
  return call.states[0];
}

State cumulative_sum(const BatchCall& call) {
  KERF_TRY(others_fixed(call, 0));
  const Elements* axis = call.in[1]->elements.get();
  if (axis == nullptr || to_dim(axis->front()) == 0 || to_dim(axis->front()) == -call.rank(0)) {
    return call.mixes("sums along the batch axis");
  }
  return call.states[0];
}

State mean_variance(const BatchCall& call) {
  for (const std::int64_t axis : call.node.integers("axes", {0, 2, 3})) {
    if (axis == 0 || axis == -call.rank(0)) return call.mixes("takes the mean over the batch axis");
  }
  return call.states[0];
}

State triangle(const BatchCall& call) {
  KERF_TRY(others_fixed(call, 0));
  if (call.rank(0) < 3) return call.mixes("treats the batch axis as a matrix' rows");
  return call.states[0];
}

const std::unordered_map<std::string, BatchRule>& rules() {
  static const std::unordered_map<std::string, BatchRule> all = [] {
    std::unordered_map<std::string, BatchRule> r;
    Registry elementwise;
    register_elementwise(elementwise);
    for (const auto& [op, entry] : elementwise)
      r[op] = entry.most_inputs == 1 ? same : broadcasting;
    for (const char* op : {"Clip", "Dropout", "Conv", "ConvTranspose", "ConvInteger", "QLinearConv",
                           "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
                           "GlobalLpPool", "BatchNormalization", "InstanceNormalization",
                           "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth"}) {
      r[op] = same;
    }
    for (const char* op : {"Softmax", "LogSoftmax", "Hardmax", "LpNormalization",
                           "LayerNormalization", "RMSNormalization", "ArgMax", "ArgMin", "TopK", "Split"}) {
      r[op] = along_axis;
    }
    for (const char* op : {"RNN", "GRU", "LSTM"}) r[op] = recurrent;
    r["GridSample"] = grid_sample;
    r["CumSum"] = cumulative_sum;
    r["QuantizeLinear"] = quantize;
    r["DequantizeLinear"] = quantize;
    for (const char* op : {"MatMul", "MatMulInteger", "QLinearMatMul"}) r[op] = product;
    r["Gemm"] = gemm;
    r["Reshape"] = reshape;
    r["Flatten"] = flatten;
    Registry reductions;
    register_reduction(reductions);
    for (const auto& [op, entry] : reductions) {
      if (op.starts_with("Reduce")) r[op] = not_axis_zero;
    }
    r["Squeeze"] = not_axis_zero;
    r["Unsqueeze"] = not_axis_zero;
    r["Transpose"] = transpose;
    r["Concat"] = concat;
    r["Slice"] = slice;
    r["Pad"] = pad;
    r["Gather"] = gather;
    r["GatherElements"] = gather_elements;
    r["OneHot"] = one_hot;
    for (const char* op : {"Expand", "Tile", "Resize"}) r[op] = keeps_rows;
    r["MeanVarianceNormalization"] = mean_variance;
    r["Trilu"] = triangle;
    return r;
  }();
  return all;
}

}  // namespace

Error BatchCall::mixes(const std::string& why) const {
  return {ErrorCode::kFailedPrecondition, "node " + node.label() + ": " + why};
}

Result<BatchState> batch_state(const BatchCall& call) {
  const auto rule = rules().find(call.node.op);
  if (rule == rules().end())
    return call.mixes("op " + call.node.op + " isn't known to keep samples apart");
  return rule->second(call);
}

}  // namespace kerf::graph::shapes
