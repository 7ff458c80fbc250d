#pragma once

#include "workers/engine/kernels/signs.h"
#include "workers/engine/lowering/layer_call.h"

namespace kerf::engine {

/// A layer whose weights are -1 or 1 (or 0 for a whole output) and whose input a Sign gave.
struct SignLayer {
  SignGeometry geometry;
  std::array<std::int64_t, 4> weight_strides{};  ///< Of output, channel, row and column in LayerCall::weights_data.
  std::vector<std::int32_t> alive;               ///< See SignFinish; empty: all are.
};

/// The call as a product of signs; nullopt where it is none, or has groups, three spatial axes, or bytes
/// as a result. `call` has been through choose_integer() and place_input().
[[nodiscard]] std::optional<SignLayer> sign_layer(const Values& values, const LayerCall& call);

/// Whether the first links do nothing but what SignFinish does as the library does it, to the bit.
[[nodiscard]] bool sign_links(const Chain& chain, std::size_t links);

/// Emits the step that does the layer by counting bits, with the first links of the chain, to f32 or bf16. The result
/// is that of the library's kernel for bytes, to the bit.
[[nodiscard]] Result<Rep> emit_sign_layer(Values& values, const LayerCall& call, const SignLayer& layer, const Chain& chain, std::size_t links,
                                          graph::DType destination);

}  // namespace kerf::engine
