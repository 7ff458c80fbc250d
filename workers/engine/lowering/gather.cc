// Gather by indices that are only there at run time (or by many), GatherElements, GatherND.
#include "workers/engine/kernels/gather.h"

#include <stdexcept>

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

bool is_index(DType dtype) { return dtype == DType::kS64 || dtype == DType::kS32; }

void check(bool fits, const std::string& label) {
  if (!fits) throw std::runtime_error("node " + label + ": index outside the axis");
}

/// A step that calls `gather` (a kernel of kernels/gather.h) with the data and the indices of a node.
template <class Gather>
void emit_gather(Values& values, const Node& node, const Rep& x, const Rep& i, Gather gather) {
  const bool wide = values.info(node.inputs[1]).dtype == DType::kS64;
  const SlotId y = make_output(values, node);
  values.emit(make_call("kerf:gather", {x.slot, i.slot}, {y},
                        [gather, wide, from = x.slot, index = i.slot, y, label = node.label()](Pointers p, std::byte*) {
                          check(gather(p[from], {p[index], wide}, p[y]), label);
                        }),
              node.name, node.op, std::string(graph::to_string(values.info(node.outputs[0]).dtype)));
}

Result<bool> rows(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), shape.size());
  const graph::ValueInfo& indices = values.info(node.inputs[1]);
  if (axis < 0 || !is_index(indices.dtype)) return false;
  const AxisSplit split = split_at(shape, static_cast<std::size_t>(axis));
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep i, plain_input(values, node.inputs[1]));
  const auto size = static_cast<std::int64_t>(graph::element_size(values.info(node.inputs[0]).dtype));
  const RowGather what{split.outer, split.extent, *graph::element_count(indices.shape), split.inner * size, values.threads()};
  emit_gather(values, node, x, i, [what](const std::byte* from, const Indices& at, std::byte* to) {
    return gather_rows(what, from, at, to);
  });
  return true;
}

Result<bool> elements(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const graph::ValueInfo& indices = values.info(node.inputs[1]);
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), shape.size());
  if (axis < 0 || !is_index(indices.dtype) || indices.shape.size() != shape.size()) return false;
  const auto along = static_cast<std::size_t>(axis);
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (d != along && shape[d] != indices.shape[d]) return false;
  }
  const AxisSplit split = split_at(shape, along);
  const ElementGather what{split.outer, split.extent, indices.shape[along], split.inner, graph::element_size(values.info(node.inputs[0]).dtype)};
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep i, plain_input(values, node.inputs[1]));
  emit_gather(values, node, x, i, [what](const std::byte* from, const Indices& at, std::byte* to) {
    return gather_elements(what, from, at, to);
  });
  return true;
}

Result<bool> tuples(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const graph::ValueInfo& indices = values.info(node.inputs[1]);
  const std::int64_t batch = node.integer("batch_dims", 0);
  if (!is_index(indices.dtype) || indices.shape.empty() || batch < 0 || batch >= static_cast<std::int64_t>(indices.shape.size())) return false;
  const std::int64_t depth = indices.shape.back();
  if (depth < 1 || depth > 8 || depth > static_cast<std::int64_t>(shape.size()) - batch) return false;
  const auto first = static_cast<std::size_t>(batch);
  for (std::size_t d = 0; d < first; ++d) {
    if (shape[d] != indices.shape[d]) return false;
  }
  const auto size = static_cast<std::int64_t>(graph::element_size(values.info(node.inputs[0]).dtype));
  const Shape strides = row_major_strides(shape);
  TupleRows what;
  what.depth = static_cast<std::size_t>(depth);
  what.tuples = *graph::element_count(indices.shape) / depth;
  for (std::size_t d = first; d + 1 < indices.shape.size(); ++d) what.each *= indices.shape[d];
  what.part = first == 0 ? 0 : strides[first - 1] * size;
  for (std::size_t d = 0; d < what.depth; ++d) {
    what.extents[d] = shape[first + d];
    what.strides[d] = strides[first + d] * size;
  }
  what.run = strides[first + what.depth - 1] * size;
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep i, plain_input(values, node.inputs[1]));
  emit_gather(values, node, x, i, [what](const std::byte* from, const Indices& at, std::byte* to) {
    return gather_tuples(what, from, at, to);
  });
  return true;
}

}  // namespace

Result<bool> lower_gather(Values& values, const Node& node) {
  const bool known = node.op == "Gather" || node.op == "GatherElements" || node.op == "GatherND";
  if (!known || !has_full_inputs(values, node)) return false;
  if (node.op == "Gather") return rows(values, node);
  return node.op == "GatherElements" ? elements(values, node) : tuples(values, node);
}

}  // namespace kerf::engine
