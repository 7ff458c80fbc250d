#include "workers/compress/activation_scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// A Clip whose lower bound is 0.
bool clips_at_zero(const Graph& graph, const Node& node) {
  if (node.op != "Clip" || !node.has_input(1)) return false;
  const Tensor* low = graph.constant(node.inputs[1]);
  return low != nullptr && low->elements() == 1 && low->to_floats()[0] == 0.0F;
}

/// The value behind the first Relu after a layer, through sums and what else keeps channels.
std::optional<std::string> activation_of(const Graph& graph, const Node& layer) {
  std::string value = layer.outputs[0];
  for (int step = 0; step < 4; ++step) {
    const Node* next = nullptr;
    for (const Node* reader : graph.consumers(value)) {
      if (reader->op == "Relu" || clips_at_zero(graph, *reader)) return reader->outputs[0];
      if (reader->op == "Add" || reader->op == "Sum" || reader->op == "BatchNormalization") next = reader;
    }
    if (next == nullptr) return std::nullopt;
    value = next->outputs[0];
  }
  return std::nullopt;
}

/// Elements of a sample by their channel: axis 0 of a sample for a convolution, else the last.
std::vector<double> by_channel(const std::vector<double>& elements, std::size_t channels,
                               bool convolution) {
  std::vector<double> out(channels, 0.0);
  if (channels == 0 || elements.size() % channels != 0) return out;
  const std::size_t inner = elements.size() / channels;
  for (std::size_t i = 0; i < elements.size(); ++i)
    out[convolution ? i / inner : i % channels] += elements[i] / static_cast<double>(inner);
  return out;
}

/// Divides by the mean; zeros stay.
void normalize(std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  if (!(sum > 0) || !std::isfinite(sum)) {
    std::fill(values.begin(), values.end(), 0.0);
    return;
  }
  for (double& value : values) value *= static_cast<double>(values.size()) / sum;
}

std::vector<double> mean_squares(const ElementMoments& moments) {
  std::vector<double> out = moments.squares;
  for (double& value : out) value /= static_cast<double>(std::max<std::int64_t>(1, moments.samples));
  return out;
}

void add_to_channels(const std::vector<double>& of_outputs, const std::vector<std::int32_t>& channels,
                     std::vector<double>& scores) {
  for (std::size_t i = 0; i < of_outputs.size() && i < channels.size(); ++i)
    scores[static_cast<std::size_t>(channels[i])] += of_outputs[i];
}

/// By what is seen behind the Relu of each layer that has one: how often it isn't 0, or its mean.
Result<std::vector<double>> behind_relu(const PreparedModel& model, const Graph& graph,
                                        const std::string& variant, bool by_mean,
                                        Calibration& calibration) {
  std::map<std::string, std::string> wanted;  // layer -> value
  std::vector<std::string> values;
  for (const auto& [layer, channels] : model.channels.outputs) {
    const Node* node = find_node(graph, layer);
    const auto value = node == nullptr ? std::nullopt : activation_of(graph, *node);
    if (!value || !model.channels.group_of.contains(layer)) continue;
    wanted[layer] = *value;
    values.push_back(*value);
  }
  std::map<std::string, std::vector<double>> active;
  if (by_mean) {
    KERF_ASSIGN(const auto statistics, calibration.statistics(graph, variant, values));
    for (const auto& [value, seen] : statistics) active[value] = seen->mean();
  } else {
    KERF_ASSIGN(const auto moments, calibration.element_moments(graph, variant, values));
    for (const auto& [value, seen] : moments) {
      const auto samples = static_cast<double>(std::max<std::int64_t>(1, seen->samples));
      for (const std::int64_t count : seen->non_zeros)
        active[value].push_back(static_cast<double>(count) / samples);
    }
  }
  std::vector<double> scores(static_cast<std::size_t>(model.channels.channel_count), 0.0);
  for (const auto& [layer, value] : wanted) {
    const auto& channels = model.channels.outputs.at(layer);
    const std::string& op = find_node(graph, layer)->op;
    std::vector<double> share =
        by_channel(active[value], channels.size(), op == "Conv" || op == "ConvTranspose");
    normalize(share);
    add_to_channels(share, channels, scores);
  }
  return scores;
}

