#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/result.h"
#include "workers/engine/executor.h"
#include "workers/engine/plan.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// A lowered graph of static shapes with its own memory: what one thread (or one team) runs.
class Program {
 public:
  /// `graph` has been through prepare(). `threads` is the size of the team that will run it; where
  /// `teams` says 1 for a step, that step runs on the calling thread alone. `timed`: see lower().
  [[nodiscard]] static Result<std::unique_ptr<Program>> make(const graph::Graph& graph, int threads,
                                                             const std::vector<int>& teams = {}, bool timed = false);

  /// Before run(): buffers i lie at inputs[i] + offset × their bytes, where offset counts batches.
  void point_to(std::span<const void* const> inputs, std::span<void* const> outputs, std::int64_t offset);
  void run() const {
    if (one_team_) {
      for (const auto& step : plan_.steps) step->run(pointers_.data());
    } else {
      run_in_teams();
    }
  }
  /// Adds the microseconds of each step.
  void run_profiled(std::vector<double>& times) const;

  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] std::int64_t arena_bytes() const { return arena_bytes_; }
  [[nodiscard]] std::int64_t weight_bytes() const { return weight_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  using Memory = std::unique_ptr<std::byte, Free>;
  static Memory aligned(std::int64_t bytes);
  void run_in_teams() const;
  Program() = default;

  Plan plan_;
  bool one_team_ = true;  ///< All steps are for as many threads.
  Memory arena_, scratchpad_;
  std::int64_t arena_bytes_ = 0;
  std::int64_t weight_bytes_ = 0;
  std::vector<std::byte*> pointers_;
  struct Caller {
    SlotId slot;
    std::size_t buffer;
    std::int64_t bytes;  ///< Of the buffer, for one batch of this program's.
  };
  std::vector<Caller> from_caller_, to_caller_;
};

}  // namespace kerf::engine
