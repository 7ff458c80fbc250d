#pragma once

#include <dnnl.hpp>

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/layers.h"

namespace kerf::engine {

/// A layer made ready for oneDNN: everything but its destination and post-ops.
struct LayerCall {
  enum class Kind : std::uint8_t { kConv, kTransposed, kMatrix } kind = Kind::kConv;
  const graph::Node* node = nullptr;
  std::string executes_as;
  Rep input;
  Numeric input_numeric;
  std::optional<DynamicRep> dynamic;  ///< The input's scale and zero point are made at run time.
  Layout layout = Layout::kPlain;  ///< Of input and output.
  graph::Shape input_dims, output_dims;   ///< As the primitive sees them.
  graph::Shape value_dims;                ///< As the graph sees the output.
  dnnl::memory::desc weights;      ///< As they are given.
  graph::Tensor weights_data;
  std::vector<float> weight_scales;  ///< Of an integer layer.
  int weight_mask = 0;
  int weight_zero = 0;  ///< Of an integer layer; a convolution's is made up for by a step of its own.
  std::vector<float> bias;
  Window window;
};

/// A kernel that was found for a call with some of its chain.
struct FoundKernel {
  dnnl::primitive_desc_base descriptor;
  std::string kernel;
  dnnl::memory::desc source, weights, bias, destination, scratchpad;
  enum class Residual : std::uint8_t { kNone, kSum, kBinary } residual = Residual::kNone;
  int residual_index = 0;
  std::size_t residual_link = 0;
  Numeric residual_numeric;
};

[[nodiscard]] inline bool is_8_bit(graph::DType dtype) { return dtype == graph::DType::kU8 || dtype == graph::DType::kS8; }
/// The library's plain loops, which only a layer without another kernel takes.
[[nodiscard]] inline bool is_slow(const FoundKernel& found) { return found.kernel.starts_with("ref"); }

/// A constant bias as one f32 a channel; nullopt for any other.
[[nodiscard]] std::optional<std::vector<float>> constant_bias(const graph::Graph& graph, const std::string& value, std::int64_t channels);

/// Fills what doesn't depend on the number format: dims, window, bias. False for a form that no primitive has.
[[nodiscard]] Result<bool> describe_layer(Values& values, const graph::Node& node, const LayerWeights& weights, LayerCall& call);

/// What a layer computes in.
enum class Arithmetic : std::uint8_t { kInteger, kBf16, kF32 };

/// Fills what does. False where the layer has no such form: for integers, where input and weights aren't there
/// as such or this processor's sums of them aren't exact; for bf16, where the layer doesn't ask for it.
[[nodiscard]] bool choose(Values& values, const graph::Node& node, const LayerWeights& weights, Arithmetic arithmetic, LayerCall& call);

/// The weights' descriptor, after the choice.
void describe_weights(const graph::Node& node, LayerCall& call);

/// Weights and their scales as the library is to get them, after describe_weights().
///
/// Where a processor has no VNNI, its convolutions of s8 halve the weights, so that sums of two products fit
/// 16 bits: weights of 1 would be 0 then. They are given twice, at half the scale; choose() took none that s8
/// can't hold so.
struct ByteWeights {
  graph::Tensor integers;
  std::vector<float> scales;
};
[[nodiscard]] ByteWeights byte_weights(const LayerCall& call);

/// Asks the library for the call with the first `links` links of the chain and, at their end, its
/// quantization; nullopt where it has none. `by_sum`: a residual lies in the destination.
[[nodiscard]] std::optional<FoundKernel> find_kernel(const Values& values, const LayerCall& call, const Chain& chain, std::size_t links,
                                                     bool quantize, graph::DType destination, bool by_sum);

}  // namespace kerf::engine
