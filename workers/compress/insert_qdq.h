#pragma once

#include <map>
#include <string>

#include "core/result.h"
#include "workers/compress/activation_ranges.h"
#include "workers/compress/quantize_weights.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// A layer's weights as integers, and whether it runs on integers.
struct QuantizedLayer {
  QuantizedWeights weights;
  int bits = 8;
  bool integer_input = false;  ///< Its data input gets a Q/DQ pair; else only the weights change.
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
/// Needs:    a range for each value that an integer layer reads.
/// Errors:   invalid_argument naming a layer that the graph doesn't have.
[[nodiscard]] Result<graph::Graph> insert_qdq(const graph::Graph& graph,
                                              const std::map<std::string, QuantizedLayer>& layers,
                                              const std::map<std::string, ActivationRange>& ranges);

}  // namespace kerf::compress
