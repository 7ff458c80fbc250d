#pragma once

#include "core/model_info.h"
#include "core/result.h"
#include "workers/compress/model.h"

namespace kerf::measure {

/// What `kerf inspect` says: the prepared model's layers, each with the f32 kernel that runs it,
/// and whether the model can be distilled.
///
/// Errors:   those of Executor::compile: a model that can't run has nothing to compress.
[[nodiscard]] Result<ModelInfo> inspect(const compress::PreparedModel& model);

}  // namespace kerf::measure
