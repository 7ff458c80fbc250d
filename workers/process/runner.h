#pragma once

#include <functional>

#include "core/json.h"
#include "core/result.h"
#include "core/work.h"

namespace kerf::process {

/// The descriptor that a supervisor gives its runner.
inline constexpr int kRunnerSocket = 3;

struct RunnerOptions {
  /// Does the work; empty = the real thing (models, engine, measurement). Tests of the processes
  /// put in what crashes, hangs or answers on demand.
  std::function<Result<Json>(const Work& work, const Json& paths, const std::string& scratch,
                             const std::function<void(const std::string& phase, double share)>& progress)>
      execute;
};

/// A runner: takes pieces of work from the supervisor over `socket_fd`, one at a time, until that
/// closes. The first frame says which files and folders are its own; the sandbox is entered then,
/// before any byte of a model is read. Returns the exit code.
///
/// Frames:   docs/protocol.md, "Supervisor and runner".
[[nodiscard]] int run_runner(int socket_fd, const RunnerOptions& options);

}  // namespace kerf::process
