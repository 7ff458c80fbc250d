#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/look.h"
#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/graph/graph.h"
#include "workers/graph/tensor.h"
#include "workers/measure/scores.h"

namespace kerf::measure {

/// Samples whose class is known.
struct LabelledSamples {
  std::vector<graph::Tensor> inputs;  ///< In the order of graph.inputs, samples along axis 0.
  std::vector<std::int64_t> classes;  ///< One a sample.

  /// Of fewer, labels say nothing of a single plan.
  static constexpr std::int64_t kFewest = 64;
};

/// At most `most` samples of the calibration set, evenly spaced among those with a class that the graph
/// scores. nullopt where labels say nothing of what the graph gives: they are none, targets, or fewer
/// than kFewest; the first output isn't scores or probabilities of one place a sample, or of one class.
[[nodiscard]] std::optional<LabelledSamples> labelled_samples(const graph::Graph& graph,
                                                              const compress::Calibration& calibration,
                                                              std::int64_t most);

/// Whether a model is surer than it is right: the mean of −log p(label) is beyond the mean entropy of its
/// outputs by half of it and by two standard errors. What it computes is then off the optimum of these labels,
/// so that a change may do them good. Of a model that isn't, a change costs labels its size, and looks at
/// labels would show noise (docs/search.md).
///
/// Shapes:   [samples, classes] but for dimensions of 1, a label a sample; false for anything else.
/// Source:   Guo et al. 2017, "On Calibration of Modern Neural Networks": what overfits is sure of its errors.
[[nodiscard]] bool overconfident(const graph::Tensor& outputs, std::span<const std::int64_t> labels, OutputKind kind);

/// What labels say of a plan's outputs beside those of another one.
///
/// Shapes:   both [samples, classes] but for dimensions of 1, a label a sample.
/// Maths:    see LabelLook; computed in double, probabilities floored at 1e-12.
/// Errors:   invalid_argument where shapes differ or a value isn't finite.
[[nodiscard]] Result<LabelLook> label_look(const graph::Tensor& beside, const graph::Tensor& plan,
                                           std::span<const std::int64_t> labels, OutputKind kind);

}  // namespace kerf::measure
