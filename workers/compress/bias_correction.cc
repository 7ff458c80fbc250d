#include "workers/compress/bias_correction.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "workers/compress/layer.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// One spatial axis of a convolution.
struct Axis {
  std::int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad = 0;
};

/// The axes of a Conv, filled up to three from the left; nullopt where they aren't all known.
std::optional<std::array<Axis, 3>> axes_of(const Graph& graph, const Node& node,
                                           const Shape& sample, const Tensor& weights) {
  const std::size_t rank = weights.rank() - 2;
  const graph::ValueInfo* out = graph.value(node.outputs[0]);
  if (weights.rank() < 3 || rank > 3 || sample.size() != rank + 1 || out == nullptr ||
      out->shape.size() != rank + 2) {
    return std::nullopt;
  }
  const auto strides = node.integers("strides", std::vector<std::int64_t>(rank, 1));
  const auto dilations = node.integers("dilations", std::vector<std::int64_t>(rank, 1));
  const auto pads = node.integers("pads", std::vector<std::int64_t>(2 * rank, 0));
  const std::string automatic = node.text("auto_pad", "NOTSET");
  if (strides.size() != rank || dilations.size() != rank || pads.size() != 2 * rank)
    return std::nullopt;
  std::array<Axis, 3> axes;
  for (std::size_t i = 0; i < rank; ++i) {
    Axis& axis = axes[3 - rank + i];
    axis = {sample[i + 1], out->shape[i + 2], weights.dim(i + 2),
            strides[i],    dilations[i],      pads[i]};
    if (axis.in < 0 || axis.out < 0) return std::nullopt;
    if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
      const std::int64_t needed =
          (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
      const std::int64_t all = std::max<std::int64_t>(0, needed - axis.in);
      axis.pad = automatic == "SAME_UPPER" ? all / 2 : all - all / 2;
    } else if (automatic == "VALID") {
      axis.pad = 0;
    }
  }
  return axes;
}

/// Mean of what each tap of the kernel sees of each input channel.
std::vector<double> mean_taps(const std::vector<double>& mean, std::int64_t channels,
                              const std::array<Axis, 3>& axes) {
  const auto& [d, h, w] = axes;
  const std::int64_t taps = d.kernel * h.kernel * w.kernel;
  const double positions = static_cast<double>(d.out * h.out * w.out);
  std::vector<double> out(static_cast<std::size_t>(channels * taps), 0.0);
  const auto for_inside = [](const Axis& axis, std::int64_t k, auto&& visit) {
    for (std::int64_t o = 0; o < axis.out; ++o) {
      const std::int64_t i = o * axis.stride + k * axis.dilation - axis.pad;
      if (i >= 0 && i < axis.in) visit(i);
    }
  };
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t t = 0; t < taps; ++t) {
      double sum = 0;
      for_inside(d, t / (h.kernel * w.kernel), [&](std::int64_t z) {
        for_inside(h, t / w.kernel % h.kernel, [&](std::int64_t y) {
          const std::int64_t row = ((c * d.in + z) * h.in + y) * w.in;
          for_inside(w, t % w.kernel,
                     [&](std::int64_t x) { sum += mean[static_cast<std::size_t>(row + x)]; });
        });
      });
      out[static_cast<std::size_t>(c * taps + t)] = positions > 0 ? sum / positions : 0.0;
    }
  }
  return out;
}

std::optional<std::vector<double>> convolution_error(const Graph& graph, const Node& node,
                                                     const Tensor& before, const Tensor& after,
                                                     const ValueStatistics& input) {
  const auto axes = axes_of(graph, node, input.sample_shape, before);
  if (!axes) return std::nullopt;
  const std::int64_t channels = input.sample_shape[0];
  const std::vector<double> mean = input.mean();
  if (mean.size() !=
      static_cast<std::size_t>(channels * (*axes)[0].in * (*axes)[1].in * (*axes)[2].in)) {
    return std::nullopt;
  }
  const std::vector<double> taps = mean_taps(mean, channels, *axes);
  const std::int64_t outputs = before.dim(0);
  const std::int64_t group = std::max<std::int64_t>(1, node.integer("group", 1));
  const std::int64_t row = before.elements() / std::max<std::int64_t>(1, outputs);
  if (row * group != static_cast<std::int64_t>(taps.size()) || outputs % group != 0)
    return std::nullopt;
  const auto w = before.as<float>();
  const auto v = after.as<float>();
  std::vector<double> error(static_cast<std::size_t>(outputs), 0.0);
  for (std::int64_t o = 0; o < outputs; ++o) {
    const std::int64_t first = o / (outputs / group) * row;
    for (std::int64_t i = 0; i < row; ++i) {
      const auto at = static_cast<std::size_t>(o * row + i);
      error[static_cast<std::size_t>(o)] +=
          taps[static_cast<std::size_t>(first + i)] *
          (static_cast<double>(v[at]) - static_cast<double>(w[at]));
    }
  }
  return error;
}

