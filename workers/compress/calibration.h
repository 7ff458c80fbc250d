#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/compress/histogram.h"
#include "workers/compress/second_moments.h"
#include "workers/compress/training_samples.h"
#include "workers/graph/digest.h"
#include "workers/graph/graph.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

struct PreparedModel;

/// What is known of each element of a value: sums over samples.
struct ElementMoments {
  graph::Shape sample_shape;            ///< Without the first dimension.
  std::vector<double> squares;          ///< Σ x²
  std::vector<std::int64_t> non_zeros;  ///< How often x ≠ 0.
  std::int64_t samples = 0;
};

/// The answer where `what`, "a plan with …", needs data and there is none.
[[nodiscard]] Error needs_calibration_data(const std::string& what);

/// Statistics of f32 activations on a calibration set, taken when they are first asked for and kept
/// for all candidates of a study.
///
/// Memory:   one batch of the observed values (2 MiB at most, one sample at least), the
///           statistics of the model and of the last few pruned variants, and 512 MiB of second
///           moments at most beside those that were just asked for.
/// Threads:  one caller at a time.
class Calibration {
 public:
  /// `inputs`: the model's inputs in the order of graph.inputs, bound and preprocessed, samples
  /// along axis 0. `threads`: of the executor that runs the model.
  Calibration(const PreparedModel& model, std::vector<graph::Tensor> inputs, int threads);

  [[nodiscard]] std::int64_t samples() const { return samples_; }
  [[nodiscard]] const std::vector<graph::Tensor>& inputs() const { return inputs_; }
  [[nodiscard]] int threads() const { return threads_; }

  /// What the samples are known to be, where the data says so; empty otherwise.
  void set_labels(Labels labels) { labels_ = std::move(labels); }
  [[nodiscard]] const Labels& labels() const { return labels_; }

  /// Statistics of `values` in `graph`, an f32 graph with the model's inputs.
  ///
  /// `variant` is a text that differs where the graph's weights or shapes do: "" for the model as
  /// prepared, else what was pruned. Variants are seen on at most kVariantSamples samples, evenly
  /// spaced, so that a candidate stays cheap (see_variants_on() says otherwise); values that come before everything that a variant
  /// changes are the model's own.
  ///
  /// `means`: element-wise sums too; the model's own always have them, a variant's only where they
  /// are asked for, as they are much to write for a candidate that needs ranges alone.
  ///
  /// Errors:   failed_precondition naming a value that is not finite on the calibration set; what
  /// the
  ///           executor says.
  [[nodiscard]] Result<std::map<std::string, const ValueStatistics*>> statistics(
      const graph::Graph& graph, const std::string& variant,
      const std::vector<std::string>& values, bool means = true);

  /// Sums of squares and counts of non-zeros, element by element, over kMomentSamples samples.
  [[nodiscard]] Result<std::map<std::string, const ElementMoments*>> element_moments(
      const graph::Graph& graph, const std::string& variant,
      const std::vector<std::string>& values);

  /// Second moments of what `layers` of `graph` read, over kMomentSamples samples. Layers that
  /// LayerInput doesn't describe are left out.
  [[nodiscard]] Result<std::map<std::string, std::shared_ptr<const SecondMoments>>> second_moments(
      const graph::Graph& graph, const std::string& variant,
      const std::vector<std::string>& layers);

  /// At most `most` samples of each input, evenly spaced: batches of a recovery that runs the model
  /// itself.
  [[nodiscard]] std::vector<graph::Tensor> some_samples(std::int64_t most) const;
  /// These samples of each input.
  [[nodiscard]] std::vector<graph::Tensor> samples_at(std::span<const std::int64_t> chosen) const;

  /// Variants are seen on at most this many samples from now on: for one that took seconds to train,
  /// whose ranges are worth as much.
  void see_variants_on(std::int64_t samples) { variant_samples_ = samples; }

  static constexpr std::int64_t kModelSamples = 1024;
  static constexpr std::int64_t kVariantSamples = 64;
  static constexpr std::int64_t kMomentSamples = 256;
  static constexpr std::size_t kMomentBytes = std::size_t{512} << 20U;

 private:
  struct Variant {
    std::string key;
    std::map<std::string, ValueStatistics> values;
    std::map<std::string, ElementMoments> elements;
    std::map<std::string, std::shared_ptr<const SecondMoments>> moments;  // by layer
  };

  /// Takes a value's elements for some samples, one after another; sample_shape is that of one.
  using Visitor =
      std::function<Result<void>(const std::string& value, std::span<const float> data,
                                 const graph::Shape& sample_shape, std::int64_t samples)>;

  [[nodiscard]] Result<void> check_inputs(const graph::Graph& graph) const;
  [[nodiscard]] Variant& variant_of(const std::string& key);  // made, or moved to the front

  [[nodiscard]] Result<void> complete(const graph::Graph& graph,
                                      const std::vector<std::string>& values, bool means,
                                      Variant& variant);

  /// Runs `graph` on at most `most_samples` samples and shows the values batch by batch.
  [[nodiscard]] Result<void> visit(const graph::Graph& graph, std::int64_t most_samples,
                                   const std::vector<std::string>& values,
                                   const Visitor& visitor) const;

  graph::Graph model_;  // shares the model's tensors
  std::map<std::string, graph::Digest> model_prints_;
  std::vector<graph::Tensor> inputs_;
  Labels labels_;
  std::int64_t samples_ = 0;
  int threads_ = 1;
  std::int64_t variant_samples_ = kVariantSamples;
  std::list<Variant> variants_;  // most recently used first; the model's own is never dropped
};

}  // namespace kerf::compress
