#pragma once

#include <cstddef>

#include "workers/graph/tensor.h"

namespace kerf::engine {

/// Elements of one type as another: floats to integers towards zero, what doesn't fit pinned to the
/// nearest and NaN to 0; integers to narrower ones modulo their size; to bool by comparing with 0.
using CastRun = void (*)(const void* from, void* to, std::size_t n);

/// nullptr for a pair of types that there is no loop for: it knows f32, s32, s64, u8, s8 and bool.
[[nodiscard]] CastRun cast_run(graph::DType from, graph::DType to);

}  // namespace kerf::engine
