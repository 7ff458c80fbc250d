#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/tensor.h"

namespace kerf::data {

/// How the axes of a rank-4 array move.
enum class Turn { kNone, kChannelsFirst /* NHWC -> NCHW */, kChannelsLast /* NCHW -> NHWC */ };

/// x = (raw × scale − mean) / std with one mean and std a channel.
struct Affine {
  double scale = 1;
  std::vector<double> mean;  ///< One a channel.
  std::vector<double> std;
};

/// A float conversion of whole arrays.
struct FloatConversion {
  Turn turn = Turn::kNone;
  bool channels_last = false;    ///< After the turn.
  std::int64_t channels = 1;     ///< After the turn; divides a sample's elements.
  std::optional<Affine> affine;  ///< None = values as they are.
};

/// Raw numbers of any type -> f32 [as turned], row-major. `where` starts messages ("eval.npz: x").
///
/// Errors:   invalid_argument naming the sample that holds NaN or Inf, or leaves f32's range.
[[nodiscard]] Result<graph::Tensor> to_model_floats(const graph::Tensor& raw,
                                                    const FloatConversion& conversion,
                                                    const std::string& where);

/// Raw numbers of any type -> integers of `dtype`, every value kept.
///
/// Errors:   invalid_argument naming sample and value.
[[nodiscard]] Result<graph::Tensor> to_model_integers(const graph::Tensor& raw, graph::DType dtype,
                                                      const std::string& where);

}  // namespace kerf::data
