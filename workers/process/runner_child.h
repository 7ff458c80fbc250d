#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/child_process.h"
#include "core/json.h"
#include "core/work.h"
#include "workers/process/server_link.h"

namespace kerf::process {

/// What a runner said, or that it is gone.
struct RunnerEvent {
  enum class Kind { kProgress, kResult, kGone };
  Kind kind = Kind::kProgress;
  std::string phase;            ///< kProgress
  double share = 0;             ///< kProgress
  Json result;                  ///< kResult: the answer, null where there is an error
  std::optional<Error> error;   ///< kResult, kGone
  bool retry = false;
};

struct RunnerSetup {
  std::vector<std::string> argv;
  std::string scratch;    ///< The folder that it may write to.
  std::string lock_dir;
  int threads = 1;
  bool sandbox = true;
  std::chrono::milliseconds term_grace{2000};
};

/// The supervisor's side of a runner: starts it with the files it may read, hands it work, tells
/// what it says, stops it. Never blocks for longer than it takes to reap a killed process.
class RunnerChild {
 public:
  explicit RunnerChild(RunnerSetup setup) : setup_(std::move(setup)) {}

  /// Whether a runner is there that may read all of these.
  [[nodiscard]] bool serves(const std::set<std::string>& files) const;

  /// Ends the one that is there, if any, and starts one that may read `files`.
  ///
  /// Errors:   unavailable where no process can be had.
  [[nodiscard]] Result<void> start(const std::set<std::string>& files);

  [[nodiscard]] Result<void> give(const Work& work, const Json& paths);

  /// TERM now, KILL after the grace (in check_time()). Its end comes as an event.
  void stop();
  /// KILL now, and reaps it.
  void kill();
  void check_time(std::chrono::steady_clock::time_point now);
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> next_time() const {
    return kill_at_;
  }

  [[nodiscard]] bool alive() const { return child_.running(); }
  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  [[nodiscard]] int socket() const { return stream_.fd(); }
  [[nodiscard]] bool wants_to_write() const { return stream_.wants_to_write(); }
  [[nodiscard]] int output() const { return child_.stderr_fd(); }

  /// Takes in what there is to read; to be called when one of the descriptors is readable, or a
  /// while has passed.
  [[nodiscard]] std::vector<RunnerEvent> take_events();

 private:
  void read_output();
  [[nodiscard]] std::string last_words() const;

  RunnerSetup setup_;
  ChildProcess child_;
  FrameStream stream_;
  std::set<std::string> files_;
  std::optional<std::chrono::steady_clock::time_point> kill_at_;
  std::deque<std::string> lines_;  ///< The last ones of its stderr.
  std::string line_;
  std::string phase_;
};

}  // namespace kerf::process
