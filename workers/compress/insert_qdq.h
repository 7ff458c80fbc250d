#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/result.h"
#include "workers/compress/activation_ranges.h"
#include "workers/compress/quantize_weights.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What becomes of the data input of a layer whose weights are integers.
enum class InputForm : std::uint8_t {
  kFloat,    ///< Stays as it is: only the weights change.
  kStatic,   ///< 8 bits, by a range that is chosen beforehand.
  kDynamic,  ///< 8 bits, by the range of what comes.
  kSign,     ///< −1, 0 or +1, times a scale that is chosen beforehand.
};

/// A layer's weights as integers, and what it reads.
struct QuantizedLayer {
  QuantizedWeights weights;
  int bits = 8;
  InputForm input = InputForm::kFloat;
};

/// Puts QuantizeLinear and DequantizeLinear into an f32 graph: plain ONNX, with no other op.
///
/// Weights:  DequantizeLinear(s8 constant, scale, s8 zeros) with the attribute kerf_bits; one for
/// all
///           layers that share a constant and its quantization.
/// Values:   one pair a value that an integer layer reads, right behind its producer. Layers that
///           aren't integer layers go on reading the f32 value; where there are none, everything
///           else (Add, pools, Concat …) reads the dequantized one, so that only integers need to
///           exist. Graph outputs stay f32 values.
///           A dynamic one is DynamicQuantizeLinear and DequantizeLinear, a sign is Sign,
///           QuantizeLinear (scale 1, s8) and DequantizeLinear with the scale; only the layers that
///           ask for them read these.
/// Needs:    a range for each value that a static layer reads, a scale for each value that is read as
///           signs.
/// Errors:   invalid_argument naming a layer that the graph doesn't have.
[[nodiscard]] Result<graph::Graph> insert_qdq(const graph::Graph& graph,
                                              const std::map<std::string, QuantizedLayer>& layers,
                                              const std::map<std::string, ActivationRange>& ranges,
                                              const std::map<std::string, float>& sign_scales = {});

}  // namespace kerf::compress
