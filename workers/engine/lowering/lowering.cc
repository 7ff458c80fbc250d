#include "workers/engine/lowering/lowering.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/dynamic.h"
#include "workers/engine/lowering/chains.h"
#include "workers/engine/lowering/layers.h"
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

/// Runs a node by its reference kernel. The one step that allocates while it runs.
class ReferenceStep final : public Step {
 public:
  ReferenceStep(Node node, std::vector<Tensor> inputs, std::vector<SlotId> input_slots, std::vector<SlotId> output_slots,
                std::vector<std::pair<DType, Shape>> types)
      : node_(std::move(node)), inputs_(std::move(inputs)), slots_(std::move(input_slots)), types_(std::move(types)) {
    for (const SlotId slot : slots_) {
      if (slot >= 0) reads.push_back(slot);
    }
    writes = std::move(output_slots);
    info.kernel = "kerf:reference";
  }

  void run(Pointers pointers) override {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i] >= 0 && inputs_[i].bytes() > 0) std::memcpy(inputs_[i].mutable_raw(), pointers[slots_[i]], inputs_[i].bytes());
    }
    const auto results = evaluate(node_, inputs_);
    if (!results.has_value()) throw std::runtime_error(results.error().message);
    std::size_t written = 0;
    for (std::size_t i = 0; i < node_.outputs.size(); ++i) {
      if (node_.outputs[i].empty()) continue;
      const Tensor& result = results->at(i);
      // The slot has the inferred shape; a kernel that disagrees must not write past it.
      if (result.dtype() != types_[written].first || result.shape() != types_[written].second) {
        throw std::runtime_error("node " + node_.label() + ": gives " + std::string(graph::to_string(result.dtype())) + " " +
                                 graph::to_string(result.shape()) + ", inferred was " +
                                 std::string(graph::to_string(types_[written].first)) + " " + graph::to_string(types_[written].second));
      }
      if (result.bytes() > 0) std::memcpy(pointers[writes[written]], result.raw(), result.bytes());
      ++written;
    }
  }

 private:
  Node node_;
  std::vector<Tensor> inputs_;
  std::vector<SlotId> slots_;
  std::vector<std::pair<DType, Shape>> types_;  ///< Of the outputs that have names.
};

