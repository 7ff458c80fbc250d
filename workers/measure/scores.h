#pragma once

#include <cstdint>

#include "workers/graph/graph.h"

namespace kerf::measure {

/// What the model's first output holds.
enum class OutputKind {
  kScores,         ///< Logits, log-probabilities or anything that a softmax may follow.
  kProbabilities,  ///< The model ends with Softmax: rows sum to 1.
  kClasses,        ///< Integers: the class itself.
};

[[nodiscard]] OutputKind output_kind(const graph::Graph& graph);

/// Whether outputs of this type are classes, not scores.
[[nodiscard]] bool holds_classes(graph::DType dtype);

/// Below it a probability that a model gives is taken as this.
inline constexpr double kLeastProbability = 1e-12;

/// How a sample's values lie: `outer` × classes × `inner`; outer × inner places. Classes lie on the last dimension
/// that isn't 1; on axis 1 where the output has four dimensions or more after dropping trailing ones.
struct View {
  std::int64_t outer = 1;
  std::int64_t classes = 1;
  std::int64_t inner = 1;
  [[nodiscard]] std::int64_t places() const { return outer * inner; }
  [[nodiscard]] std::int64_t elements() const { return outer * classes * inner; }
};

[[nodiscard]] View view_of(const graph::Shape& shape);

/// The scores of one place.
struct Place {
  const float* first;
  std::int64_t step;
  std::int64_t classes;

  [[nodiscard]] double score(std::int64_t c) const { return first[c * step]; }

  /// −1 where all are NaN.
  [[nodiscard]] std::int64_t top() const;

  /// Whether fewer than `most` classes rank before `wanted`.
  [[nodiscard]] bool among_top(std::int64_t wanted, int most) const;

  /// ln Σ exp(score) of scores that aren't probabilities yet; 0 of those that are.
  [[nodiscard]] double norm(OutputKind kind) const;

  /// `norm` is norm(kind). NaN where the score is.
  [[nodiscard]] double log_probability(std::int64_t c, OutputKind kind, double norm) const;
};

[[nodiscard]] Place place_at(const float* sample, const View& view, std::int64_t place);

/// KL(baseline || candidate), nats; norms are those of both. NaN where a score is.
[[nodiscard]] double divergence(const Place& baseline, const Place& candidate, OutputKind kind, double p_norm,
                                double q_norm);

}  // namespace kerf::measure
