#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "workers/engine/executor.h"
#include "workers/graph/graph.h"

namespace kerf::measure {

/// An executor with buffers of its own: what a timed run calls.
class Compiled {
 public:
  /// `options.batch` samples a run; the graph's own batch where it mixes samples (fits_batch() is false
  /// then). Sizes that the graph leaves open are those of `inputs`, samples along axis 0.
  ///
  /// Errors:   invalid_argument where the inputs aren't the graph's; those of Executor::compile.
  [[nodiscard]] static Result<Compiled> make(const graph::Graph& graph,
                                             const std::vector<graph::Tensor>& inputs,
                                             const engine::ExecutorOptions& options);

  [[nodiscard]] engine::Executor& executor() { return *executor_; }
  [[nodiscard]] const engine::Executor& executor() const { return *executor_; }
  [[nodiscard]] std::int64_t batch() const { return batch_; }
  [[nodiscard]] bool fits_batch() const { return fits_batch_; }

  /// Copies samples of `inputs` (first axis) into the buffers; too few are repeated from the last.
  ///
  /// Errors:   invalid_argument where they don't have the executor's types and shapes.
  [[nodiscard]] Result<void> load(const std::vector<graph::Tensor>& inputs,
                                  std::span<const std::int64_t> samples);

  void run() { executor_->run(input_pointers_, output_pointers_); }
  [[nodiscard]] std::vector<double> run_profiled() {
    return executor_->run_profiled(input_pointers_, output_pointers_);
  }

  /// The first output of the last run.
  [[nodiscard]] const graph::Tensor& output() const { return outputs_.front(); }

 private:
  Compiled() = default;
  std::unique_ptr<engine::Executor> executor_;
  std::int64_t batch_ = 1;
  bool fits_batch_ = true;
  std::vector<graph::Tensor> inputs_;
  std::vector<graph::Tensor> outputs_;
  std::vector<const void*> input_pointers_;
  std::vector<void*> output_pointers_;
};

/// Samples of a run that suits the caches, from what one sample's activations take.
[[nodiscard]] std::int64_t evaluation_batch(std::int64_t activation_bytes_of_sample,
                                            std::int64_t samples);

/// Runs the samples, in their order, and gives the first output's rows. `between` is called before
/// each batch; its error ends the run.
///
/// Errors:   those of `between` and of load(); invalid_argument where the model mixes samples and
///           their number isn't a multiple of its batch, or gives no row a sample.
[[nodiscard]] Result<graph::Tensor> run_samples(Compiled& compiled,
                                                const std::vector<graph::Tensor>& inputs,
                                                std::span<const std::int64_t> samples,
                                                const std::function<Result<void>()>& between);

/// The same for stages of which each reads the first output of the one before it. A batch passes all
/// of them while it is in the caches. Gives the rows of each stage, or of the last one alone.
///
/// Needs:    stages of one batch.
enum class KeptRows { kOfAll, kOfLast };
[[nodiscard]] Result<std::vector<graph::Tensor>> run_stages(std::span<Compiled* const> stages,
                                                            const std::vector<graph::Tensor>& inputs,
                                                            std::span<const std::int64_t> samples, KeptRows kept,
                                                            const std::function<Result<void>()>& between);

}  // namespace kerf::measure