class Lowering {
 public:
  Lowering(const Graph& graph, int threads)
      : graph_(graph), links_(graph), chains_(find_chains(graph)), values_(graph, plan_, threads), done_(graph.nodes.size(), false) {}

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
    void run(Pointers pointers) override { std::memcpy(pointers[writes[0]], pointers[reads[0]], bytes_); }

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
      Pending pending;
      KERF_TRY(begin_pointwise(anchor, pending));
      return finish_pointwise(chain, 0, std::move(pending), graph_.nodes[chain.last].name);
    }
    KERF_ASSIGN(const auto outcome, lower_layer(values_, chain, takes_bf16(chain.output)));
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
      KERF_TRY(lower_reference(chain.anchor));
      if (chain.last == chain.anchor) return {};
      KERF_ASSIGN(rep, values_.first(anchor.outputs[0]));
    }
    Pending pending;
    pending.shape = values_.dims(rep);
    pending.operands.push_back({rep, pending.shape});
    return finish_pointwise(chain, links, std::move(pending), graph_.nodes[chain.last].name);
  }

  /// A pointwise step under construction.
  struct Pending {
    struct Operand {
      Rep rep;
      Shape shape;
    };
    Shape shape;
    std::vector<Operand> operands;
    std::vector<PointStage> stages;
    std::vector<std::string> names;  ///< Of the operands; "" for one that no value is.
  };

  Result<void> add_operand(Pending& pending, const std::string& value) {
    KERF_ASSIGN(const Rep rep, values_.first(value));
    pending.names.resize(pending.operands.size());
    pending.operands.push_back({rep, values_.dims(rep)});
    pending.names.push_back(value);
    return {};
  }

  Result<void> begin_pointwise(const Node& node, Pending& pending) {
    pending.shape = values_.info(node.outputs[0]).shape;
    if (const auto stage = unary_stage(graph_, node)) {
      // Of two inputs the one that isn't the scalar is the data.
      const bool second = node.inputs.size() == 2 && node.op != "Clip" && graph_.constant(node.inputs[0]) != nullptr;
      KERF_TRY(add_operand(pending, node.inputs[second ? 1 : 0]));
      pending.stages.push_back(*stage);
      return {};
    }
    KERF_TRY(add_operand(pending, node.inputs[0]));
    KERF_TRY(add_operand(pending, node.inputs[1]));
    PointStage stage;
    stage.op = *binary_op(node, false);
    stage.operand = 1;
    pending.stages.push_back(stage);
    return {};
  }

  Result<void> finish_pointwise(const Chain& chain, std::size_t first_link, Pending pending, const std::string& name) {
    for (std::size_t i = first_link; i < chain.links.size(); ++i) {
      PointStage stage = chain.links[i].stage;
      if (!chain.links[i].other.empty()) {
        KERF_TRY(add_operand(pending, chain.links[i].other));
        stage.operand = static_cast<int>(pending.operands.size() - 1);
      }
      pending.stages.push_back(std::move(stage));
    }
    Numeric numeric;
    if (chain.quantize) {
      numeric = *chain.quantize;
    } else if (takes_bf16(chain.output) &&
               std::any_of(pending.operands.begin(), pending.operands.end(), [](const auto& o) { return o.rep.numeric.dtype == DType::kBF16; })) {
      numeric.dtype = DType::kBF16;
    }
    KERF_ASSIGN(const Rep rep, emit_pointwise(pending, numeric, name, graph_.nodes[chain.anchor].op));
    give(chain, rep);
    return {};
  }

  Result<Rep> emit_pointwise(Pending& pending, const Numeric& numeric, const std::string& name, const std::string& op) {
    pending.names.resize(pending.operands.size());
    const std::int64_t elements = *graph::element_count(pending.shape);
    // The layout of the first operand that has the whole shape and a layout of its own.
    Rep out;
    out.numeric = numeric;
    std::size_t whole = 0;
    for (Pending::Operand& operand : pending.operands) {
      if (operand.shape == pending.shape && !is_constant(operand.rep)) ++whole;
      if (operand.shape == pending.shape && operand.rep.layout == Layout::kChannelsLast && !layouts_coincide(operand.shape)) {
        out.layout = Layout::kChannelsLast;
      }
    }
    const bool alone = pending.operands.size() == 1 ||
                       (whole == 1 && std::all_of(pending.operands.begin() + 1, pending.operands.end(), [](const auto& o) {
                          return graph::element_count(o.shape) == 1;
                        }));
    if (alone && pending.operands[0].shape == pending.shape) {
      out.folded = pending.operands[0].rep.folded;
      out.layout = pending.operands[0].rep.layout;
    }
    out.slot = values_.new_slot(numeric.dtype, pending.shape, out.layout);
    Pointwise pointwise;
    pointwise.output = out.slot;
    pointwise.output_numeric = numeric;
    pointwise.threads = values_.threads();
    const std::vector<std::size_t> order = memory_order(pending.shape.size(), out.layout);
    for (const std::size_t axis : order) pointwise.dims.push_back(pending.shape[axis]);
    for (std::size_t k = 0; k < pending.operands.size(); ++k) {
      Pending::Operand& operand = pending.operands[k];
      const bool linear = alone && k == 0 && operand.shape == pending.shape;
      if (!linear && operand.rep.numeric.dtype != DType::kF32 && operand.rep.numeric.dtype != DType::kBF16 &&
          operand.rep.numeric.dtype != DType::kU8 && operand.rep.numeric.dtype != DType::kS8) {
        return Error{ErrorCode::kUnimplemented, "node '" + name + "': operand of type " + std::string(graph::to_string(operand.rep.numeric.dtype))};
      }
      if (!linear) {
        if (!operand.rep.folded.empty()) operand.rep = values_.in_layout(pending.names[k], operand.rep, Layout::kPlain, !pending.names[k].empty());
        if (operand.shape == pending.shape) operand.rep = values_.in_layout(pending.names[k], operand.rep, out.layout, !pending.names[k].empty());
      }
      const Shape own = layout_strides(operand.shape, operand.rep.layout);
      Shape aligned(pending.shape.size(), 0);
      for (std::size_t axis = 0; axis < operand.shape.size(); ++axis) {
        aligned[pending.shape.size() - operand.shape.size() + axis] = operand.shape[axis] == 1 ? 0 : own[axis];
      }
      Shape strides;
      for (const std::size_t axis : order) strides.push_back(aligned[axis]);
      pointwise.operands.push_back({operand.rep.slot, operand.rep.numeric, std::move(strides)});
    }
    pointwise.stages = std::move(pending.stages);
    const auto is_byte = [](const Numeric& n) { return n.dtype == DType::kU8 || n.dtype == DType::kS8; };
    if (pointwise.operands.size() == 1 && is_byte(numeric) && is_byte(pointwise.operands[0].numeric)) {
      values_.emit(make_lookup(pointwise.operands[0].slot, out.slot, elements, table_of(pointwise), values_.threads()), name, op, executes_as(numeric));
      return out;
    }
    Numeric shown = numeric;
    if (is_byte(numeric) && !std::all_of(pointwise.operands.begin(), pointwise.operands.end(), [&](const auto& o) { return is_byte(o.numeric); })) {
      shown.dtype = DType::kF32;
    }
    values_.emit(make_pointwise(std::move(pointwise)), name, op, executes_as(shown));
    return out;
  }

  static std::vector<std::uint8_t> table_of(Pointwise pointwise) {
    std::vector<std::uint8_t> bytes(256);
    for (std::size_t i = 0; i < 256; ++i) bytes[i] = static_cast<std::uint8_t>(i);
    std::vector<std::uint8_t> table(256);
    pointwise.dims = {256};
    pointwise.operands[0].slot = 0;
    pointwise.operands[0].strides = {1};
    pointwise.output = 1;
    std::byte* pointers[2] = {reinterpret_cast<std::byte*>(bytes.data()), reinterpret_cast<std::byte*>(table.data())};
    make_pointwise(std::move(pointwise))->run(pointers);
    return table;
  }

  [[nodiscard]] bool is_constant(const Rep& rep) const {
    return plan_.slots[static_cast<std::size_t>(plan_.root(rep.slot))].constant != nullptr;
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
      return lower_reference(i);
    }
    if (op == "DynamicQuantizeLinear") return lower_dynamic_quantize(i);
    bool lowered = false;
    if (op == "MaxPool" || op == "AveragePool" || op == "GlobalMaxPool") {
      KERF_ASSIGN(lowered, lower_pool(values_, node));
    } else if (op == "GlobalAveragePool" || op == "ReduceMean") {
      KERF_ASSIGN(lowered, lower_mean(i));
    } else if (op == "Softmax" || op == "LogSoftmax") {
      KERF_ASSIGN(lowered, lower_softmax(values_, node));
    } else if (op == "MatMul") {
      KERF_ASSIGN(lowered, lower_matmul(values_, node));
    } else if (op == "BatchNormalization") {
      KERF_ASSIGN(lowered, lower_batch_norm(node));
    } else {
      KERF_ASSIGN(lowered, lower_shaping(values_, node));
    }
    if (lowered) return {};
    return lower_reference(i);
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
        if (!input.empty() && tensor == nullptr) return lower_reference(i);
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
    if (!numeric) return lower_reference(i);
    KERF_ASSIGN(const Rep first, values_.first(node.inputs[0]));
    if (first.numeric.dtype != numeric->dtype) return lower_reference(i);
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
    Pending pending;
    pending.shape = info.shape;
    KERF_TRY(add_operand(pending, node.inputs[0]));
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
    if (pending.operands[0].rep.numeric.dtype == DType::kBF16 && takes_bf16(node.outputs[0])) numeric.dtype = DType::kBF16;
    KERF_ASSIGN(const Rep rep, emit_pointwise(pending, numeric, node.name, node.op));
    values_.set(node.outputs[0], rep);
    return true;
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
    auto step = std::make_unique<ReferenceStep>(node, std::move(inputs), std::move(slots), std::move(outputs), std::move(types));
    step->info.is_layer = layer;
    values_.emit(std::move(step), node.name, node.op, "f32 (reference)");
    return {};
  }

  /// Whether all that read the value, and what they give where they only pass it on, take bf16.
  bool takes_bf16(const std::string& value) {
    if (graph_.is_output(value)) return false;
    if (const auto found = bf16_.find(value); found != bf16_.end()) return found->second;
    bf16_[value] = false;
    const auto& readers = links_.of(value);
    bool all = !readers.empty();
    for (const std::size_t r : readers) {
      const Node& reader = graph_.nodes[r];
      const std::string& op = reader.op;
      if (graph::is_layer(graph_, reader)) {
        all = all && reader.inputs[0] == value && reader.text("kerf_precision", "") == "bf16";
      } else if (op == "GlobalAveragePool") {
        continue;
      } else if (op == "MaxPool" || op == "AveragePool" || op == "Relu" || op == "Clip" || op == "LeakyRelu" || op == "Add" ||
                 op == "Mul" || op == "Sigmoid" || op == "HardSwish" || op == "kerf_Swish" || op == "Concat" || op == "Reshape" ||
                 op == "Flatten" || op == "Transpose" || op == "Squeeze" || op == "Unsqueeze" || op == "BatchNormalization") {
        all = all && takes_bf16(reader.outputs[0]);
      } else {
        all = false;
      }
    }
    bf16_[value] = all;
    return all;
  }

  const Graph& graph_;
  graph::Links links_;
  Chains chains_;
  Plan plan_;
  Values values_;
  std::vector<bool> done_;
  std::map<std::string, bool> bf16_;
  struct Dynamic {
    std::size_t node;
    DynamicRep rep;
  };
  std::map<std::string, Dynamic> dynamic_;  ///< What each DynamicQuantizeLinear made.
};

}  // namespace

Result<Plan> lower(const Graph& graph, int threads) {
  try {
    return Lowering(graph, threads).run();
  } catch (const std::length_error& error) {
    return Error{ErrorCode::kResourceExhausted, std::string("the model's values don't fit memory: ") + error.what()};
  }
}

}  // namespace kerf::engine
