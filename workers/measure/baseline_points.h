#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/detour.h"
#include "workers/measure/prefix.h"

namespace kerf::measure {

/// A graph's outputs on some samples and its activations at points where graphs can be cut, so that of a
/// plan which changes one layer only that is compiled: it starts right before it and goes on in the
/// executors of the first graph, the base.
///
/// Memory:   the activations take up to 512 MiB; of more points every second, third, … is kept. The
///           executors of what follows a point are kept up to 64 MiB of activations.
/// Threads:  one caller at a time.
class BaselinePoints {
 public:
  /// Called between batches; its error ends what runs.
  using Between = std::function<Result<void>()>;

  /// Runs `graph` (f32 or a compressed one, shapes inferred) once; it has to outlive this.
  [[nodiscard]] static Result<BaselinePoints> make(const graph::Graph& graph,
                                                   std::vector<graph::Tensor> samples, int threads,
                                                   const Between& between);

  /// The first output of the base.
  [[nodiscard]] const graph::Tensor& output() const { return output_; }

  /// The first output of another graph of the same inputs on the same samples. What it computes as the
  /// base does isn't computed again before its change, and runs in the base's executors behind it.
  [[nodiscard]] Result<graph::Tensor> run(const graph::Graph& graph, const Between& between);

  [[nodiscard]] std::size_t points() const { return kept_.size(); }

 private:
  struct Kept {
    std::string value;
    graph::Tensor rows;
  };
  BaselinePoints(const graph::Graph& graph, std::vector<graph::Tensor> samples, int threads)
      : graph_(&graph), samples_(std::move(samples)), threads_(threads) {}

  [[nodiscard]] Result<Compiled> compiled(const graph::Graph& graph,
                                          const std::vector<graph::Tensor>& inputs) const;
  [[nodiscard]] Result<graph::Tensor> rows_of(const graph::Graph& graph,
                                              const std::vector<graph::Tensor>& inputs,
                                              const Between& between) const;
  /// What follows a point, as all graphs run it that are back on it.
  [[nodiscard]] Result<Compiled*> tail_from(std::size_t point);
  Compiled& keep_tail(std::size_t point, Compiled made);

  const graph::Graph* graph_;
  std::vector<graph::Tensor> samples_;
  int threads_ = 1;
  std::int64_t batch_ = 1;
  std::vector<Kept> kept_;  ///< In the order of the graph's nodes.
  std::unique_ptr<Detours> detours_;
  std::map<std::size_t, Compiled> tails_;  ///< By point.
  std::int64_t tail_bytes_ = 0;
  graph::Tensor output_;
};

}  // namespace kerf::measure
