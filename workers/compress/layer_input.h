#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "workers/graph/graph.h"

namespace kerf::compress {

/// One spatial axis of a convolution.
struct ConvAxis {
  std::int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad = 0;
};

/// The axes of a Conv with weights of this shape, filled up to three from the left; nullopt where
/// they aren't all known. `sample`: shape of its input without the batch.
[[nodiscard]] std::optional<std::array<ConvAxis, 3>> conv_axes(const graph::Graph& graph,
                                                               const graph::Node& node,
                                                               const graph::Shape& sample,
                                                               const graph::Shape& weights);

/// A Conv, Gemm or MatMul as a product of matrices: y[p, o] = Σ_k w[o, k] · x[p, k] + b[o].
///
/// A row x[p] is what the kernel sees at one output position (im2col), zeros of the padding
/// included; of a Gemm or MatMul it is one row of the input. A grouped convolution has one such
/// product a group; a depthwise one has as many as channels.
class LayerInput {
 public:
  /// nullopt for other ops, for weights that aren't a constant, for a transposed left side, for
  /// matrices of another rank than 2, and where a shape isn't known.
  [[nodiscard]] static std::optional<LayerInput> of(const graph::Graph& graph,
                                                    const graph::Node& layer);

  [[nodiscard]] std::size_t groups() const { return groups_; }
  [[nodiscard]] std::size_t depth() const { return depth_; }      ///< Of one group's rows.
  [[nodiscard]] std::size_t outputs() const { return outputs_; }  ///< Of one group.
  [[nodiscard]] std::size_t item_size() const { return item_size_; }  ///< Elements of one input.
  [[nodiscard]] std::size_t positions() const { return positions_; }  ///< Rows of one item.

  /// Writes row `position` of a group: depth() elements.
  void read(const float* item, std::size_t group, std::size_t position, float* row) const;

  /// Where an output channel lies in an item of the layer's output, at a position.
  [[nodiscard]] std::size_t output_place(std::size_t channel, std::size_t position) const {
    return convolution_ ? channel * positions_ + position : channel;
  }

 private:
  bool convolution_ = false;
  std::size_t groups_ = 1, depth_ = 0, outputs_ = 0, item_size_ = 0, positions_ = 1;
  std::array<ConvAxis, 3> axes_;
};

/// A layer's weights as rows of one output channel each: [outputs, depth], groups one after another.
[[nodiscard]] std::vector<double> weight_matrix(const graph::Node& layer,
                                                const graph::Tensor& weights);

/// The way back; `like`: a tensor of the shape that is wanted.
[[nodiscard]] graph::Tensor weights_from(const graph::Node& layer, const graph::Tensor& like,
                                         std::span<const double> matrix);

/// Where element (row, column) of weight_matrix() lies in the weights.
struct WeightPlace {
  std::size_t rows = 0, columns = 0;
  bool by_columns = false;  ///< Stored [columns, rows].

  WeightPlace(const graph::Node& layer, const graph::Shape& weights);
  [[nodiscard]] std::size_t operator()(std::size_t row, std::size_t column) const {
    return by_columns ? column * rows + row : row * columns + column;
  }
};

}  // namespace kerf::compress
