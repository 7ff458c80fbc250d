#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/study.h"
#include "workers/data/dataset.h"
#include "workers/graph/graph.h"

namespace kerf::data {

/// Data as the model wants it: one tensor per graph input, in the graph's order, of the input's
/// dtype and sample shape; first axis = samples.
struct BoundData {
  std::vector<graph::Tensor> inputs;
  std::vector<std::int64_t> classes;  ///< One a sample, where y holds integers.
  std::vector<float> targets;         ///< Where y holds floats; row-major, targets_per_sample each.
  std::int64_t samples = 0;

  [[nodiscard]] bool labelled() const { return !classes.empty() || !targets.empty(); }
  [[nodiscard]] std::int64_t targets_per_sample() const {
    return targets.empty() ? 0 : static_cast<std::int64_t>(targets.size()) / samples;
  }

  /// Samples [begin, end); a copy.
  [[nodiscard]] BoundData slice(std::int64_t begin, std::int64_t end) const;
};

/// Rows [begin, end) of a tensor's first axis.
[[nodiscard]] graph::Tensor rows(const graph::Tensor& tensor, std::int64_t begin, std::int64_t end);

/// The number of classes that the model's first output scores: its last dimension that isn't 1
/// (without the batch), 1 where all are. nullopt where the model doesn't say, or where the output
/// holds integers (the class itself).
[[nodiscard]] std::optional<std::int64_t> class_count(const graph::Graph& graph);

/// Fits data to a model.
///
/// Maths:    x = (raw × scale − mean) / std per channel, for float inputs; computed in f64,
///           rounded once. Channels are axis 1 (of a sample: axis 0). Layout NHWC: rank-4 arrays
///           are turned to NCHW, unless only the unturned one fits (a model that takes NHWC); then
///           the channels are the last axis.
/// Shapes:   the first axis is samples, any number, whatever batch the model has. The sample's
///           shape must equal the input's, free dims matching anything; dims of size 1 may be
///           missing or extra ([N, 28, 28] fits [?, 1, 28, 28]).
/// Types:    numbers convert where no value is lost: floats to an integer input only if whole and
///           in range.
/// Errors:   invalid_argument, one line with file, array, sample and expectation: an array is
///           missing, shapes don't fit, NaN or Inf, a class out of range, counts that differ, no
///           samples, more means than channels.
/// Cost:     f32 data without preprocessing is shared, not copied; 6 M uint8 take a few ms.
/// Calls:    write data::bind(…); unqualified, the compiler may prefer std::bind.
[[nodiscard]] Result<BoundData> bind(const DataSet& data, const graph::Graph& graph,
                                     const std::optional<Preprocess>& preprocess,
                                     const std::string& file_name);

}  // namespace kerf::data
