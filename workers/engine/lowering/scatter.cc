// ScatterElements and ScatterND without a reduction, OneHot, Trilu.
#include <cstring>
#include <stdexcept>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/gather.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

Result<bool> scatter(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const graph::ValueInfo& indices = values.info(node.inputs[1]);
  const Shape& updates = values.info(node.inputs[2]).shape;
  const DType dtype = values.info(node.inputs[0]).dtype;
  if (node.text("reduction", "none") != "none" || values.info(node.inputs[2]).dtype != dtype) return false;
  if (indices.dtype != DType::kS64 && indices.dtype != DType::kS32) return false;
  const auto size = static_cast<std::int64_t>(graph::element_size(dtype));
  TupleRows tuples;
  ElementGather elements;
  const bool by_tuples = node.op == "ScatterND";
  if (by_tuples) {
    if (indices.shape.empty() || indices.shape.back() < 1 || indices.shape.back() > std::min<std::int64_t>(8, static_cast<std::int64_t>(shape.size()))) return false;
    tuples.depth = static_cast<std::size_t>(indices.shape.back());
    Shape wanted(indices.shape.begin(), indices.shape.end() - 1);
    wanted.insert(wanted.end(), shape.begin() + indices.shape.back(), shape.end());
    if (updates != wanted) return false;
    const Shape strides = row_major_strides(shape);
    tuples.tuples = tuples.each = *graph::element_count(indices.shape) / indices.shape.back();
    for (std::size_t d = 0; d < tuples.depth; ++d) {
      tuples.extents[d] = shape[d];
      tuples.strides[d] = strides[d] * size;
    }
    tuples.run = strides[tuples.depth - 1] * size;
  } else {
    const std::int64_t axis = normalized_axis(node.integer("axis", 0), shape.size());
    if (axis < 0 || indices.shape != updates || updates.size() != shape.size()) return false;
    const auto along = static_cast<std::size_t>(axis);
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (d != along && shape[d] != updates[d]) return false;
    }
    const AxisSplit split = split_at(shape, along);
    elements = {split.outer, split.extent, updates[along], split.inner, static_cast<std::size_t>(size)};
  }
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep i, plain_input(values, node.inputs[1]));
  KERF_ASSIGN(const Rep u, plain_input(values, node.inputs[2]));
  const bool wide = indices.dtype == DType::kS64;
  const auto bytes = static_cast<std::size_t>(*graph::element_count(shape) * size);
  const SlotId y = make_output(values, node);
  auto step = make_call("kerf:scatter", {x.slot, i.slot, u.slot}, {y},
                        [=, from = x.slot, index = i.slot, with = u.slot, label = node.label()](Pointers p, std::byte*) {
                          if (p[y] != p[from]) std::memcpy(p[y], p[from], bytes);
                          const Indices at{p[index], wide};
                          if (!(by_tuples ? scatter_tuples(tuples, p[with], at, p[y]) : scatter_elements(elements, p[with], at, p[y]))) {
                            throw std::runtime_error("node " + label + ": index outside the axis");
                          }
                        });
  if (x.slot != u.slot && x.slot != i.slot) step->in_place = x.slot;
  values.emit(std::move(step), node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

Result<bool> one_hot(Values& values, const Node& node) {
  const graph::ValueInfo& indices = values.info(node.inputs[0]);
  const Shape shape = values.info(node.outputs[0]).shape;
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), shape.size());
  if (axis < 0 || (indices.dtype != DType::kS64 && indices.dtype != DType::kS32)) return false;
  const AxisSplit split = split_at(shape, static_cast<std::size_t>(axis));
  KERF_ASSIGN(const Rep i, plain_input(values, node.inputs[0]));
  KERF_ASSIGN(const Rep v, plain_input(values, node.inputs[2]));
  const DType dtype = values.info(node.outputs[0]).dtype;
  const std::size_t size = graph::element_size(dtype);
  const bool wide = indices.dtype == DType::kS64;
  const SlotId y = make_output(values, node);
  values.emit(make_call("kerf:one_hot", {i.slot, v.slot}, {y},
                        [=, index = i.slot, pair = v.slot](Pointers p, std::byte*) {
                          const std::byte* off = p[pair];
                          std::byte* to = p[y];
                          const auto total = static_cast<std::size_t>(split.outer * split.extent * split.inner) * size;
                          // Doubling what is there already.
                          std::memcpy(to, off, size);
                          for (std::size_t have = size; have < total;) {
                            const std::size_t more = std::min(have, total - have);
                            std::memcpy(to + have, to, more);
                            have += more;
                          }
                          const Indices at{p[index], wide};
                          for (std::int64_t o = 0; o < split.outer; ++o) {
                            for (std::int64_t k = 0; k < split.inner; ++k) {
                              std::int64_t e = at[o * split.inner + k];
                              e = e < 0 ? e + split.extent : e;
                              if (e < 0 || e >= split.extent) continue;
                              std::memcpy(to + static_cast<std::size_t>((o * split.extent + e) * split.inner + k) * size, off + size, size);
                            }
                          }
                        }),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

Result<bool> triangle(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  SlotId k = -1;
  if (node.has_input(1)) {
    const graph::ValueInfo& info = values.info(node.inputs[1]);
    if (info.dtype != DType::kS64 || graph::element_count(info.shape) != 1) return false;
    KERF_ASSIGN(const Rep rep, plain_input(values, node.inputs[1]));
    k = rep.slot;
  }
  if (shape.size() < 2) return false;
  const std::int64_t rows = shape[shape.size() - 2];
  const std::int64_t columns = shape.back();
  const std::int64_t matrices = *graph::element_count(shape) / (rows * columns);
  const bool upper = node.integer("upper", 1) != 0;
  const DType dtype = values.info(node.inputs[0]).dtype;
  const auto size = static_cast<std::int64_t>(graph::element_size(dtype));
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  const SlotId y = make_output(values, node);
  std::vector<SlotId> reads{x.slot};
  if (k >= 0) reads.push_back(k);
  values.emit(make_call("kerf:triangle", std::move(reads), {y},
                        [=, from = x.slot](Pointers p, std::byte*) {
                          const std::int64_t diagonal = k < 0 ? 0 : std::clamp(*at<const std::int64_t>(p, k), -rows - 1, columns + 1);
                          for (std::int64_t m = 0; m < matrices; ++m) {
                            for (std::int64_t r = 0; r < rows; ++r) {
                              // Kept: columns [cut, end) of the upper, [0, cut) of the lower triangle.
                              const std::int64_t cut = std::clamp<std::int64_t>(r + diagonal + (upper ? 0 : 1), 0, columns);
                              const std::int64_t row = (m * rows + r) * columns;
                              const std::int64_t first = upper ? cut : 0;
                              const std::int64_t last = upper ? columns : cut;
                              std::byte* to = p[y] + row * size;
                              std::memset(to, 0, static_cast<std::size_t>(first * size));
                              std::memcpy(to + first * size, p[from] + (row + first) * size, static_cast<std::size_t>((last - first) * size));
                              std::memset(to + last * size, 0, static_cast<std::size_t>((columns - last) * size));
                            }
                          }
                        }),
              node.name, node.op, std::string(graph::to_string(dtype)));
  return true;
}

}  // namespace

Result<bool> lower_scatter(Values& values, const Node& node) {
  const bool scatters = node.op == "ScatterElements" || node.op == "ScatterND";
  if ((!scatters && node.op != "OneHot" && node.op != "Trilu") || !has_full_inputs(values, node)) return false;
  if (scatters) return scatter(values, node);
  return node.op == "OneHot" ? one_hot(values, node) : triangle(values, node);
}

}  // namespace kerf::engine
