#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kerf::scheduler {

struct LauncherOptions {
  std::vector<std::string> argv;   ///< The worker's program and fixed arguments, up to --connect.
  std::string connect;             ///< Address, as Scheduler::listen_unix returned it.
  std::string token;               ///< Into the environment as KERF_WORKER_TOKEN; empty = none.
  int workers = 1;
  int threads = 1;                 ///< Processors a worker is pinned to.
  std::vector<int> cpus;           ///< To share out; empty = those this process may run on.
  std::map<std::string, std::string> labels;
  std::string log_dir;             ///< worker-<n>.log are appended there (moved to .1 over 8 MiB).
  std::chrono::milliseconds first_backoff{200};   ///< Doubled with each death in a row …
  std::chrono::milliseconds longest_backoff{30000}; ///< … up to this.
  std::chrono::milliseconds healthy_after{20000}; ///< A worker that lived so long starts afresh.
  std::chrono::milliseconds stop_grace{3000};     ///< Between TERM and KILL at the end.
};

/// Local workers: child processes `argv… --connect ADDR --cpus LIST --threads K --label k=v`, each
/// in a group of its own, started again when they die.
///
/// Workers are pinned to processors of their own as far as there are enough; beyond that they share
/// them in turn.
/// Threads:  start() makes one that owns the children (their death signal follows it).
class LocalLauncher {
 public:
  explicit LocalLauncher(LauncherOptions options);
  ~LocalLauncher();  ///< stop()
  LocalLauncher(const LocalLauncher&) = delete;
  LocalLauncher& operator=(const LocalLauncher&) = delete;

  void start();
  void stop();

  /// Deaths so far, for status.
  [[nodiscard]] std::int64_t restarts() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The processors this process may run on, ascending.
[[nodiscard]] std::vector<int> allowed_cpus();

/// "0,2-3" for processors.
[[nodiscard]] std::string cpu_list(const std::vector<int>& cpus);

}  // namespace kerf::scheduler
