#pragma once

#include "workers/engine/lowering/chains.h"
#include "workers/engine/lowering/values.h"

namespace kerf::engine {

/// What a layer's step left undone of its chain.
struct LayerOutcome {
  Rep rep;                   ///< What the step gives.
  std::size_t links = 0;     ///< How many links of the chain it does.
  bool quantized = false;    ///< Whether it does the chain's QuantizeLinear as well.
};

/// Lowers Conv, ConvTranspose, Gemm and MatMul with constant weights to one oneDNN primitive, with
/// as much of the chain as the primitive takes. nullopt for a form that no primitive has.
///
/// `bf16_output`: all that read the chain's output take bf16.
[[nodiscard]] Result<std::optional<LayerOutcome>> lower_layer(Values& values, const Chain& chain, bool bf16_output);

/// What a product of two values reads and gives.
struct ProductTypes {
  bool bf16 = false;  ///< The factors are taken as bf16, where they aren't bytes.
  Numeric output;     ///< f32, bf16 (with factors of bf16), or bytes (of bytes).
};
/// MatMul of two values. Factors that are both there as bytes are multiplied as integers. False where no
/// primitive does it, or none gives bytes.
[[nodiscard]] Result<bool> lower_matmul(Values& values, const graph::Node& node, const ProductTypes& types);
/// Gemm whose weights or whose form no layer takes: weights that aren't constant, transA.
[[nodiscard]] Result<bool> lower_gemm(Values& values, const graph::Node& node);
/// Conv and ConvTranspose whose weights or bias are values, not constants; weights that are get packed
/// before the model runs, others each time. False for a form that no primitive has.
[[nodiscard]] Result<bool> lower_open_convolution(Values& values, const graph::Node& node);
/// GlobalAveragePool, and ReduceMean over all spatial axes, to f32 or to bytes. False for other axes.
[[nodiscard]] Result<bool> lower_mean(Values& values, const graph::Node& node, const std::optional<Numeric>& quantize);
/// BatchNormalization, to bf16 where `bf16_output` and it reads that. False where its numbers aren't constant.
[[nodiscard]] Result<bool> lower_batch_norm(Values& values, const graph::Node& node, bool bf16_output);
/// Max, Min, Sum, Mean of any number of floats. False for another op or type.
[[nodiscard]] Result<bool> lower_variadic(Values& values, const graph::Node& node);
/// MaxPool, AveragePool, GlobalMaxPool. False for a form that no primitive has.
[[nodiscard]] Result<bool> lower_pool(Values& values, const graph::Node& node);
/// LpPool and GlobalLpPool.
[[nodiscard]] Result<bool> lower_lp_pool(Values& values, const graph::Node& node);
/// Softmax and LogSoftmax to f32, bf16 or bytes. False where no primitive does it.
[[nodiscard]] Result<bool> lower_softmax(Values& values, const graph::Node& node, const Numeric& wanted);

/// A layer's weights as they are given.
struct LayerWeights {
  graph::Tensor real;                  ///< f32.
  graph::Tensor integers;              ///< s8; empty where integer kernels can't take them.
  std::vector<float> scales;           ///< One, or one an output channel.
  int zero = 0;                        ///< Of the integers, where they don't fit s8 without it.
  int bits = 32;                       ///< Below 32: the weights were rounded.
};
[[nodiscard]] Result<LayerWeights> layer_weights(const graph::Graph& graph, const graph::Node& node);

}  // namespace kerf::engine
