#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/json.h"
#include "core/metric.h"
#include "core/result.h"
#include "core/trial.h"
#include "search/optuna/bridge_process.h"
#include "search/optuna/distributions.h"
#include "search/optuna/samplers.h"

namespace kerf::optuna {

/// What a sampler is asked about.
struct Problem {
  SearchSpace space;
  std::vector<Direction> directions;  ///< One an objective; at least one.
  Sampler sampler = TPESampler{};
  std::int64_t seed = 1;
};

/// A finished trial in the words of the wire: params are one value a parameter, in the space's order,
/// a number or the index of a choice.
struct ToldTrial {
  Json params;
  TrialState state = TrialState::kComplete;  ///< kComplete, kPruned or kFailed.
  std::vector<double> values;                ///< One an objective; empty unless complete.
  std::vector<double> constraints;           ///< g ≤ 0 is feasible.
};

/// The samplers of a Python's Optuna, without the words of a study: finished and running trials go in,
/// points come out.
///
/// All that was told is kept here: a process that died is started again and told everything, inside
/// suggest(). Every suggestion is a function of the problem, the finished trials in the order of their
/// tells, the running ones in the order of their starts, and the question.
///
/// Threads:  one at a time.
class Client {
 public:
  /// Errors:   invalid_argument for a space or sampler that can't be; as BridgeProcess::start();
  ///           failed_precondition where the Python lacks what this sampler needs beyond Optuna
  ///           (scipy, torch).
  [[nodiscard]] static Result<Client> create(const Problem& problem, BridgeOptions options = {});

  /// A trial runs from now on.
  void started(Json params);

  /// A trial ended; where one with these params was running, it no longer is. A complete trial with a
  /// value that isn't finite, or not one an objective, is told as failed: Optuna never sees it.
  void ended(ToldTrial trial);

  /// `count` points to try next, each as if those before it were running; they aren't noted as such.
  /// Another `attempt` gives others. `answered`: proposals of earlier attempts whose outcome is known;
  /// Optuna hears of it for this question only.
  ///
  /// Errors:   unavailable, deadline_exceeded where the process can't be had after three starts;
  ///           internal for what the bridge refuses.
  [[nodiscard]] Result<std::vector<Json>> suggest(std::int64_t count, std::int64_t attempt = 0,
                                                  std::span<const ToldTrial> answered = {});

  /// The process that serves now; for tests that kill it.
  [[nodiscard]] std::optional<pid_t> bridge_pid() const;

  [[nodiscard]] const Problem& problem() const { return problem_; }

 private:
  Client(Problem problem, BridgeOptions options)
      : problem_(std::move(problem)), options_(std::move(options)) {}

  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> synchronize();
  [[nodiscard]] Result<std::vector<Json>> ask(const Json& question, std::int64_t count);
  [[nodiscard]] Json wire(const ToldTrial& trial) const;

  Problem problem_;
  BridgeOptions options_;
  std::vector<Json> told_;     // in the order of tells, as the bridge reads them
  std::vector<Json> running_;  // params, in the order of starts
  std::size_t sent_ = 0;       // of told_, to the present process
  bool running_sent_ = true;
  std::optional<BridgeProcess> bridge_;
};

}  // namespace kerf::optuna
