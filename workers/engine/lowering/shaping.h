#pragma once

#include "workers/engine/lowering/values.h"

namespace kerf::engine {

/// Lowers ops that only move elements: aliases where nothing moves, strided copies elsewhere. They
/// keep number formats and, where they can, layouts. False for an op or form that isn't one.
[[nodiscard]] Result<bool> lower_shaping(Values& values, const graph::Node& node);

}  // namespace kerf::engine
