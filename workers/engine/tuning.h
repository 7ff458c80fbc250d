#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/result.h"
#include "workers/engine/lanes.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// The way to run a batch that is fastest here, found by timing: how it is cut, how many lanes, on how
/// many threads each step (see Cut). `rows` says that samples are independent, so that a batch may be cut.
///
/// Several threads are timed only while they have cores of their own (CoreProbe): a phase in which
/// they don't is waited out for up to 300 ms. Where it stays, what is taken follows from sizes
/// and from times on one thread, which such a phase leaves alone.
///
/// Errors:   those of Lanes::make.
/// Cost:     up to eight cuts are compiled, and timed for 150 ms or three rounds each of a run or two.
[[nodiscard]] Result<std::unique_ptr<Lanes>> tuned_lanes(const graph::Graph& graph, std::int64_t batch, int threads,
                                                         bool rows);

/// Ways to cut a batch that may pay, the best guess first. A micro-batch whose activations stay in the
/// second-level cache beats a long batch; whole samples on each thread beat threads that share every layer.
[[nodiscard]] std::vector<Cut> possible_cuts(std::int64_t batch, int threads, std::int64_t arena_bytes_of_sample);

/// The largest divisor of `batch` that isn't above `limit`.
[[nodiscard]] std::int64_t divisor(std::int64_t batch, std::int64_t limit);

}  // namespace kerf::engine