std::optional<std::vector<double>> matrix_error(const Node& node, const Tensor& before,
                                                const Tensor& after, const ValueStatistics& input) {
  if (before.rank() != 2 || node.integer("transA", 0) != 0 || input.sample_shape.empty())
    return std::nullopt;
  const std::size_t out_axis = output_channel_axis(node);
  const auto outputs = static_cast<std::size_t>(before.dim(out_axis));
  const auto depth = static_cast<std::size_t>(before.dim(1 - out_axis));
  const std::vector<double> mean = input.mean();
  if (static_cast<std::size_t>(input.sample_shape.back()) != depth || depth == 0 ||
      mean.size() % depth != 0) {
    return std::nullopt;
  }
  std::vector<double> row(depth, 0.0);  // mean over all rows of a sample
  for (std::size_t i = 0; i < mean.size(); ++i) row[i % depth] += mean[i];
  for (double& value : row) value /= static_cast<double>(mean.size() / depth);
  const auto w = before.as<float>();
  const auto v = after.as<float>();
  std::vector<double> error(outputs, 0.0);
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t k = 0; k < depth; ++k) {
      const std::size_t at = out_axis == 0 ? o * depth + k : k * outputs + o;
      error[o] += row[k] * (static_cast<double>(v[at]) - static_cast<double>(w[at]));
    }
  }
  return error;
}

}  // namespace

std::optional<std::vector<double>> mean_output_error(const Graph& graph, const Node& layer,
                                                     const Tensor& before, const Tensor& after,
                                                     const ValueStatistics& input) {
  if (before.shape() != after.shape() || input.samples == 0) return std::nullopt;
  if (layer.op == "Conv") return convolution_error(graph, layer, before, after, input);
  if (layer.op == "Gemm" || layer.op == "MatMul") return matrix_error(layer, before, after, input);
  return std::nullopt;
}

Tensor spread_weights(const Tensor& whole, const Tensor& reduced, std::size_t output_axis,
                      const std::map<std::size_t, std::vector<bool>>& kept) {
  Tensor out = whole;
  const auto target = out.mutable_as<float>();
  const auto source = reduced.as<float>();
  const std::size_t rank = whole.rank();
  std::vector<std::size_t> at(rank, 0);
  std::size_t next = 0;  // the kept elements come in the order of `reduced`
  for (float& value : target) {
    bool output_stays = true;
    bool input_stays = true;
    for (const auto& [axis, flags] : kept) {
      (axis == output_axis ? output_stays : input_stays) &= static_cast<bool>(flags[at[axis]]);
    }
    if (output_stays) value = input_stays && next < source.size() ? source[next++] : 0.0F;
    for (std::size_t axis = rank; axis-- > 0;) {
      if (++at[axis] < static_cast<std::size_t>(whole.dim(axis))) break;
      at[axis] = 0;
    }
  }
  return out;
}

bool correct_bias(Graph& graph, const std::string& layer, const std::vector<double>& error) {
  Node* node = find_node(graph, layer);
  if (node == nullptr ||
      !std::all_of(error.begin(), error.end(), [](double e) { return std::isfinite(e); })) {
    return false;
  }
  std::vector<float> bias(error.size(), 0.0F);
  if (node->has_input(2)) {
    const Tensor* old = graph.constant(node->inputs[2]);
    if (old == nullptr || old->dtype() != graph::DType::kF32) return false;
    const auto values = old->as<float>();
    if (values.size() != 1 && values.size() != error.size()) return false;
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = values[values.size() == 1 ? 0 : i];
  }
  for (std::size_t i = 0; i < bias.size(); ++i) {
    bias[i] = static_cast<float>(static_cast<double>(bias[i]) - error[i]);
    if (!std::isfinite(bias[i])) return false;
  }
  if (node->op == "MatMul") {
    const graph::ValueInfo* input = graph.value(node->inputs[0]);
    if (input == nullptr || input->shape.size() != 2) return false;
    node->op = "Gemm";
  }
  Tensor tensor = Tensor::f32({static_cast<std::int64_t>(bias.size())}, bias);
  if (node->has_input(2)) {
    set_constant(graph, *node, 2, std::move(tensor));
  } else {
    const std::string name = graph.fresh_name(layer + ".bias");
    node->inputs.resize(3);
    node->inputs[2] = name;
    graph.initializers[name] = std::move(tensor);
  }
  return true;
}

}  // namespace kerf::compress
