#pragma once

#include "workers/engine/plan.h"

namespace kerf::engine {

/// Moves elements between two strided walks of the same extents: layout changes, Transpose, Slice,
/// Expand, and, into windows of one output, Concat, Split and Pad.
struct StridedCopy {
  graph::Shape dims;
  graph::Shape from_strides, to_strides;  ///< In elements; from may be 0 or negative.
  std::int64_t from_offset = 0, to_offset = 0;
  std::size_t element_size = 4;
};

/// Copies one after another from their slots into one output. `fill`: the bytes of the element that
/// the output is filled with before; empty where the copies cover it.
struct CopySource {
  SlotId slot = -1;
  StridedCopy copy;
};
[[nodiscard]] std::unique_ptr<Step> make_copy(std::vector<CopySource> sources, SlotId to,
                                              std::int64_t to_elements, std::vector<std::byte> fill,
                                              int threads);

/// Bytes as they are.
[[nodiscard]] std::unique_ptr<Step> make_plain_copy(SlotId from, SlotId to, std::int64_t bytes);

}  // namespace kerf::engine
