#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// Indices as they lie in memory; negative ones count from the end.
struct Indices {
  const void* data = nullptr;
  bool wide = true;  ///< s64, else s32.

  [[nodiscard]] std::int64_t operator[](std::int64_t i) const {
    return wide ? static_cast<const std::int64_t*>(data)[i] : static_cast<const std::int32_t*>(data)[i];
  }
};

/// Gather: rows of `run` bytes. [outer, extent] rows -> [outer, count] rows. False where an index is
/// outside the extent; what was written is undefined then (for all functions here).
struct RowGather {
  std::int64_t outer = 1, extent = 1, count = 1, run = 4;
  int threads = 1;
};
[[nodiscard]] bool gather_rows(const RowGather& what, const std::byte* x, Indices indices, std::byte* y);

/// GatherElements along the middle: y[o, i, k] = x[o, indices[o, i, k], k].
struct ElementGather {
  std::int64_t outer = 1, extent = 1, count = 1, inner = 1;
  std::size_t element_size = 4;
};
[[nodiscard]] bool gather_elements(const ElementGather& what, const std::byte* x, Indices indices, std::byte* y);
/// ScatterElements along the middle: y[o, indices[o, i, k], k] = updates[o, i, k].
[[nodiscard]] bool scatter_elements(const ElementGather& what, const std::byte* updates, Indices indices, std::byte* y);

/// Rows named by tuples of `depth` indices. tuples in all, `each` of them a batch element, whose part
/// of x is `part` bytes long.
struct TupleRows {
  std::int64_t tuples = 1, each = 1, part = 0, run = 4;
  std::size_t depth = 1;
  std::int64_t extents[8] = {}, strides[8] = {};  ///< Of the indexed axes; strides in bytes.
};
[[nodiscard]] bool gather_tuples(const TupleRows& what, const std::byte* x, Indices indices, std::byte* y);
[[nodiscard]] bool scatter_tuples(const TupleRows& what, const std::byte* updates, Indices indices, std::byte* y);

}  // namespace kerf::engine
