#pragma once

#include "workers/engine/kernels/step.h"
#include "workers/engine/lowering/values.h"

namespace kerf::engine {

/// Lowers ops to kernels of our own that are neither pointwise nor copies. Each says false for an op
/// that isn't one of its, or a form that its kernel doesn't take.
[[nodiscard]] Result<bool> lower_light(Values& values, const graph::Node& node);

[[nodiscard]] Result<bool> lower_image_pool(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_normalization(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_reduction(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_logic(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_cast(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_quantization(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_gather(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_scatter(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_ordering(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_resize(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_integer_products(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_rearranging(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_spectral(Values& values, const graph::Node& node);
[[nodiscard]] Result<bool> lower_recurrent(Values& values, const graph::Node& node);

/// The value in the graph's own type (f32 where it is a number of whatever format), row-major.
[[nodiscard]] Result<Rep> plain_input(Values& values, const std::string& value);
/// The same in f32, in the layout that it has.
[[nodiscard]] Result<Rep> float_input(Values& values, const std::string& value);
/// Makes output i of the node, in the graph's type and that layout. Its slot.
SlotId make_output(Values& values, const graph::Node& node, std::size_t i = 0, Layout layout = Layout::kPlain);
/// Whether every output that has a name has a static shape with elements in it.
[[nodiscard]] bool has_static_outputs(const Values& values, const graph::Node& node);
/// Whether every input that is there has elements.
[[nodiscard]] bool has_full_inputs(const Values& values, const graph::Node& node);
/// The integers of input i where it is a constant; nullopt where it isn't, or is left out.
[[nodiscard]] std::optional<std::vector<std::int64_t>> constant_integers(const Values& values, const graph::Node& node, std::size_t i);

/// Extents before an axis, of it, and after it.
struct AxisSplit {
  std::int64_t outer = 1, extent = 1, inner = 1;
};
[[nodiscard]] AxisSplit split_at(const graph::Shape& shape, std::size_t axis);

}  // namespace kerf::engine
