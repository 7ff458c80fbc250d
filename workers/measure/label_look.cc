#include "workers/measure/label_look.h"

#include <algorithm>
#include <cmath>

#include "workers/data/bind.h"
#include "workers/measure/moments.h"

namespace kerf::measure {

using graph::Shape;
using graph::Tensor;

namespace {

/// Whether each sample has one place alone.
bool one_place(const Shape& shape) {
  return shape.size() > 1 && std::count_if(shape.begin() + 1, shape.end(), [](auto dim) { return dim != 1; }) == 1;
}

/// Of outputs that have one place a sample.
Place place_of(std::span<const float> values, std::size_t sample, std::size_t classes) {
  return {values.data() + sample * classes, 1, static_cast<std::int64_t>(classes)};
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
  for (std::size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] < 0 || static_cast<std::size_t>(labels[n]) >= classes) return false;
    const Place place = place_of(values.as<float>(), n, classes);
    const double norm = place.norm(kind);
    double entropy = 0;
    for (std::int64_t c = 0; c < place.classes; ++c) {
      const double log = place.log_probability(c, kind, norm);
      entropy -= std::exp(log) * log;
    }
    entropies += entropy / samples;
    excess.add(-place.log_probability(labels[n], kind, norm) - entropy);
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
  LabelLook look;
  look.samples = samples;
  Moments lean;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] < 0 || static_cast<std::size_t>(labels[n]) >= classes) {
      return invalid_argument("looks: label " + std::to_string(labels[n]) + "; expected a class from 0 to " +
                              std::to_string(classes - 1));
    }
    const Place p = place_of(one.as<float>(), n, classes);
    const Place q = place_of(other.as<float>(), n, classes);
    const double p_norm = p.norm(kind);
    const double q_norm = q.norm(kind);
    const double kl = divergence(p, q, kind, p_norm, q_norm);
    look.kl += kl / static_cast<double>(samples);
    lean.add(p.log_probability(labels[n], kind, p_norm) - q.log_probability(labels[n], kind, q_norm) - kl);
  }
  look.lean = lean.mean;
  look.error = std::sqrt(lean.variance() / static_cast<double>(samples));
  return look;
}

}  // namespace kerf::measure
