#pragma once

#include <memory>

#include "workers/engine/lane_pool.h"

namespace kerf::engine {

/// Says whether as many threads as asked for get as many cores.
///
/// Two cores of a virtual machine may for seconds be two threads of one core of its host, or take
/// turns on it: whatever runs on two threads then takes up to twice its time, and nothing that the
/// kernel counts shows it. A loop of multiplications that a core's units are full with does: it is timed
/// on one thread and on all at the same time.
///
/// Threads:  one caller at a time.
class CoreProbe {
 public:
  /// Throws std::system_error where no thread can be had.
  explicit CoreProbe(int threads);

  /// Whether the threads are in each other's way now. Some 0.3 ms.
  [[nodiscard]] bool shared();

  /// Keeps all cores busy until they aren't shared, which tells the host that all are wanted; false
  /// where they still are after `most_ms`.
  [[nodiscard]] bool wait_until_apart(int most_ms);

 private:
  [[nodiscard]] double slowest_us(int threads);
  LanePool pool_;
  int threads_;
};

}  // namespace kerf::engine
