#include "workers/engine/lowering/lowering.h"

#include <algorithm>
#include <stdexcept>

#include "workers/engine/kernels/dynamic.h"
#include "workers/engine/lowering/bf16_flow.h"
#include "workers/engine/lowering/boundary.h"
#include "workers/engine/lowering/chains.h"
#include "workers/engine/lowering/layers.h"
#include "workers/engine/lowering/light.h"
#include "workers/engine/lowering/pointwise_step.h"
#include "workers/engine/lowering/reference_step.h"
#include "workers/engine/lowering/shaping.h"
#include "workers/engine/lowering/values.h"
#include "workers/engine/reference/reference.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

class Lowering {
 public:
  Lowering(const Graph& graph, int threads, bool timed)
      : graph_(graph), links_(graph), chains_(find_chains(graph)), values_(graph, plan_, threads, timed), done_(graph.nodes.size(), false), bf16_(graph, links_) {}

  Result<Plan> run() {
    KERF_TRY(add_graph_inputs(values_));
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (done_[i] || chains_.member[i]) continue;
      if (chains_.ending_at[i]) {
        KERF_TRY(lower_chain(*chains_.ending_at[i]));
      } else {
        KERF_TRY(lower_node(i));
      }
    }
    KERF_TRY(add_graph_outputs(values_));
    return std::move(plan_);
  }

 private:
  /// Registers what a chain gives: integers themselves after a QuantizeLinear, a number otherwise.
  void give(const Chain& chain, Rep rep) {
    if (chain.quantize) rep.numeric = Numeric{rep.numeric.dtype, 1.0F, 0};
    values_.set(chain.output, rep);
  }

  Result<void> lower_chain(const Chain& chain) {
    const Node& anchor = graph_.nodes[chain.anchor];
    if (!graph::is_layer(graph_, anchor)) {
      PendingPointwise pending;
      KERF_TRY(begin_pointwise(anchor, pending));
      return finish_pointwise(chain, 0, std::move(pending), graph_.nodes[chain.last].name);
    }
    KERF_ASSIGN(const auto outcome, lower_layer(values_, chain, bf16_.takes(chain.output)));
    Rep rep;
    std::size_t links = 0;
    if (outcome) {
      rep = outcome->rep;
      links = outcome->links;
      if (links == chain.links.size() && outcome->quantized == chain.quantize.has_value()) {
        give(chain, rep);
        return {};
      }
    } else {
      bool lowered = false;
      if (anchor.op == "Gemm" || anchor.op == "MatMul") {
        // Weights that only layers read aren't a value until one can't use them as integers.
        if (!values_.known(anchor.inputs[1])) {
          KERF_ASSIGN(const LayerWeights weights, layer_weights(graph_, anchor));
          Rep given;
          given.slot = values_.constant_slot(weights.real);
          values_.set(anchor.inputs[1], given);
        }
        const bool bf16 = anchor.text("kerf_precision", "") == "bf16";
        KERF_ASSIGN(lowered, anchor.op == "Gemm" ? lower_gemm(values_, anchor) : lower_matmul(values_, anchor, {bf16, Numeric{}}));
      } else if (anchor.op == "Conv" || anchor.op == "ConvTranspose") {
        KERF_ASSIGN(lowered, lower_open_convolution(values_, anchor));
      }
      if (!lowered) {
        KERF_TRY(lower_reference(values_, anchor));
      }
      if (chain.last == chain.anchor) return {};
      KERF_ASSIGN(rep, values_.first(anchor.outputs[0]));
    }
    PendingPointwise pending;
    pending.shape = values_.dims(rep);
    pending.operands.push_back({rep, pending.shape});
    return finish_pointwise(chain, links, std::move(pending), graph_.nodes[chain.last].name);
  }

  Result<void> begin_pointwise(const Node& node, PendingPointwise& pending) {
    pending.shape = values_.info(node.outputs[0]).shape;
    if (const auto stage = unary_stage(graph_, node)) {
      // Of two inputs the one that isn't the scalar is the data.
      const bool second = node.inputs.size() == 2 && node.op != "Clip" && graph_.constant(node.inputs[0]) != nullptr;
      KERF_TRY(add_operand(values_, pending, node.inputs[second ? 1 : 0]));
      pending.stages.push_back(*stage);
      return {};
    }
    KERF_TRY(add_operand(values_, pending, node.inputs[0]));
    KERF_TRY(add_operand(values_, pending, node.inputs[1]));
    PointStage stage;
    stage.op = *binary_op(node, false);
    stage.operand = 1;
    pending.stages.push_back(stage);
    return {};
  }

  Result<void> finish_pointwise(const Chain& chain, std::size_t first_link, PendingPointwise pending, const std::string& name) {
    for (std::size_t i = first_link; i < chain.links.size(); ++i) {
      PointStage stage = chain.links[i].stage;
      if (!chain.links[i].other.empty()) {
        KERF_TRY(add_operand(values_, pending, chain.links[i].other));
        stage.operand = static_cast<int>(pending.operands.size() - 1);
      }
      pending.stages.push_back(std::move(stage));
    }
    Numeric numeric;
    if (chain.quantize) {
      numeric = *chain.quantize;
    } else if (bf16_.takes(chain.output) &&
               std::any_of(pending.operands.begin(), pending.operands.end(), [](const auto& o) { return o.rep.numeric.dtype == DType::kBF16; })) {
      numeric.dtype = DType::kBF16;
    }
    KERF_ASSIGN(const Rep rep, emit_pointwise(values_, pending, numeric, name, graph_.nodes[chain.anchor].op));
    // Layers that count bits take the signs themselves.
    if (graph_.nodes[chain.anchor].op == "Sign") plan_.steps.back()->droppable = true;
    give(chain, rep);
    return {};
  }

  Result<void> lower_node(std::size_t i) {
    const Node& node = graph_.nodes[i];
    const std::string& op = node.op;
    if (op == "DequantizeLinear") return lower_dequantize(i);
    if (op == "QuantizeLinear") {
      const auto numeric = tensor_numeric(graph_, node);
      if (numeric && values_.info(node.inputs[0]).dtype == DType::kF32) {
        KERF_ASSIGN(Rep rep, values_.rounded_to(node.inputs[0], *numeric));
        rep.numeric = Numeric{numeric->dtype, 1.0F, 0};
        values_.set(node.outputs[0], rep);
        return {};
      }
      return lower_light_or_plain(i);
    }
    if (op == "DynamicQuantizeLinear") return lower_dynamic_quantize(i);
    bool lowered = false;
    if (op == "MaxPool" || op == "AveragePool" || op == "GlobalMaxPool") {
      KERF_ASSIGN(lowered, lower_pool(values_, node));
    } else if (op == "LpPool" || op == "GlobalLpPool") {
      KERF_ASSIGN(lowered, lower_lp_pool(values_, node));
    } else if (op == "GlobalAveragePool" || op == "ReduceMean") {
      KERF_ASSIGN(lowered, lower_mean_rounded(node));
    } else if (op == "Softmax" || op == "LogSoftmax") {
      KERF_ASSIGN(lowered, lower_rounding(node, [&](const Numeric& wanted) { return lower_softmax(values_, node, wanted); }));
    } else if (op == "MatMul") {
      const bool bf16 = bf16_.takes_part(node);
      KERF_ASSIGN(lowered, lower_rounding(node, [&](const Numeric& wanted) { return lower_matmul(values_, node, {bf16, wanted}); }));
    } else if (op == "Gemm") {
      KERF_ASSIGN(lowered, lower_gemm(values_, node));
    } else if (op == "Conv" || op == "ConvTranspose") {
      KERF_ASSIGN(lowered, lower_open_convolution(values_, node));
    } else if (op == "BatchNormalization") {
      KERF_ASSIGN(lowered, lower_batch_norm(values_, node, bf16_.takes(node.outputs[0])));
    } else {
      KERF_ASSIGN(lowered, lower_shaping(values_, node));
    }
    if (!lowered) {
      KERF_ASSIGN(lowered, lower_light(values_, node));
    }
    if (!lowered && (op == "Max" || op == "Min" || op == "Sum" || op == "Mean")) {
      KERF_ASSIGN(lowered, lower_variadic(values_, node));
    }
    if (lowered) return {};
    return lower_reference(values_, graph_.nodes[i]);
  }

  Result<void> lower_dequantize(std::size_t i) {
    const Node& node = graph_.nodes[i];
    if (graph_.constant(node.inputs[0]) != nullptr) {
      const auto& readers = links_.of(node.outputs[0]);
      const bool weights_only = !graph_.is_output(node.outputs[0]) && std::all_of(readers.begin(), readers.end(), [&](std::size_t r) {
        const Node& reader = graph_.nodes[r];
        return graph::is_layer(graph_, reader) && reader.inputs[1] == node.outputs[0] && reader.inputs[0] != node.outputs[0];
      });
      if (weights_only) return {};
      std::vector<Tensor> inputs;
      for (const std::string& input : node.inputs) {
        const Tensor* tensor = graph_.constant(input);
        if (!input.empty() && tensor == nullptr) return lower_light_or_plain(i);
        inputs.push_back(tensor != nullptr ? *tensor : Tensor());
      }
      KERF_ASSIGN(const std::vector<Tensor> results, evaluate(node, inputs));
      Rep rep;
      rep.slot = values_.constant_slot(results[0]);
      values_.set(node.outputs[0], rep);
      return {};
    }
    if (const auto made = dynamic_.find(node.inputs[0]); made != dynamic_.end() && node.has_input(2)) {
      const Node& source = graph_.nodes[made->second.node];
      if (node.inputs[1] == source.outputs[1] && node.inputs[2] == source.outputs[2]) {
        values_.set_dynamic(node.outputs[0], made->second.rep);
        return {};
      }
    }
    const auto numeric = tensor_numeric(graph_, node);
    if (!numeric) return lower_light_or_plain(i);
    KERF_ASSIGN(const Rep first, values_.first(node.inputs[0]));
    if (first.numeric.dtype != numeric->dtype) return lower_light_or_plain(i);
    const std::vector<Rep> reps = values_.all(node.inputs[0]);
    for (Rep rep : reps) {
      rep.numeric = *numeric;
      values_.set(node.outputs[0], rep);
    }
    return {};
  }

  Result<void> lower_dynamic_quantize(std::size_t i) {
    const Node& node = graph_.nodes[i];
    if (node.outputs.size() != 3 || std::any_of(node.outputs.begin(), node.outputs.end(), [](const auto& o) { return o.empty(); })) {
      return lower_reference(values_, graph_.nodes[i]);
    }
    KERF_ASSIGN(const Rep from, values_.as(node.inputs[0], DType::kF32, std::nullopt));
    Rep to = from;
    to.numeric = Numeric{DType::kU8, 1.0F, 0};
    to.slot = values_.new_slot(DType::kU8, values_.dims(from), from.layout);
    Rep scale;
    scale.slot = values_.new_slot(DType::kF32, {}, Layout::kPlain);
    Rep zero;
    zero.numeric.dtype = DType::kU8;
    zero.slot = values_.new_slot(DType::kU8, {}, Layout::kPlain);
    DynamicQuantize how;
    how.from = from.slot;
    how.to = to.slot;
    how.scale = scale.slot;
    how.zero = zero.slot;
    how.zero_s32 = values_.new_slot(DType::kS32, {1}, Layout::kPlain);
    how.elements = *graph::element_count(values_.dims(from));
    how.threads = values_.threads();
    values_.emit(make_dynamic_quantize(how), node.name, node.op, executes_as(to.numeric));
    values_.set(node.outputs[0], to);
    values_.set(node.outputs[1], scale);
    values_.set(node.outputs[2], zero);
    dynamic_[node.outputs[0]] = {i, {to, scale.slot, how.zero_s32}};
    return {};
  }

  /// The QuantizeLinear that alone reads the value, if its parameters are plain.
  [[nodiscard]] std::optional<std::pair<std::size_t, Numeric>> sole_quantize(const std::string& value) const {
    const auto& readers = links_.of(value);
    if (readers.size() != 1 || graph_.is_output(value)) return std::nullopt;
    const Node& node = graph_.nodes[readers[0]];
    if (node.op != "QuantizeLinear" || node.inputs[0] != value) return std::nullopt;
    const auto numeric = tensor_numeric(graph_, node);
    if (!numeric) return std::nullopt;
    return std::make_pair(readers[0], *numeric);
  }

  /// A node that may give bytes for the QuantizeLinear after it, or bf16 where that is read.
  template <class F>
  Result<bool> lower_rounding(const Node& node, F&& lower) {
    if (const auto quantize = sole_quantize(node.outputs[0])) {
      KERF_ASSIGN(const bool rounded, lower(quantize->second));
      if (rounded) {
        done_[quantize->first] = true;
        Rep rep = values_.all(node.outputs[0]).back();
        rep.numeric = Numeric{rep.numeric.dtype, 1.0F, 0};
        values_.set(graph_.nodes[quantize->first].outputs[0], rep);
        return true;
      }
    }
    if (bf16_.takes(node.outputs[0])) {
      KERF_ASSIGN(const bool narrow, lower(Numeric{DType::kBF16, 1.0F, 0}));
      if (narrow) return true;
    }
    return lower(Numeric{});
  }

  /// With the QuantizeLinear that alone reads it.
  Result<bool> lower_mean_rounded(const Node& node) {
    const auto quantize = sole_quantize(node.outputs[0]);
    KERF_ASSIGN(const bool lowered, lower_mean(values_, node, quantize ? std::optional(quantize->second) : std::nullopt));
    if (lowered && quantize) {
      done_[quantize->first] = true;
      Rep rep = values_.all(node.outputs[0]).back();
      rep.numeric = Numeric{rep.numeric.dtype, 1.0F, 0};
      values_.set(graph_.nodes[quantize->first].outputs[0], rep);
    }
    return lowered;
  }

  Result<void> lower_light_or_plain(std::size_t i) {
    KERF_ASSIGN(const bool lowered, lower_light(values_, graph_.nodes[i]));
    if (lowered) return {};
    return lower_reference(values_, graph_.nodes[i]);
  }

  const Graph& graph_;
  graph::Links links_;
  Chains chains_;
  Plan plan_;
  Values values_;
  std::vector<bool> done_;
  Bf16Flow bf16_;
  struct Dynamic {
    std::size_t node;
    DynamicRep rep;
  };
  std::map<std::string, Dynamic> dynamic_;  ///< What each DynamicQuantizeLinear made.
};

}  // namespace

Result<Plan> lower(const Graph& graph, int threads, bool timed) {
  try {
    return Lowering(graph, threads, timed).run();
  } catch (const std::length_error& error) {
    return Error{ErrorCode::kResourceExhausted, std::string("the model's values don't fit memory: ") + error.what()};
  }
}

}  // namespace kerf::engine
