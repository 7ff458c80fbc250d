#include "workers/engine/lowering/pointwise_step.h"

#include <algorithm>

namespace kerf::engine {

using graph::DType;
using graph::Shape;

namespace {

std::vector<std::uint8_t> table_of(Pointwise pointwise) {
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

bool is_constant(Values& values, const Rep& rep) {
  return values.plan().slots[static_cast<std::size_t>(values.plan().root(rep.slot))].constant != nullptr;
}

}  // namespace

Result<void> add_operand(Values& values, PendingPointwise& pending, const std::string& value) {
  KERF_ASSIGN(const Rep rep, values.first(value));
  pending.names.resize(pending.operands.size());
  pending.operands.push_back({rep, values.dims(rep)});
  pending.names.push_back(value);
  return {};
}

Result<Rep> emit_pointwise(Values& values, PendingPointwise& pending, const Numeric& numeric, const std::string& name, const std::string& op) {
  pending.names.resize(pending.operands.size());
  const std::int64_t elements = *graph::element_count(pending.shape);
  // The layout of the first operand that has the whole shape and a layout of its own.
  Rep out;
  out.numeric = numeric;
  std::size_t whole = 0;
  for (PendingPointwise::Operand& operand : pending.operands) {
    if (operand.shape == pending.shape && !is_constant(values, operand.rep)) ++whole;
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
  out.slot = values.new_slot(numeric.dtype, pending.shape, out.layout);
  Pointwise pointwise;
  pointwise.output = out.slot;
  pointwise.output_numeric = numeric;
  pointwise.threads = values.threads();
  const std::vector<std::size_t> order = memory_order(pending.shape.size(), out.layout);
  for (const std::size_t axis : order) pointwise.dims.push_back(pending.shape[axis]);
  for (std::size_t k = 0; k < pending.operands.size(); ++k) {
    PendingPointwise::Operand& operand = pending.operands[k];
    const bool linear = alone && k == 0 && operand.shape == pending.shape;
    if (!linear && operand.rep.numeric.dtype != DType::kF32 && operand.rep.numeric.dtype != DType::kBF16 &&
        operand.rep.numeric.dtype != DType::kU8 && operand.rep.numeric.dtype != DType::kS8) {
      return Error{ErrorCode::kUnimplemented, "node '" + name + "': operand of type " + std::string(graph::to_string(operand.rep.numeric.dtype))};
    }
    if (!linear) {
      if (!operand.rep.folded.empty()) operand.rep = values.in_layout(pending.names[k], operand.rep, Layout::kPlain, !pending.names[k].empty());
      if (operand.shape == pending.shape) operand.rep = values.in_layout(pending.names[k], operand.rep, out.layout, !pending.names[k].empty());
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
    values.emit(make_lookup(pointwise.operands[0].slot, out.slot, elements, table_of(pointwise), values.threads()), name, op, executes_as(numeric));
    return out;
  }
  Numeric shown = numeric;
  if (is_byte(numeric) && !std::all_of(pointwise.operands.begin(), pointwise.operands.end(), [&](const auto& o) { return is_byte(o.numeric); })) {
    shown.dtype = DType::kF32;
  }
  values.emit(make_pointwise(std::move(pointwise)), name, op, executes_as(shown));
  return out;
}

}  // namespace kerf::engine
