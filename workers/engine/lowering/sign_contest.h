#pragma once

#include "workers/engine/kernels/signs.h"
#include "workers/engine/lowering/layer_call.h"

namespace kerf::engine {

/// What find_kernel() was asked for.
struct KernelWanted {
  const Chain* chain = nullptr;
  std::size_t links = 0;
  graph::DType destination = graph::DType::kF32;
  bool by_sum = false;
};

/// Whether a layer of signs is to count bits instead of multiplying bytes with the primitive `bytes`.
///
/// `timed`: both are timed on one thread, each from bytes to floats, where that wasn't done before in this
/// process; otherwise what was found then counts, and without that counting_bits_pays().
/// Threads:  any.
/// Cost:     some milliseconds for each geometry that is new.
[[nodiscard]] bool bits_win(const Values& values, const LayerCall& call, const SignGeometry& geometry, const FoundKernel& bytes,
                            const KernelWanted& wanted);

/// What the sizes say: from 192 products a sum on, and for matrices of a few rows, for which the library's
/// own call takes longest (docs/decisions/0006-layers-of-signs.md has the figures).
[[nodiscard]] bool counting_bits_pays(const SignGeometry& geometry);

}  // namespace kerf::engine
