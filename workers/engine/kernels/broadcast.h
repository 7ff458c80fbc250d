#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/parallel.h"

namespace kerf::engine {

/// A dense row-major result with `Count` operands that NumPy's rule spreads over it, neighbouring
/// dimensions merged where all walk them alike. The last dimension is the run that a kernel does at
/// once; an operand's stride there is 0 (one value for all of it), 1, or something else.
template <std::size_t Count>
struct Broadcast {
  std::array<std::int64_t, 16> dims{};
  std::array<std::array<std::int64_t, Count>, 16> strides{};
  std::size_t rank = 0;
  int threads = 1;

  /// Ranks up to 16. Every extent is at least 1.
  Broadcast(const graph::Shape& shape, const std::array<graph::Shape, Count>& operands, int team) : threads(team) {
    std::array<graph::Shape, Count> own;
    for (std::size_t k = 0; k < Count; ++k) own[k] = broadcast_strides(operands[k], shape);
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 1) continue;
      bool merge = rank > 0;
      for (std::size_t k = 0; merge && k < Count; ++k) merge = strides[rank - 1][k] == own[k][d] * shape[d];
      if (!merge) dims[rank++] = 1;
      dims[rank - 1] *= shape[d];
      for (std::size_t k = 0; k < Count; ++k) strides[rank - 1][k] = own[k][d];
    }
    if (rank == 0) {
      rank = 1;
      dims[0] = 1;
    }
  }

  [[nodiscard]] const std::array<std::int64_t, Count>& run_strides() const { return strides[rank - 1]; }

  /// f(offset in the result, offsets in the operands, elements) for each run or part of one.
  template <class F>
  void each_run(F&& f) const {
    constexpr std::int64_t kPart = 16384;
    const std::int64_t run = dims[rank - 1];
    const std::int64_t parts = (run + kPart - 1) / kPart;
    std::int64_t outer = parts;
    for (std::size_t d = 0; d + 1 < rank; ++d) outer *= dims[d];
    const std::int64_t tasks = threads > 1 ? std::min<std::int64_t>(outer, 64) : 1;
    const std::int64_t work = outer / tasks * std::min(run, kPart);
    parallel_for(static_cast<std::size_t>(tasks), static_cast<std::size_t>(work), threads, [&](std::size_t task) {
      const auto t = static_cast<std::int64_t>(task);
      for (std::int64_t i = outer * t / tasks; i < outer * (t + 1) / tasks; ++i) {
        const std::int64_t first = i % parts * kPart;
        std::int64_t rest = i / parts;
        const std::int64_t to = rest * run + first;
        std::array<std::int64_t, Count> from;
        for (std::size_t k = 0; k < Count; ++k) from[k] = first * strides[rank - 1][k];
        for (std::size_t d = rank - 1; d-- > 0;) {
          const std::int64_t index = rest % dims[d];
          rest /= dims[d];
          for (std::size_t k = 0; k < Count; ++k) from[k] += index * strides[d][k];
        }
        f(to, from, std::min(kPart, run - first));
      }
    });
  }
};

}  // namespace kerf::engine
