#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/measure/batch_runner.h"
#include "workers/measure/host_lock.h"

namespace kerf::measure {

/// Times the steps of several executors beside each other: they take turns of a millisecond or two, so
/// that drift cancels, and a step's time is the lower quartile of its runs, as what disturbs a run only
/// makes it longer. Executors whose steps are the same kernels on the same sizes (8-bit weights that
/// run in f32, say) are timed once.
///
/// Cost:     4 ms or eight runs of each distinct executor, whichever is more.
class StepTimes {
 public:
  /// Where the machine is to be had alone; `locked` is told how long it was waited for, in ms.
  struct Lock {
    HostLock* lock = nullptr;  ///< Null: none is needed.
    WaitLimits wait;
    std::function<void(const char* phase)> phase;
    std::function<void(double)> waited;
  };

  /// Takes an executor whose inputs are loaded, and runs it once. Returns its index.
  std::size_t add(Compiled compiled);

  /// What time() will take about.
  [[nodiscard]] double seconds_left() const;

  /// Errors:   cancelled; those of the lock.
  [[nodiscard]] Result<void> time(int threads, const std::function<bool()>& cancelled, const Lock& lock);

  /// Microseconds of each step; 0 where nothing was timed.
  [[nodiscard]] std::vector<double> us(std::size_t index) const;
  [[nodiscard]] const engine::Executor& executor(std::size_t index) const { return all_[index].compiled.executor(); }

 private:
  struct Timed {
    Compiled compiled;
    std::size_t like = 0;                     ///< The one that is timed for it.
    double run_us = 0;                        ///< Of the first run.
    std::vector<std::vector<double>> times;   ///< By step.
    double spent_us = 0;

    [[nodiscard]] std::size_t runs() const { return times.empty() ? 0 : times.front().size(); }
    [[nodiscard]] bool wants_more() const;
    void time_some();
  };

  std::vector<Timed> all_;
  std::map<std::string, std::size_t> by_kernels_;
};

}  // namespace kerf::measure
