#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/look.h"
#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/model.h"
#include "workers/graph/tensor.h"
#include "workers/measure/host_lock.h"
#include "workers/measure/measure.h"

namespace kerf::measure {

struct LookSettings {
  int threads = 1;
  std::int64_t batch = 1;           ///< Of timed runs.
  std::function<bool()> cancelled;  ///< Asked between pieces of work; may be empty.
  WaitLimits wait;                  ///< For the host lock.
};

/// Looks at plans cheaply: what each does to the outputs on a few samples, what the layers of each
/// cost on the kernels that run them, and what labels say of it.
///
/// Damage:   the f32 model runs once and leaves its activations at points where it can be cut (up to
///           512 MiB of them); a plan runs from the last point that it computes alike.
/// Cost:     all plans' executors take turns in rounds of profiled runs, so that drift cancels; a
///           step's time is the lower quartile of its runs. A step that belongs to no layer is
///           counted before the layer that follows it.
/// Labels:   as damage, beside another plan than f32, on the calibration set's samples whose class is
///           known. Where labels say nothing (see labelled_samples) a look is neither taken nor failed.
/// Data:     `samples`: inputs in the order of graph.inputs, samples along axis 0; at least one.
/// Lock:     shared while it computes, exclusive for a round of timing (about a tenth of a second).
/// Progress: phases "look", "wait_lock", "look_latency".
/// Errors:   cancelled; those of the host lock and of the f32 model. A plan's own failure is its
///           look's error.
[[nodiscard]] Result<LookResult> take_looks(const compress::PreparedModel& model,
                                            compress::Calibration* calibration,
                                            const std::vector<graph::Tensor>& samples,
                                            const LookRequest& request, const LookSettings& settings,
                                            HostLock* lock, const Progress& progress);

}  // namespace kerf::measure
