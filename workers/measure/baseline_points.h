#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"
#include "workers/measure/prefix.h"

namespace kerf::measure {

/// The f32 model's outputs on some samples and its activations at points where graphs can be cut, so
/// that a plan which changes one layer starts right before it.
///
/// Memory:   the activations take up to 256 MiB; of more points every second, third, … is kept.
class BaselinePoints {
 public:
  /// Called between batches; its error ends what runs.
  using Between = std::function<Result<void>()>;

  /// Runs `graph` (f32, shapes inferred) once.
  [[nodiscard]] static Result<BaselinePoints> make(const graph::Graph& graph,
                                                   std::vector<graph::Tensor> samples, int threads,
                                                   const Between& between);

  /// The first output of the f32 model.
  [[nodiscard]] const graph::Tensor& output() const { return output_; }

  /// The first output of another graph of the same inputs on the same samples, from the last point
  /// on that it computes as the f32 model does.
  [[nodiscard]] Result<graph::Tensor> run(const graph::Graph& graph, const Between& between) const;

  [[nodiscard]] std::size_t points() const { return kept_.size(); }

 private:
  struct Kept {
    graph::Digest fingerprint;
    graph::Tensor rows;
  };
  [[nodiscard]] Result<graph::Tensor> rows_of(const graph::Graph& graph,
                                              const std::vector<graph::Tensor>& inputs,
                                              const Between& between) const;

  std::vector<graph::Tensor> samples_;
  int threads_ = 1;
  std::int64_t batch_ = 1;
  std::vector<Kept> kept_;  ///< In the order of the graph's nodes.
  graph::Tensor output_;
};

}  // namespace kerf::measure
