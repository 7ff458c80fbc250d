#include "workers/compress/layer_input.h"

#include <algorithm>

#include "workers/compress/layer.h"

namespace kerf::compress {

using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

std::optional<std::array<ConvAxis, 3>> conv_axes(const Graph& graph, const Node& node,
                                                 const Shape& sample, const Shape& weights) {
  if (weights.size() < 3) return std::nullopt;
  const std::size_t rank = weights.size() - 2;
  const graph::ValueInfo* out = graph.value(node.outputs[0]);
  if (rank > 3 || sample.size() != rank + 1 || out == nullptr || out->shape.size() != rank + 2) {
    return std::nullopt;
  }
  const auto strides = node.integers("strides", std::vector<std::int64_t>(rank, 1));
  const auto dilations = node.integers("dilations", std::vector<std::int64_t>(rank, 1));
  const auto pads = node.integers("pads", std::vector<std::int64_t>(2 * rank, 0));
  const std::string automatic = node.text("auto_pad", "NOTSET");
  if (strides.size() != rank || dilations.size() != rank || pads.size() != 2 * rank)
    return std::nullopt;
  std::array<ConvAxis, 3> axes;
  for (std::size_t i = 0; i < rank; ++i) {
    ConvAxis& axis = axes[3 - rank + i];
    axis = {sample[i + 1], out->shape[i + 2], weights[i + 2], strides[i], dilations[i], pads[i]};
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

std::optional<LayerInput> LayerInput::of(const Graph& graph, const Node& layer) {
  const Tensor* weights = graph.constant(weights_of(graph, layer));
  if (weights == nullptr || weights->elements() == 0) return std::nullopt;
  LayerInput out;
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  if (layer.op == "Gemm" || layer.op == "MatMul") {
    if (weights->rank() != 2 || layer.integer("transA", 0) != 0) return std::nullopt;
    const std::size_t axis = output_channel_axis(layer);
    out.outputs_ = size(weights->dim(axis));
    out.depth_ = size(weights->dim(1 - axis));
    out.item_size_ = out.depth_;
    return out;
  }
  const graph::ValueInfo* input = graph.value(layer.inputs[0]);
  if (layer.op != "Conv" || input == nullptr || input->shape.size() != weights->rank()) {
    return std::nullopt;
  }
  const Shape sample(input->shape.begin() + 1, input->shape.end());
  const auto axes = conv_axes(graph, layer, sample, weights->shape());
  const std::int64_t groups = std::max<std::int64_t>(1, layer.integer("group", 1));
  if (!axes || weights->dim(0) % groups != 0 || sample[0] != groups * weights->dim(1)) {
    return std::nullopt;
  }
  out.convolution_ = true;
  out.axes_ = *axes;
  out.groups_ = size(groups);
  out.outputs_ = size(weights->dim(0) / groups);
  out.depth_ = size(weights->elements() / weights->dim(0));
  const auto& [d, h, w] = *axes;
  out.item_size_ = size(sample[0] * d.in * h.in * w.in);
  out.positions_ = size(d.out * h.out * w.out);
  if (out.positions_ == 0 || out.item_size_ == 0) return std::nullopt;
  return out;
}

void LayerInput::read(const float* item, std::size_t group, std::size_t position,
                      float* row) const {
  if (!convolution_) {
    std::copy_n(item, depth_, row);
    return;
  }
  const auto& [d, h, w] = axes_;
  const auto p = static_cast<std::int64_t>(position);
  const std::int64_t z0 = p / (h.out * w.out) * d.stride - d.pad;
  const std::int64_t y0 = p / w.out % h.out * h.stride - h.pad;
  const std::int64_t x0 = p % w.out * w.stride - w.pad;
  const std::int64_t plane = d.in * h.in * w.in;
  const std::int64_t channels =
      static_cast<std::int64_t>(depth_) / (d.kernel * h.kernel * w.kernel);
  const float* channel = item + static_cast<std::int64_t>(group) * channels * plane;
  for (std::int64_t c = 0; c < channels; ++c, channel += plane) {
    for (std::int64_t kz = 0; kz < d.kernel; ++kz) {
      const std::int64_t z = z0 + kz * d.dilation;
      for (std::int64_t ky = 0; ky < h.kernel; ++ky) {
        const std::int64_t y = y0 + ky * h.dilation;
        const bool inside = z >= 0 && z < d.in && y >= 0 && y < h.in;
        const float* line = inside ? channel + (z * h.in + y) * w.in : nullptr;
        for (std::int64_t kx = 0; kx < w.kernel; ++kx) {
          const std::int64_t x = x0 + kx * w.dilation;
          *row++ = inside && x >= 0 && x < w.in ? line[x] : 0.0F;
        }
      }
    }
  }
}

WeightPlace::WeightPlace(const Node& layer, const Shape& weights) {
  std::int64_t all = 1;
  for (const std::int64_t dim : weights) all *= dim;
  const std::size_t axis = layer.op == "Conv" ? 0 : output_channel_axis(layer);
  rows = static_cast<std::size_t>(weights[axis]);
  columns = rows == 0 ? 0 : static_cast<std::size_t>(all) / rows;
  by_columns = axis != 0;
}

std::vector<double> weight_matrix(const Node& layer, const Tensor& weights) {
  const WeightPlace at(layer, weights.shape());
  const auto values = weights.as<float>();
  std::vector<double> out(values.size());
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c)
      out[r * at.columns + c] = static_cast<double>(values[at(r, c)]);
  }
  return out;
}

Tensor weights_from(const Node& layer, const Tensor& like, std::span<const double> matrix) {
  const WeightPlace at(layer, like.shape());
  Tensor out(graph::DType::kF32, like.shape());
  const auto values = out.mutable_as<float>();
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c)
      values[at(r, c)] = static_cast<float>(matrix[r * at.columns + c]);
  }
  return out;
}

}  // namespace kerf::compress
