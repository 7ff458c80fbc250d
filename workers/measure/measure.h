#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/measurement.h"
#include "core/racing.h"
#include "core/result.h"
#include "workers/compress/compress.h"
#include "workers/data/bind.h"
#include "workers/measure/energy.h"
#include "workers/measure/hardware.h"
#include "workers/measure/host_lock.h"
#include "workers/measure/latency.h"
#include "workers/measure/memory.h"

namespace kerf::measure {

/// What a process measures with, opened once and before a sandbox.
struct Instruments {
  explicit Instruments(int threads);
  HardwareFingerprint hardware;
  PeakMemory memory;
  EnergyMeter energy;
};

struct MeasureRequest {
  int threads = 1;                 ///< 1…1024
  std::int64_t batch = 1;          ///< Samples of a timed run; 1…65536.
  std::set<std::string> metrics;   ///< Contract names; empty = all.
  std::uint64_t seed = 1;          ///< Of random inputs and of the order of timed runs.
  double latency_seconds = 1.0;    ///< LatencySettings::max_seconds.
  std::function<bool()> cancelled; ///< Asked between pieces of work; may be empty.
  WaitLimits wait;                 ///< For the host lock; its `cancelled` follows ours where empty.

  /// When a candidate may be stopped: looked at between pieces of the evaluation set, and after the
  /// last one where latency would follow. What was measured until then comes back, with `pruned` set.
  std::optional<RacingTerms> racing;

  [[nodiscard]] bool wants(const std::string& metric) const {
    return metrics.empty() || metrics.contains(metric);
  }
};

/// Told the phase ("baseline", "compile", "accuracy", "wait_lock", "latency", "layers") and how far
/// it is, 0…1.
using Progress = std::function<void(const std::string& phase, double share)>;

/// The f32 model that candidates are compared with: compiled once for the latency batch, run once
/// on the evaluation set (its first output is kept, up to 512 MiB; a larger one is computed again
/// for each candidate). Keeps the evaluation set that it was last measured with.
///
/// Threads:  not thread-safe.
class Baseline {
 public:
  /// `graph` is PreparedModel's. Nothing runs yet.
  explicit Baseline(graph::Graph graph);
  ~Baseline();
  Baseline(Baseline&&) noexcept;
  Baseline& operator=(Baseline&&) noexcept;

  [[nodiscard]] const graph::Graph& graph() const;

  struct Impl;  ///< Compiled executors and cached outputs; measure.cc's own.
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Measures a candidate for real: quality on the evaluation set, then latency beside the baseline
/// with the machine alone, layer times, memory, energy.
///
/// Metrics:  those of `request` that can be had; without labels no accuracy, without samples no
///           quality at all (random seeded inputs are timed), without RAPL no energy.
/// Order:    samples are evaluated in a fixed random order, so that what a race sees is a fair draw
///           even of a set that is sorted by class.
/// Layers:   every step that runs, its median time scaled so that the steps sum to latency_p50_us.
/// Phases:   phase_ms has those of compress(), and baseline, compile, accuracy, wait_lock, latency,
///           layers.
/// Lock:     shared while it computes, given up about every 100 ms; exclusive for latency, layers
///           and energy. Null: not taken.
/// Errors:   those of Executor::compile and of the host lock; cancelled.
[[nodiscard]] Result<Measurement> measure_candidate(const compress::CompressedModel& candidate,
                                                    Baseline& baseline,
                                                    const data::BoundData& evaluation,
                                                    const MeasureRequest& request, HostLock* lock,
                                                    const Progress& progress,
                                                    Instruments* instruments = nullptr);

/// The same without a baseline and without data: what `kerf bench` prints.
[[nodiscard]] Result<Measurement> measure_alone(const compress::CompressedModel& candidate,
                                                const MeasureRequest& request, HostLock* lock,
                                                const Progress& progress,
                                                Instruments* instruments = nullptr);

/// One random input per graph input for `batch` samples: floats standard normal, integers 0 or 1.
///
/// Errors:   invalid_argument for an input that leaves more than its batch open.
[[nodiscard]] Result<std::vector<graph::Tensor>> random_inputs(const graph::Graph& graph,
                                                               std::int64_t batch,
                                                               std::uint64_t seed);

}  // namespace kerf::measure
