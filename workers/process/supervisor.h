#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"

namespace kerf::process {

/// How a worker runs. Durations are bounds, in milliseconds unless they say otherwise.
struct WorkerOptions {
  std::string connect;  ///< "unix:/path", "tcp:host:port", "host:port".
  std::string token;    ///< For TCP.
  std::string name;     ///< Empty = host:pid.
  std::map<std::string, std::string> labels;
  int threads = 1;                        ///< That a measurement may use.
  std::vector<int> cpus;                  ///< Pinned to these; empty = as started.
  std::string cache_dir;                  ///< Files of remote studies; empty = $XDG_CACHE_HOME/kerf.
  std::string lock_dir;                   ///< Of the host-wide lock; empty = the measure room's own.
  std::vector<std::string> runner_argv;   ///< Empty = {this program, "runner"}.
  bool sandbox = true;
  std::chrono::milliseconds connect_limit{60000};  ///< Without any connection: give up.
  std::chrono::milliseconds progress_limit{900000};///< A runner without progress is killed.
  std::chrono::milliseconds work_limit{7200000};   ///< For one piece of work altogether.
  std::chrono::milliseconds term_grace{2000};      ///< Between TERM and KILL of a runner.
  std::chrono::milliseconds hello_limit{10000};
  std::uint64_t cache_bytes = 8ULL << 30U;         ///< Older files go beyond this.
  bool exit_when_idle_disconnected = false;        ///< End at the first lost connection.
};

/// A worker: connects, takes work, has a runner do it, reports. Returns the exit code when it was
/// told to end (SIGTERM, SIGINT: 0), was refused (2), or the server couldn't be reached for
/// `connect_limit` (1).
///
/// The runner may crash, hang or be killed: that is the work's outcome, retried elsewhere.
/// Threads:  runs in the caller's, which must be the one that lives as long as the process.
[[nodiscard]] int run_supervisor(const WorkerOptions& options);

/// "0,2-3" -> {0, 2, 3}.
///
/// Errors:   invalid_argument.
[[nodiscard]] Result<std::vector<int>> parse_cpu_list(const std::string& text);

/// "k=v" into a map.
[[nodiscard]] Result<void> add_label(const std::string& text, std::map<std::string, std::string>& labels);

}  // namespace kerf::process
