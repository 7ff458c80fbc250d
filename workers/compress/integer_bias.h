#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "workers/graph/graph.h"

namespace kerf::compress {

/// A bias as integers of its layer's sums: real = scale · value.
struct IntegerBias {
  std::vector<std::int32_t> values;  ///< One a channel.
  std::vector<float> scales;         ///< s_x · s_w, one a channel or one for all.
};

/// The bias that the file of a compressed model has for an integer layer, as runtimes fuse it.
///
/// Maths:    value = round(b / (s_x·s_w)), within ±(2^31 − 1); its error is at most s_x·s_w / 2.
/// Returns:  nullopt where the bias stays f32: the node is no layer of integers on both sides, has no
///           constant f32 bias, an integer would saturate or a scale be denormal, or the layer reads
///           signs, whose scale is as large as the values.
[[nodiscard]] std::optional<IntegerBias> integer_bias(const graph::Graph& graph, const graph::Node& node);

/// Gives every integer layer the f32 bias that its integers stand for, so that a candidate computes
/// what its file will: where weights have few bits the step of a sum isn't small beside the output's.
void settle_biases(graph::Graph& graph);

}  // namespace kerf::compress