Result<std::vector<double>> taylor(const PreparedModel& model, const Graph& graph,
                                   const std::string& variant, Calibration& calibration) {
  std::vector<const ConstantAxis*> reads;
  std::vector<std::string> values;
  for (const ConstantAxis& constant : model.channels.constants) {
    const Node* node = find_node(graph, constant.node);
    if (node == nullptr || constant.input != 1 || !graph::is_layer(graph, *node) ||
        constant.axis == output_channel_axis(*node) || graph.constant(node->inputs[1]) == nullptr) {
      continue;
    }
    // A depthwise transposed convolution has its own channels along the axis of inputs.
    if (node->integer("group", 1) != 1) continue;
    reads.push_back(&constant);
    values.push_back(node->inputs[0]);
  }
  KERF_ASSIGN(const auto moments, calibration.element_moments(graph, variant, values));
  std::vector<double> scores(static_cast<std::size_t>(model.channels.channel_count), 0.0);
  for (const ConstantAxis* read : reads) {
    const Node& node = *find_node(graph, read->node);
    const Tensor& weights = *graph.constant(node.inputs[1]);
    const std::size_t count = read->channels.size();
    std::vector<double> loss =
        by_channel(mean_squares(*moments.at(node.inputs[0])), count,
                   node.op == "Conv" || node.op == "ConvTranspose");
    std::vector<double> norms(count, 0.0);
    std::size_t inner = 1;
    for (std::size_t i = read->axis + 1; i < weights.rank(); ++i)
      inner *= static_cast<std::size_t>(weights.dim(i));
    const auto w = weights.as<float>();
    for (std::size_t i = 0; i < w.size(); ++i)
      norms[i / inner % count] += static_cast<double>(w[i]) * static_cast<double>(w[i]);
    for (std::size_t i = 0; i < count; ++i) loss[i] *= norms[i];
    normalize(loss);
    add_to_channels(loss, read->channels, scores);
  }
  return scores;
}

}  // namespace

const std::vector<std::string>& scores_for(const std::string& structure) {
  static const std::vector<std::string> channels = {"l1", "l2", "bn", "apoz", "mean_output", "taylor"};
  static const std::vector<std::string> weights = {"l1", "l2", "taylor", "wanda"};
  return structure == "channel" ? channels : weights;
}

bool score_needs_data(const std::string& score) {
  return score == "apoz" || score == "mean_output" || score == "taylor" || score == "wanda";
}

bool can_score(const PreparedModel& model, const std::vector<std::string>& layers,
               const std::string& score, std::string& why) {
  if (score == "bn") {
    const bool known = std::any_of(layers.begin(), layers.end(), [&](const std::string& layer) {
      return model.batch_norm_scales.contains(layer);
    });
    if (!known) why = "no batch normalization follows it in the model (a folded one's scale is lost)";
    return known;
  }
  if (score == "apoz" || score == "mean_output") {
    const bool known = std::any_of(layers.begin(), layers.end(), [&](const std::string& layer) {
      const Node* node = find_node(model.graph, layer);
      return node != nullptr && activation_of(model.graph, *node).has_value();
    });
    if (!known) why = "no Relu follows it, behind which its activations would be counted";
    return known;
  }
  return true;
}

Result<std::vector<double>> activation_scores(const PreparedModel& model, const Graph& graph,
                                              const std::string& variant, const std::string& score,
                                              Calibration* calibration) {
  if (score == "bn") {
    std::vector<double> scores(static_cast<std::size_t>(model.channels.channel_count), 0.0);
    for (const auto& [layer, scales] : model.batch_norm_scales) {
      const auto channels = model.channels.outputs.find(layer);
      if (channels == model.channels.outputs.end()) continue;
      std::vector<double> sizes = scales;
      normalize(sizes);
      add_to_channels(sizes, channels->second, scores);
    }
    return scores;
  }
  if (calibration == nullptr) return needs_calibration_data("a plan that prunes by \"" + score + "\"");
  return score == "taylor"
             ? taylor(model, graph, variant, *calibration)
             : behind_relu(model, graph, variant, score == "mean_output", *calibration);
}

Result<std::vector<double>> weight_scores(const Graph& graph, const Node& layer,
                                          const std::string& variant, const std::string& score,
                                          Calibration* calibration) {
  const Tensor& weights = graph.initializers.at(layer.inputs[1]);
  const auto w = weights.as<float>();
  std::vector<double> out(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) out[i] = std::fabs(static_cast<double>(w[i]));
  if (!score_needs_data(score)) return out;
  if (calibration == nullptr) return needs_calibration_data("a plan that prunes by \"" + score + "\"");
  const auto input = LayerInput::of(graph, layer);
  if (!input) return out;
  KERF_ASSIGN(const auto moments, calibration->element_moments(graph, variant, {layer.inputs[0]}));
  const bool convolution = layer.op == "Conv";
  const std::size_t taps = convolution && weights.dim(1) > 0
                               ? input->depth() / static_cast<std::size_t>(weights.dim(1))
                               : 1;
  const std::size_t per_group = input->depth() / taps;
  std::vector<double> squares = by_channel(mean_squares(*moments.at(layer.inputs[0])),
                                           per_group * input->groups(), convolution);
  double mean = std::accumulate(squares.begin(), squares.end(), 0.0) / static_cast<double>(squares.size());
  if (!(mean > 0) || !std::isfinite(mean)) return out;
  const WeightPlace at(layer, weights.shape());
  const std::size_t rows = at.rows / input->groups();
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c) {
      const double square = std::max(squares[r / rows * per_group + c / taps], 1e-12 * mean);
      double& value = out[at(r, c)];
      value *= std::sqrt(square / mean);
      if (score == "taylor") value *= value;
    }
  }
  return out;
}

}  // namespace kerf::compress
