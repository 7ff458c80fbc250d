// TopK and CumSum.
#include "workers/engine/kernels/ordering.h"

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

Result<bool> top(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const DType dtype = values.info(node.inputs[0]).dtype;
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), shape.size());
  const auto k = constant_integers(values, node, 1);
  if (axis < 0 || !k || k->size() != 1 || (dtype != DType::kF32 && dtype != DType::kS32)) return false;
  const AxisSplit split = split_at(shape, static_cast<std::size_t>(axis));
  if ((*k)[0] < 1 || (*k)[0] > split.extent || split.extent > (1LL << 31) || node.outputs.size() != 2) return false;
  const TopK what{split.outer, split.extent, split.inner, (*k)[0], node.integer("largest", 1) != 0, values.threads()};
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  // Both are made, whether or not somebody reads them.
  SlotId outputs[2];
  for (std::size_t i = 0; i < 2; ++i) {
    outputs[i] = node.outputs[i].empty()
                     ? values.new_slot(i == 0 ? dtype : DType::kS64, values.info(node.outputs[1 - i]).shape, Layout::kPlain)
                     : make_output(values, node, i);
  }
  values.emit(make_call("kerf:top_k", {x.slot}, {outputs[0], outputs[1]},
                        [what, dtype, from = x.slot, v = outputs[0], i = outputs[1]](Pointers p, std::byte* scratch) {
                          if (dtype == DType::kF32) top_k(what, at<const float>(p, from), at<float>(p, v), at<std::int64_t>(p, i), scratch);
                          else top_k(what, at<const std::int32_t>(p, from), at<std::int32_t>(p, v), at<std::int64_t>(p, i), scratch);
                        },
                        what.scratch_bytes() * values.threads()),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

Result<bool> sums(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const DType dtype = values.info(node.inputs[0]).dtype;
  const auto list = constant_integers(values, node, 1);
  if (!list || list->size() != 1 || (dtype != DType::kF32 && dtype != DType::kS32 && dtype != DType::kS64)) return false;
  const std::int64_t axis = normalized_axis((*list)[0], shape.size());
  if (axis < 0) return false;
  const AxisSplit split = split_at(shape, static_cast<std::size_t>(axis));
  const RunningSum what{split.outer, split.extent, split.inner, node.integer("exclusive", 0) != 0, node.integer("reverse", 0) != 0};
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  const SlotId y = make_output(values, node);
  values.emit(make_call("kerf:running_sum", {x.slot}, {y},
                        [what, dtype, from = x.slot, y](Pointers p, std::byte*) {
                          if (dtype == DType::kF32) running_sum(what, at<const float>(p, from), at<float>(p, y));
                          else if (dtype == DType::kS32) running_sum(what, at<const std::int32_t>(p, from), at<std::int32_t>(p, y));
                          else running_sum(what, at<const std::int64_t>(p, from), at<std::int64_t>(p, y));
                        }),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

}  // namespace

Result<bool> lower_ordering(Values& values, const Node& node) {
  if ((node.op != "TopK" && node.op != "CumSum") || !has_full_inputs(values, node)) return false;
  return node.op == "TopK" ? top(values, node) : sums(values, node);
}

}  // namespace kerf::engine
