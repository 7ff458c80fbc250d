#include "workers/measure/label_look.h"

#include <algorithm>
#include <cmath>

#include "workers/data/bind.h"
#include "workers/measure/moments.h"

namespace kerf::measure {

using graph::Shape;
using graph::Tensor;

namespace {

constexpr double kLeastProbability = 1e-12;

/// Whether each sample has one place alone.
bool one_place(const Shape& shape) {
  return shape.size() > 1 && std::count_if(shape.begin() + 1, shape.end(), [](auto dim) { return dim != 1; }) == 1;
}

/// Of the classes of one place.
void log_probabilities(std::span<const float> values, OutputKind kind, std::vector<double>& out) {
  out.assign(values.begin(), values.end());
  if (kind == OutputKind::kProbabilities) {
    for (double& value : out) value = std::log(std::max(value, kLeastProbability));
    return;
  }
  const double largest = *std::max_element(out.begin(), out.end());
  double sum = 0;
  for (const double value : out) sum += std::exp(value - largest);
  const double norm = largest + std::log(sum);
  for (double& value : out) value -= norm;
}

}  // namespace

std::optional<LabelledSamples> labelled_samples(const graph::Graph& graph, const compress::Calibration& calibration,
                                                std::int64_t most) {
  const std::vector<std::int64_t>& classes = calibration.labels().classes;
  const auto count = data::class_count(graph);
  if (static_cast<std::int64_t>(classes.size()) != calibration.samples() || !count || *count < 2) return std::nullopt;
  if (output_kind(graph) == OutputKind::kClasses || !one_place(graph.outputs[0].shape)) return std::nullopt;
  std::vector<std::int64_t> known;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    if (classes[i] >= 0 && classes[i] < *count) known.push_back(static_cast<std::int64_t>(i));
  }
  const auto all = static_cast<std::int64_t>(known.size());
  const std::int64_t wanted = std::min(all, most);
  if (wanted < LabelledSamples::kFewest) return std::nullopt;
  LabelledSamples out;
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < wanted; ++i) {
    chosen.push_back(known[static_cast<std::size_t>(i * all / wanted)]);
    out.classes.push_back(classes[static_cast<std::size_t>(chosen.back())]);
  }
  out.inputs = calibration.samples_at(chosen);
  return out;
}

bool overconfident(const Tensor& outputs, std::span<const std::int64_t> labels, OutputKind kind) {
  constexpr double kBeyond = 0.5;  // of the entropy
  constexpr double kErrors = 2;
  const auto samples = static_cast<double>(labels.size());
  if (samples < 2 || !one_place(outputs.shape()) || outputs.dim(0) != static_cast<std::int64_t>(labels.size())) return false;
  const Tensor values = outputs.to_f32();
  const std::size_t classes = values.as<float>().size() / labels.size();
  double entropies = 0;
  Moments excess;
  std::vector<double> p;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] < 0 || static_cast<std::size_t>(labels[n]) >= classes) return false;
    log_probabilities(values.as<float>().subspan(n * classes, classes), kind, p);
    double entropy = 0;
    for (const double log : p) entropy -= std::exp(log) * log;
    entropies += entropy / samples;
    excess.add(-p[static_cast<std::size_t>(labels[n])] - entropy);
  }
  const double error = std::sqrt(excess.variance() / samples);
  return excess.mean > kBeyond * entropies && excess.mean > kErrors * error;  // false where something isn't finite
}

Result<LabelLook> label_look(const Tensor& beside, const Tensor& plan, std::span<const std::int64_t> labels,
                             OutputKind kind) {
  const auto samples = static_cast<std::int64_t>(labels.size());
  if (beside.shape() != plan.shape() || !one_place(beside.shape()) || samples < 2 || beside.dim(0) != samples) {
    return invalid_argument("looks: outputs of shapes " + graph::to_string(beside.shape()) + " and " +
                            graph::to_string(plan.shape()) + "; expected scores of classes for " +
                            std::to_string(samples) + " samples");
  }
  const Tensor one = beside.to_f32();
  const Tensor other = plan.to_f32();
  const auto finite = [](const Tensor& tensor) {
    const auto values = tensor.as<float>();
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  };
  if (!finite(one) || !finite(other)) {
    return invalid_argument("looks: outputs that are not finite on the labelled samples");
  }
  const std::size_t classes = one.as<float>().size() / labels.size();
  std::vector<double> p, q;
  LabelLook look;
  look.samples = samples;
  Moments lean;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    const auto theirs = one.as<float>().subspan(n * classes, classes);
    log_probabilities(theirs, kind, p);
    log_probabilities(other.as<float>().subspan(n * classes, classes), kind, q);
    double kl = 0;
    for (std::size_t c = 0; c < classes; ++c) {
      const double share = kind == OutputKind::kProbabilities ? theirs[c] : std::exp(p[c]);
      if (share > 0) kl += share * (p[c] - q[c]);
    }
    const auto label = static_cast<std::size_t>(labels[n]);
    if (labels[n] < 0 || label >= classes) {
      return invalid_argument("looks: label " + std::to_string(labels[n]) + "; expected a class from 0 to " +
                              std::to_string(classes - 1));
    }
    look.kl += kl / static_cast<double>(samples);
    lean.add(p[label] - q[label] - kl);
  }
  look.kl = std::max(look.kl, 0.0);  // but for rounding it can't be less
  look.lean = lean.mean;
  look.error = std::sqrt(lean.variance() / static_cast<double>(samples));
  return look;
}

}  // namespace kerf::measure
