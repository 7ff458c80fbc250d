#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "core/child_process.h"
#include "core/json.h"
#include "core/result.h"

namespace kerf::optuna {

/// How the bridge is run.
struct BridgeOptions {
  /// The interpreter, which must have Optuna. Empty: the environment's KERF_PYTHON, else the one
  /// that the build was made with.
  std::string python;
  /// From start to the answer to hello. Importing Optuna takes a second, on a busy machine many.
  std::chrono::milliseconds start_limit{120'000};
  /// For every other answer; so much for each point where several are asked for.
  std::chrono::milliseconds call_limit{120'000};
};

/// The Python process in which Optuna runs: JSON lines, one answer a message, over a socket that is
/// the child's standard input. The program is embedded (bridge.py); nothing is read from the
/// working folder. Every message carries the protocol's number; the other side refuses another one.
///
/// After an error of start() or call() the process is gone.
///
/// Threads:  one at a time. The child dies with the thread that started it (core/child_process.h).
class BridgeProcess {
 public:
  /// Starts it and shakes hands.
  ///
  /// Errors:   unavailable: no such interpreter, no Optuna in it (says how to install it), another
  ///           protocol; deadline_exceeded.
  [[nodiscard]] static Result<BridgeProcess> start(const BridgeOptions& options);

  /// Sends a message and waits for its answer: {"ok": true, …}, `points` times as long as for one. A message that doesn't say which
  /// protocol it is of is of ours.
  ///
  /// Errors:   unavailable: the process died or answered nonsense (with its last words);
  ///           deadline_exceeded. What the bridge refuses: failed_precondition where its Python lacks
  ///           a module that this sampler needs, or for a message of another protocol; else internal.
  [[nodiscard]] Result<Json> call(const Json& message, std::int64_t points = 1);

  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  [[nodiscard]] bool usable() const { return child_.running(); }

 private:
  BridgeProcess() = default;

  [[nodiscard]] Result<Json> exchange(const Json& message, std::chrono::milliseconds limit);
  [[nodiscard]] Result<void> send_line(const std::string& line,
                                       std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] Result<std::string> receive_line(std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] Result<void> wait(short events, std::chrono::steady_clock::time_point deadline);
  void drain_stderr();
  [[nodiscard]] Error gone(const std::string& what);

  ChildProcess child_;
  std::chrono::milliseconds call_limit_{0};
  std::string received_;
  std::string last_words_;
};

}  // namespace kerf::optuna
