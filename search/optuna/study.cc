#include "search/optuna/study.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <variant>

#include "search/pareto.h"

namespace kerf::optuna {

Result<Study> Study::create(const Problem& problem, BridgeOptions options) {
  KERF_ASSIGN(Client client, Client::create(problem, std::move(options)));
  return Study(std::move(client));
}

Result<Json> Study::wire(const Params& params) const {
  Json out = Json::array();
  for (const auto& [name, distribution] : space()) {
    const auto found = params.find(name);
    if (found == params.end()) return invalid_argument("params: no \"" + name + "\"");
    auto value = to_wire(distribution, found->second);
    if (!value.has_value()) return with_context("params." + name, value.error());
    out.push_back(std::move(*value));
  }
  if (params.size() == space().size()) return out;
  for (const auto& [name, value] : params) {
    const bool known = std::any_of(space().begin(), space().end(), [&](const auto& one) { return one.first == name; });
    if (!known) return invalid_argument("params: \"" + name + "\" isn't in the search space");
  }
  return out;
}

Result<Params> Study::named(const Json& wire) const {
  Params out;
  for (std::size_t i = 0; i < space().size(); ++i) {
    KERF_ASSIGN(out[space()[i].first], from_wire(space()[i].second, wire[i]));
  }
  return out;
}

std::int64_t Study::points_left() const {
  if (!std::holds_alternative<BruteForceSampler>(client_.problem().sampler)) return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(size_of(space())) - static_cast<std::int64_t>(points_.size());
}

// Optuna's samplers differ in what they make of such a study: GP refuses every question from then on.
Result<void> Study::check_constraints(const std::string& what, std::size_t count) const {
  if (!constraint_count_ || *constraint_count_ == count) return {};
  return invalid_argument(what + ": " + std::to_string(count) + " constraints; expected " +
                          std::to_string(*constraint_count_) + ", as the complete trials before");
}

Trial Study::begin(Params params, Json wire) {
  points_.insert(wire.dump());
  client_.started(std::move(wire));
  const auto number = static_cast<std::int64_t>(trials_.size());
  trials_.push_back({number, TrialState::kRunning, params, {}, {}});
  return {number, std::move(params)};
}

Result<Trial> Study::ask() {
  KERF_ASSIGN(std::vector<Trial> one, ask(1));
  return std::move(one.front());
}

Result<std::vector<Trial>> Study::ask(std::int64_t count) {
  if (count < 1) return invalid_argument("ask: " + std::to_string(count) + " trials; expected 1 or more");
  std::vector<Trial> out;
  while (!enqueued_.empty() && static_cast<std::int64_t>(out.size()) < count) {
    KERF_ASSIGN(Json sent, wire(enqueued_.front()));
    out.push_back(begin(std::move(enqueued_.front()), std::move(sent)));
    enqueued_.pop_front();
  }
  const std::int64_t left = std::min(count - static_cast<std::int64_t>(out.size()), points_left());
  if (left <= 0 && out.empty()) {
    return Error{ErrorCode::kFailedPrecondition, "ask: every point of the space, " + std::to_string(points_.size()) +
                                                     " in all, has its trial; expected fewer questions of a BruteForceSampler"};
  }
  if (left <= 0) return out;
  auto points = client_.suggest(left);
  if (!points.has_value()) {
    // Those that came from the queue are the caller's; the others can be asked for again.
    if (out.empty()) return points.error();
    return out;
  }
  for (Json& point : *points) {
    KERF_ASSIGN(Params params, named(point));
    out.push_back(begin(std::move(params), std::move(point)));
  }
  return out;
}

Result<FrozenTrial*> Study::running(std::int64_t number) {
  if (number < 0 || number >= static_cast<std::int64_t>(trials_.size())) {
    return invalid_argument("tell: no trial " + std::to_string(number));
  }
  FrozenTrial& trial = trials_[static_cast<std::size_t>(number)];
  if (trial.state != TrialState::kRunning) {
    return invalid_argument("tell: trial " + std::to_string(number) + " is " + std::string(to_string(trial.state)) +
                            "; expected a running one");
  }
  return &trial;
}

Result<void> Study::tell(std::int64_t number, const std::vector<double>& values, const std::vector<double>& constraints) {
  KERF_ASSIGN(FrozenTrial* const trial, running(number));
  const std::size_t objectives = client_.problem().directions.size();
  if (values.size() != objectives) {
    return invalid_argument("tell: " + std::to_string(values.size()) + " values for trial " + std::to_string(number) +
                            "; expected " + std::to_string(objectives));
  }
  const bool finite = search::rankable(values, objectives) &&
                      (constraints.empty() || search::rankable(constraints, constraints.size()));
  if (!finite) return tell(number, TrialState::kFailed);
  KERF_TRY(check_constraints("tell: trial " + std::to_string(number), constraints.size()));
  constraint_count_ = constraints.size();
  KERF_ASSIGN(Json sent, wire(trial->params));
  client_.ended({std::move(sent), TrialState::kComplete, values, constraints});
  trial->state = TrialState::kComplete;
  trial->values = values;
  trial->constraints = constraints;
  return {};
}

Result<void> Study::tell(std::int64_t number, TrialState state) {
  KERF_ASSIGN(FrozenTrial* const trial, running(number));
  if (state != TrialState::kPruned && state != TrialState::kFailed) {
    return invalid_argument("tell: a trial without values is " + std::string(to_string(state)) + "; expected pruned or failed");
  }
  KERF_ASSIGN(Json sent, wire(trial->params));
  client_.ended({std::move(sent), state, {}, {}});
  trial->state = state;
  return {};
}

Result<void> Study::enqueue_trial(const Params& params) {
  KERF_TRY(wire(params));
  enqueued_.push_back(params);
  return {};
}

Result<void> Study::add_trial(const FrozenTrial& trial) {
  KERF_ASSIGN(Json sent, wire(trial.params));
  if (!is_terminal(trial.state)) return invalid_argument("add_trial: it hasn't ended; enqueue_trial is for those");
  const bool complete = trial.state == TrialState::kComplete;
  if (complete && !search::rankable(trial.values, client_.problem().directions.size())) {
    return invalid_argument("add_trial: a complete trial needs one finite value an objective");
  }
  if (complete) {
    KERF_TRY(check_constraints("add_trial", trial.constraints.size()));
    constraint_count_ = trial.constraints.size();
  }
  points_.insert(sent.dump());
  client_.ended({std::move(sent), trial.state, complete ? trial.values : std::vector<double>(), trial.constraints});
  FrozenTrial kept = trial;
  kept.number = static_cast<std::int64_t>(trials_.size());
  trials_.push_back(std::move(kept));
  return {};
}

std::vector<FrozenTrial> Study::best_trials() const {
  std::vector<search::Candidate> candidates;
  for (const FrozenTrial& trial : trials_) {
    const bool complete = trial.state == TrialState::kComplete;
    candidates.push_back({complete ? trial.values : std::vector<double>(), trial.constraints});
  }
  std::vector<FrozenTrial> out;
  for (const std::size_t i : search::select(candidates, client_.problem().directions).front) out.push_back(trials_[i]);
  return out;
}

}  // namespace kerf::optuna
