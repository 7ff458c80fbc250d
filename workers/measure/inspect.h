#pragma once

#include <string>
#include <vector>

#include "core/model_info.h"
#include "core/result.h"
#include "workers/compress/compress.h"
#include "workers/compress/model.h"

namespace kerf::measure {

/// What `kerf inspect` says of a model: the prepared model's layers, each with the f32 kernel that runs it,
/// and whether the model can be distilled.
///
/// Errors:   those of Executor::compile: a model that can't run has nothing to compress.
[[nodiscard]] Result<ModelInfo> inspect(const compress::PreparedModel& model);

/// A layer as a plan's candidate runs it.
struct ExecutedLayer {
  std::string name;
  std::string executes_as;  ///< See engine::StepInfo.
  std::string kernel;
  int weight_bits = 32;      ///< As stored.
  int activation_bits = 32;  ///< As executed.
};

/// The candidate's layers in the order in which they run, on the kernels that `kerf bench` runs: where two
/// give the same, they are timed against each other.
///
/// Errors:   those of Executor::compile.
[[nodiscard]] Result<std::vector<ExecutedLayer>> executed_layers(const compress::CompressedModel& candidate, int threads);

}  // namespace kerf::measure
