#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/compress/histogram.h"
#include "workers/graph/digest.h"
#include "workers/graph/graph.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

struct PreparedModel;

/// Statistics of f32 activations on a calibration set, taken when they are first asked for and kept
/// for all candidates of a study.
///
/// Memory:   one batch of the observed values (64 MiB at most, one sample at least), and the
///           statistics of the model and of the last few pruned variants.
/// Threads:  one caller at a time.
class Calibration {
 public:
  /// `inputs`: the model's inputs in the order of graph.inputs, bound and preprocessed, samples
  /// along axis 0. `threads`: of the executor that runs the model.
  Calibration(const PreparedModel& model, std::vector<graph::Tensor> inputs, int threads);

  [[nodiscard]] std::int64_t samples() const { return samples_; }

  /// Statistics of `values` in `graph`, an f32 graph with the model's inputs.
  ///
  /// `variant` is a text that differs where the graph's weights or shapes do: "" for the model as
  /// prepared, else what was pruned. Variants are seen on at most kVariantSamples samples, evenly
  /// spaced, so that a candidate stays cheap; values that come before everything that a variant
  /// changes are the model's own.
  ///
  /// Errors:   failed_precondition naming a value that is not finite on the calibration set; what
  /// the
  ///           executor says.
  [[nodiscard]] Result<std::map<std::string, const ValueStatistics*>> statistics(
      const graph::Graph& graph, const std::string& variant,
      const std::vector<std::string>& values);

  static constexpr std::int64_t kModelSamples = 1024;
  static constexpr std::int64_t kVariantSamples = 128;

 private:
  struct Variant {
    std::string key;
    std::map<std::string, ValueStatistics> values;
  };

  [[nodiscard]] Result<void> observe(const graph::Graph& graph, std::int64_t most_samples,
                                     const std::vector<std::string>& values, Variant& variant);

  [[nodiscard]] Variant& variant_of(const std::string& key);
  [[nodiscard]] Result<void> complete(const graph::Graph& graph, const std::vector<std::string>& values,
                                      Variant& variant);

  graph::Graph model_;  // shares the model's tensors
  std::map<std::string, graph::Digest> model_prints_;
  std::vector<graph::Tensor> inputs_;
  std::int64_t samples_ = 0;
  int threads_ = 1;
  std::list<Variant> variants_;  // most recently used first; the model's own is never dropped
};

}  // namespace kerf::compress
