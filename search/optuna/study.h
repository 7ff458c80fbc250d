#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "search/optuna/client.h"

namespace kerf::optuna {

/// Values by parameter.
using Params = std::map<std::string, Json>;

/// A trial that runs: what to try.
struct Trial {
  std::int64_t number = 0;
  Params params;

  /// A parameter's value as T. Throws std::out_of_range for a name that isn't in the space, Json's
  /// type_error for another type.
  template <class T>
  [[nodiscard]] T get(const std::string& name) const {
    return params.at(name).get<T>();
  }
};

/// A trial as the study holds it.
struct FrozenTrial {
  std::int64_t number = 0;
  TrialState state = TrialState::kRunning;
  Params params;
  std::vector<double> values;
  std::vector<double> constraints;
};

/// An optimisation with the real Optuna, in the words of Optuna's own ask-and-tell interface
/// (docs/optuna.md). Search spaces are fixed when the study is made ("define and run").
///
/// Threads:  one at a time. Errors that aren't of the arguments are those of Client.
class Study {
 public:
  /// As Client::create().
  [[nodiscard]] static Result<Study> create(const Problem& problem, BridgeOptions options = {});

  /// The next trial: an enqueued one if there is one, else what the sampler proposes.
  ///
  /// Errors:   failed_precondition where a BruteForceSampler has no point left.
  [[nodiscard]] Result<Trial> ask();
  /// So many at once, in one message to the sampler; each knows of those before it. Fewer where a
  /// BruteForceSampler has fewer points left.
  [[nodiscard]] Result<std::vector<Trial>> ask(std::int64_t count);

  /// A running trial ended with these values. g ≤ 0 is a constraint that is kept.
  ///
  /// Errors:   invalid_argument: no such running trial, not one value an objective, or not as many
  ///           constraints as the complete trials before it. A value that isn't finite makes the trial a
  ///           failed one, as in Optuna.
  [[nodiscard]] Result<void> tell(std::int64_t number, const std::vector<double>& values,
                                  const std::vector<double>& constraints = {});
  /// It ended without values: kPruned or kFailed.
  [[nodiscard]] Result<void> tell(std::int64_t number, TrialState state);

  /// To be asked before anything that the sampler proposes, in the order of these calls.
  ///
  /// Errors:   invalid_argument naming a parameter that is missing, unknown or out of its range.
  [[nodiscard]] Result<void> enqueue_trial(const Params& params);

  /// A finished trial from elsewhere.
  [[nodiscard]] Result<void> add_trial(const FrozenTrial& trial);

  [[nodiscard]] const std::vector<FrozenTrial>& trials() const { return trials_; }

  /// The feasible complete trials that no other dominates, by number. Computed here, not in Python.
  [[nodiscard]] std::vector<FrozenTrial> best_trials() const;

  [[nodiscard]] const Client& client() const { return client_; }

 private:
  explicit Study(Client client) : client_(std::move(client)) {}

  [[nodiscard]] const SearchSpace& space() const { return client_.problem().space; }
  [[nodiscard]] Result<Json> wire(const Params& params) const;
  [[nodiscard]] Result<Params> named(const Json& wire) const;
  [[nodiscard]] Result<FrozenTrial*> running(std::int64_t number);
  [[nodiscard]] Result<void> check_constraints(const std::string& what, std::size_t count) const;
  [[nodiscard]] std::int64_t points_left() const;
  Trial begin(Params params, Json wire);

  Client client_;
  std::vector<FrozenTrial> trials_;
  std::deque<Params> enqueued_;
  std::set<std::string> points_;                  // that trials have, as they are sent
  std::optional<std::size_t> constraint_count_;   // of complete trials
};

/// As optuna.create_study().
[[nodiscard]] inline Result<Study> create_study(const Problem& problem, BridgeOptions options = {}) {
  return Study::create(problem, std::move(options));
}

}  // namespace kerf::optuna
