#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/result.h"
#include "workers/engine/executor.h"
#include "workers/engine/lane_pool.h"
#include "workers/engine/program.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// A graph compiled for one cut of its batch: a program for each lane, and the threads that run them.
///
/// Threads:  not thread-safe.
class Lanes {
 public:
  /// `graph` as Executor::compile takes it. `cut.micro` divides `batch`; `cut.lanes` above 1 only
  /// where samples are independent. `timed`: kernels may be timed against each other (lowering.h).
  ///
  /// Errors:   those of Executor::compile; resource_exhausted where no thread can be had.
  [[nodiscard]] static Result<std::unique_ptr<Lanes>> make(const graph::Graph& graph, std::int64_t batch, int threads,
                                                           const Cut& cut, bool timed = false);

  /// See Executor.
  void run(std::span<const void* const> from, std::span<void* const> to);
  [[nodiscard]] std::vector<double> run_profiled(std::span<const void* const> from, std::span<void* const> to);

  [[nodiscard]] const std::vector<graph::ValueInfo>& inputs() const { return inputs_; }
  [[nodiscard]] const std::vector<graph::ValueInfo>& outputs() const { return outputs_; }
  [[nodiscard]] const std::vector<StepInfo>& steps() const { return infos_; }
  [[nodiscard]] const Cut& cut() const { return cut_; }
  [[nodiscard]] std::int64_t weight_bytes() const { return programs_[0]->weight_bytes(); }
  [[nodiscard]] std::int64_t arena_bytes() const;  ///< Of all lanes together.

  /// Lets OpenMP's threads go, where this has some: they look for work for milliseconds after a run,
  /// on cores that what runs next may need.
  void rest();

 private:
  Lanes() = default;
  /// A team of one lane's.
  [[nodiscard]] int team() const { return programs_.size() > 1 ? 1 : threads_; }
  void place_team();

  std::vector<std::unique_ptr<Program>> programs_;  // one a lane
  std::int64_t pieces_ = 1;                         // micro-batches of a run
  std::vector<graph::ValueInfo> inputs_, outputs_;
  std::vector<StepInfo> infos_;
  int threads_ = 1;  // 1 also where each step is to run on one
  Cut cut_;
  std::unique_ptr<LanePool> pool_;      // where there are several lanes
  std::optional<Placement> placement_;  // of OpenMP's threads, where there is one lane for several
};

/// The batch of the graph's inputs; -1 where it is free, 0 where they don't have one in common.
[[nodiscard]] std::int64_t own_batch(const graph::Graph& graph);

}  // namespace kerf::engine
