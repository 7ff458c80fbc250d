#include "workers/measure/scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>

namespace kerf::measure {

using graph::Shape;

bool holds_classes(graph::DType dtype) {
  using graph::DType;
  return dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16 && dtype != DType::kF64;
}

OutputKind output_kind(const graph::Graph& graph) {
  if (graph.outputs.empty()) return OutputKind::kScores;
  if (holds_classes(graph.outputs[0].dtype)) return OutputKind::kClasses;
  std::string value = graph.outputs[0].name;
  // Back over what doesn't change numbers beyond rounding.
  for (std::size_t steps = 0; steps <= graph.nodes.size(); ++steps) {
    const graph::Node* node = graph.producer(value);
    if (node == nullptr || node->inputs.empty()) return OutputKind::kScores;
    if (node->op == "Softmax") return OutputKind::kProbabilities;
    const bool passes = node->op == "Identity" || node->op == "Reshape" || node->op == "Flatten" ||
                        node->op == "Squeeze" || node->op == "Unsqueeze" || node->op == "Cast" ||
                        node->op == "QuantizeLinear" || node->op == "DequantizeLinear";
    if (!passes) return OutputKind::kScores;
    value = node->inputs[0];
  }
  return OutputKind::kScores;
}

View view_of(const Shape& shape) {
  Shape sample(shape.begin() + 1, shape.end());
  while (!sample.empty() && sample.back() == 1) sample.pop_back();
  View view;
  if (sample.size() >= 3) {  // a map: [classes, height, width, …]
    view.classes = sample[0];
    for (std::size_t i = 1; i < sample.size(); ++i) view.inner *= sample[i];
    return view;
  }
  if (!sample.empty()) view.classes = sample.back();
  if (sample.size() == 2) view.outer = sample[0];
  return view;
}

std::int64_t Place::top() const {
  std::int64_t best = -1;
  for (std::int64_t c = 0; c < classes; ++c) {
    const float value = first[c * step];
    if (!std::isnan(value) && (best < 0 || value > first[best * step])) best = c;
  }
  return best;
}

bool Place::among_top(std::int64_t wanted, int most) const {
  const double own = score(wanted);
  if (std::isnan(own)) return false;
  int before = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    if (score(c) > own || (score(c) == own && c < wanted)) ++before;
  }
  return before < most;
}

double Place::norm(OutputKind kind) const {
  if (kind != OutputKind::kScores) return 0;
  double largest = score(0);
  for (std::int64_t c = 1; c < classes; ++c) largest = std::max(largest, score(c));
  double sum = 0;
  for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(score(c) - largest);
  return largest + std::log(sum);
}

double Place::log_probability(std::int64_t c, OutputKind kind, double norm) const {
  const double own = score(c);
  if (kind == OutputKind::kScores) return own - norm;
  return std::isnan(own) ? own : std::log(std::max(own, kLeastProbability));
}

Place place_at(const float* sample, const View& view, std::int64_t place) {
  const std::int64_t outer = place / view.inner;
  const std::int64_t inner = place % view.inner;
  return {sample + outer * view.classes * view.inner + inner, view.inner, view.classes};
}

double divergence(const Place& baseline, const Place& candidate, OutputKind kind, double p_norm, double q_norm) {
  double sum = 0;
  if (kind == OutputKind::kProbabilities) {
    for (std::int64_t c = 0; c < baseline.classes; ++c) {
      const double p = baseline.score(c);
      const double q = candidate.score(c);
      if (std::isnan(p) || std::isnan(q)) return std::nan("");
      const double floored = std::max(p, kLeastProbability);
      if (p > 0) sum += p * std::log(floored / std::max(q, kLeastProbability));
    }
  } else {
    for (std::int64_t c = 0; c < baseline.classes; ++c) {
      const double log_p = baseline.score(c) - p_norm;
      const double p = std::exp(log_p);
      if (p != 0) sum += p * (log_p - (candidate.score(c) - q_norm));
    }
  }
  // Rounding may leave a hair below 0, which a divergence can't be.
  return std::isnan(sum) ? sum : std::max(sum, 0.0);
}

}  // namespace kerf::measure
