#include "workers/engine/lowering/byte_pairs.h"

#include <algorithm>

#include "workers/engine/executor.h"
#include "workers/engine/kernels/zero_points.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

bool sums_are_exact(const Tensor& weights) {
  return has_vnni() || std::ranges::all_of(weights.as<std::int8_t>(), [](std::int8_t w) { return w >= -64 && w <= 63; });
}

std::optional<SlotId> emit_exact_sums(Values& values, const Node& node, const Tensor& weights, const Shape& dims, Layout layout,
                                      const EmitSums& emit) {
  if (sums_are_exact(weights)) return emit(weights, node.op.c_str());
  Tensor half(DType::kS8, weights.shape());
  Tensor rest(DType::kS8, weights.shape());
  const auto given = weights.as<std::int8_t>();
  const auto halves = half.mutable_as<std::int8_t>();
  const auto rests = rest.mutable_as<std::int8_t>();
  for (std::size_t i = 0; i < given.size(); ++i) {
    halves[i] = static_cast<std::int8_t>(given[i] >> 1);
    rests[i] = static_cast<std::int8_t>(given[i] & 1);
  }
  const auto high = emit(half, node.op.c_str());
  const auto low = high ? emit(rest, "odd weights") : std::nullopt;
  if (!low) return std::nullopt;
  const Doubling doubling{*graph::element_count(dims), values.threads()};
  const SlotId y = values.new_slot(DType::kS32, dims, layout);
  values.emit(make_call("kerf:double", {*high, *low}, {y},
                        [doubling, high = *high, low = *low, y](Pointers p, std::byte*) {
                          add_doubled(doubling, at<const std::int32_t>(p, high), at<const std::int32_t>(p, low), at<std::int32_t>(p, y));
                        }),
              node.name, "halves", "s32");
  return y;
}

}  // namespace kerf::engine
