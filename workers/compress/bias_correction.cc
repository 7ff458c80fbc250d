#include "workers/compress/bias_correction.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// Mean of what each tap of the kernel sees of each input channel.
std::vector<double> mean_taps(const std::vector<double>& mean, std::int64_t channels,
                              const std::array<ConvAxis, 3>& axes) {
  const auto& [d, h, w] = axes;
  const std::int64_t taps = d.kernel * h.kernel * w.kernel;
  const double positions = static_cast<double>(d.out * h.out * w.out);
  std::vector<double> out(static_cast<std::size_t>(channels * taps), 0.0);
  const auto for_inside = [](const ConvAxis& axis, std::int64_t k, auto&& visit) {
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
  const auto axes = conv_axes(graph, node, input.sample_shape, before.shape());
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

std::vector<double> mean_change(const Node& layer, const Tensor& before, const Tensor& after,
                                const SecondMoments& moments) {
  const std::vector<double> w = weight_matrix(layer, before);
  const std::vector<double> v = weight_matrix(layer, after);
  const WeightPlace place(layer, before.shape());
  std::vector<double> out(place.rows, 0.0);
  const std::size_t rows = place.rows / std::max<std::size_t>(1, moments.groups);
  for (const MomentBlock& block : moments.blocks) {
    for (std::size_t r = block.group * rows; r < (block.group + 1) * rows; ++r) {
      for (std::size_t c = 0; c < block.columns; ++c) {
        const std::size_t at = r * place.columns + block.begin + c;
        out[r] += (v[at] - w[at]) * block.mean[c];
      }
    }
  }
  return out;
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

bool can_take_bias(const Graph& graph, const Node& layer) {
  if (layer.has_input(2)) {
    const Tensor* bias = graph.constant(layer.inputs[2]);
    return bias != nullptr && bias->dtype() == graph::DType::kF32;
  }
  if (layer.op != "MatMul") return layer.op == "Conv" || layer.op == "Gemm";
  const graph::ValueInfo* input = graph.value(layer.inputs[0]);
  return input != nullptr && input->shape.size() == 2;
}

bool correct_bias(Graph& graph, const std::string& layer, const std::vector<double>& error) {
  Node* node = find_node(graph, layer);
  if (node == nullptr || !can_take_bias(graph, *node) ||
      !std::all_of(error.begin(), error.end(), [](double e) { return std::isfinite(e); })) {
    return false;
  }
  std::vector<float> bias(error.size(), 0.0F);
  if (node->has_input(2)) {
    const auto values = graph.constant(node->inputs[2])->as<float>();
    if (values.size() != 1 && values.size() != error.size()) return false;
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = values[values.size() == 1 ? 0 : i];
  }
  for (std::size_t i = 0; i < bias.size(); ++i) {
    bias[i] = static_cast<float>(static_cast<double>(bias[i]) - error[i]);
    if (!std::isfinite(bias[i])) return false;
  }
  if (node->op == "MatMul") node->op = "Gemm";
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
