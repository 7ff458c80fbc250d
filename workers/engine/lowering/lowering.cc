#include "workers/engine/lowering/lowering.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/dynamic.h"
#include "workers/engine/lowering/bf16_flow.h"
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
    KERF_TRY(add_inputs());
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (done_[i] || chains_.member[i]) continue;
      if (chains_.ending_at[i]) {
        KERF_TRY(lower_chain(*chains_.ending_at[i]));
      } else {
        KERF_TRY(lower_node(i));
      }
    }
    KERF_TRY(add_outputs());
    return std::move(plan_);
  }

 private:
  Result<void> add_inputs() {
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      const graph::ValueInfo& input = graph_.inputs[i];
      if (!graph::element_count(input.shape)) {
        return Error{ErrorCode::kFailedPrecondition, "graph input '" + input.name + "' has the shape " + graph::to_string(input.shape) + ", which isn't static"};
      }
      Rep rep;
      rep.numeric.dtype = input.dtype;
      rep.slot = values_.new_slot(input.dtype, input.shape, Layout::kPlain);
      plan_.slots[static_cast<std::size_t>(rep.slot)].external_input = static_cast<int>(i);
      values_.set(input.name, rep);
      plan_.inputs.push_back(input);
    }
    return {};
  }

  Result<void> add_outputs() {
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
      const graph::ValueInfo* info = graph_.value(graph_.outputs[i].name);
      const std::string& name = graph_.outputs[i].name;
      if (!values_.known(name)) return Error{ErrorCode::kInternal, "graph output '" + name + "' was not made"};
      KERF_ASSIGN(Rep rep, values_.first(name));
      if (info == nullptr || info->dtype == DType::kF32) {
        KERF_ASSIGN(rep, values_.as(name, DType::kF32, Layout::kPlain));
      }
      rep = values_.in_layout(name, rep, Layout::kPlain);
      SlotId root = plan_.root(rep.slot);
      const Slot& at = plan_.slots[static_cast<std::size_t>(root)];
      if (at.constant != nullptr || at.external_input >= 0 || at.external_output >= 0) {
        const SlotId copy = values_.new_slot(rep.numeric.dtype, values_.dims(rep), Layout::kPlain);
        auto step = std::make_unique<CopyOut>(rep.slot, copy, static_cast<std::size_t>(plan_.slots[static_cast<std::size_t>(copy)].bytes));
        step->info.kernel = "kerf:copy";
        values_.emit(std::move(step), name, "copy", executes_as(rep.numeric));
        root = copy;
      }
      plan_.slots[static_cast<std::size_t>(root)].external_output = static_cast<int>(i);
      plan_.output_slots.push_back(root);
      plan_.outputs.push_back({name, rep.numeric.dtype, values_.dims(rep)});
    }
    return {};
  }

  class CopyOut final : public Step {
   public:
    CopyOut(SlotId from, SlotId to, std::size_t bytes) : bytes_(bytes) {
      reads = {from};
      writes = {to};
    }
    void run(Pointers pointers) override { std::copy_n(pointers[reads[0]], bytes_, pointers[writes[0]]); }

   private:
    std::size_t bytes_;
  };

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
        KERF_TRY(lower_reference(chain.anchor));
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
      KERF_ASSIGN(lowered, lower_mean(i));
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
      KERF_ASSIGN(lowered, lower_batch_norm(node));
    } else {
      KERF_ASSIGN(lowered, lower_shaping(values_, node));
    }
    if (!lowered) {
      KERF_ASSIGN(lowered, lower_light(values_, node));
    }
    if (!lowered && (op == "Max" || op == "Min" || op == "Sum" || op == "Mean")) {
      KERF_ASSIGN(lowered, lower_variadic(node));
    }
    if (lowered) return {};
    return lower_reference(i);
  }

  /// Max, Min, Sum and Mean of any number of floats: one pass over all of them.
  Result<bool> lower_variadic(const Node& node) {
    const bool mean = node.op == "Mean";
    const auto op = mean ? PointOp::kAdd : binary_op(node, false);
    if (!op || node.op == "PRelu" || node.inputs.size() > 16 || values_.info(node.outputs[0]).dtype != DType::kF32) return false;
    PendingPointwise pending;
    pending.shape = values_.info(node.outputs[0]).shape;
    if (graph::element_count(pending.shape).value_or(0) == 0) return false;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (values_.info(node.inputs[k]).dtype != DType::kF32) return false;
      KERF_TRY(add_operand(values_, pending, node.inputs[k]));
      PointStage stage;
      stage.op = *op;
      stage.operand = static_cast<int>(k);
      if (k > 0) pending.stages.push_back(stage);
    }
    if (mean) {
      PointStage stage;
      stage.op = PointOp::kBlock;
      stage.block = vector::divide_by;
      stage.alpha = static_cast<float>(node.inputs.size());
      pending.stages.push_back(stage);
    }
    KERF_ASSIGN(const Rep rep, emit_pointwise(values_, pending, Numeric{}, node.name, node.op));
    values_.set(node.outputs[0], rep);
    return true;
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
      return lower_reference(i);
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

  Result<bool> lower_mean(std::size_t i) {
    const Node& node = graph_.nodes[i];
    const graph::ValueInfo& info = values_.info(node.inputs[0]);
    if (info.dtype != DType::kF32 || info.shape.size() < 3) return false;
    if (node.op == "ReduceMean") {
      std::vector<std::int64_t> axes = node.integers("axes");
      if (node.has_input(1)) {
        const Tensor* tensor = graph_.constant(node.inputs[1]);
        if (tensor == nullptr) return false;
        axes = tensor->to_integers();
      }
      for (std::int64_t& axis : axes) axis = normalized_axis(axis, info.shape.size());
      std::sort(axes.begin(), axes.end());
      if (axes.size() != info.shape.size() - 2) return false;
      for (std::size_t k = 0; k < axes.size(); ++k) {
        if (axes[k] != static_cast<std::int64_t>(k) + 2) return false;
      }
    }
    KERF_ASSIGN(Rep rep, values_.first(node.inputs[0]));
    rep = values_.in_layout(node.inputs[0], rep, Layout::kChannelsLast);
    RowReduction mean;
    mean.from = rep.slot;
    mean.from_numeric = rep.numeric;
    mean.batch = info.shape[0];
    mean.channels = info.shape[1];
    mean.rows = 1;
    for (std::size_t k = 2; k < info.shape.size(); ++k) mean.rows *= info.shape[k];
    if (mean.batch * mean.channels * mean.rows == 0) return false;
    const auto quantize = sole_quantize(node.outputs[0]);
    if (quantize) mean.to_numeric = quantize->second;
    Rep out;
    out.numeric = mean.to_numeric;
    out.slot = mean.to = values_.new_slot(mean.to_numeric.dtype, values_.info(node.outputs[0]).shape, Layout::kPlain);
    mean.threads = values_.threads();
    values_.emit(make_row_mean(mean), node.name, node.op, executes_as(rep.numeric));
    if (quantize) {
      done_[quantize->first] = true;
      out.numeric = Numeric{out.numeric.dtype, 1.0F, 0};
      values_.set(graph_.nodes[quantize->first].outputs[0], out);
    } else {
      values_.set(node.outputs[0], out);
    }
    return true;
  }

  /// One that no layer took in: a factor and a shift for each channel.
  Result<bool> lower_batch_norm(const Node& node) {
    const graph::ValueInfo& info = values_.info(node.inputs[0]);
    if (node.outputs.size() != 1 || info.shape.size() < 2) return false;
    const Tensor* parts[4];
    for (std::size_t k = 0; k < 4; ++k) {
      parts[k] = graph_.constant(node.inputs[k + 1]);
      if (parts[k] == nullptr || parts[k]->dtype() != DType::kF32 || parts[k]->elements() != info.shape[1]) return false;
    }
    std::vector<float> factor;
    std::vector<float> shift;
    const auto epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
    for (std::size_t c = 0; c < static_cast<std::size_t>(info.shape[1]); ++c) {
      const auto p = [&](std::size_t k) { return static_cast<double>(parts[k]->as<float>()[c]); };
      const double f = p(0) / std::sqrt(p(3) + epsilon);
      factor.push_back(static_cast<float>(f));
      shift.push_back(static_cast<float>(p(1) - p(2) * f));
    }
    PendingPointwise pending;
    pending.shape = info.shape;
    KERF_TRY(add_operand(values_, pending, node.inputs[0]));
    Shape per_channel(info.shape.size() - 1, 1);
    per_channel[0] = info.shape[1];
    for (const auto& [op, numbers] : {std::pair(PointOp::kMultiply, &factor), std::pair(PointOp::kAdd, &shift)}) {
      Rep rep;
      rep.slot = values_.constant_slot(Tensor::f32(per_channel, *numbers));
      pending.operands.push_back({rep, per_channel});
      PointStage stage;
      stage.op = op;
      stage.operand = static_cast<int>(pending.operands.size() - 1);
      pending.stages.push_back(stage);
    }
    Numeric numeric;
    if (pending.operands[0].rep.numeric.dtype == DType::kBF16 && bf16_.takes(node.outputs[0])) numeric.dtype = DType::kBF16;
    KERF_ASSIGN(const Rep rep, emit_pointwise(values_, pending, numeric, node.name, node.op));
    values_.set(node.outputs[0], rep);
    return true;
  }

  Result<void> lower_light_or_plain(std::size_t i) {
    KERF_ASSIGN(const bool lowered, lower_light(values_, graph_.nodes[i]));
    if (lowered) return {};
    return lower_reference(i);
  }

  Result<void> lower_reference(std::size_t i) {
    const Node& node = graph_.nodes[i];
    if (!has_reference(node)) {
      return Error{ErrorCode::kUnimplemented, "node " + node.label() + ": no kernel for the op"};
    }
    std::vector<Tensor> inputs;
    std::vector<SlotId> slots;
    for (const std::string& input : node.inputs) {
      if (input.empty()) {
        inputs.emplace_back();
        slots.push_back(-1);
        continue;
      }
      if (const Tensor* constant = graph_.constant(input)) {
        inputs.push_back(*constant);
        slots.push_back(-1);
        continue;
      }
      if (!values_.known(input)) {
        // Weights behind a DequantizeLinear that only layers read.
        const Node* source = graph_.producer(input);
        if (source == nullptr || source->op != "DequantizeLinear") return Error{ErrorCode::kInternal, "value '" + input + "' isn't there yet"};
        KERF_ASSIGN(const LayerWeights weights, layer_weights(graph_, node));
        inputs.push_back(weights.real);
        slots.push_back(-1);
        continue;
      }
      const graph::ValueInfo& info = values_.info(input);
      KERF_ASSIGN(Rep rep, values_.first(input));
      if (info.dtype == DType::kF32) {
        KERF_ASSIGN(rep, values_.as(input, DType::kF32, Layout::kPlain));
      }
      rep = values_.in_layout(input, rep, Layout::kPlain);
      inputs.emplace_back(rep.numeric.dtype, values_.dims(rep));
      slots.push_back(rep.slot);
    }
    std::vector<SlotId> outputs;
    std::vector<std::pair<DType, Shape>> types;
    for (const std::string& output : node.outputs) {
      if (output.empty()) continue;
      const graph::ValueInfo* info = graph_.value(output);
      if (info == nullptr || !graph::element_count(info->shape)) {
        return Error{ErrorCode::kUnimplemented, "node " + node.label() + ": the shape of '" + output + "' depends on data"};
      }
      Rep rep;
      rep.numeric.dtype = info->dtype;
      rep.slot = values_.new_slot(info->dtype, info->shape, Layout::kPlain);
      outputs.push_back(rep.slot);
      types.emplace_back(info->dtype, info->shape);
      values_.set(output, rep);
    }
    const bool layer = graph::is_layer(graph_, node);
    auto step = make_reference_step(node, std::move(inputs), std::move(slots), std::move(outputs), std::move(types));
    step->info.is_layer = layer;
    values_.emit(std::move(step), node.name, node.op, "f32 (reference)");
    return {};
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
