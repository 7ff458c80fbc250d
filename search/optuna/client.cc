#include "search/optuna/client.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "search/pareto.h"

namespace kerf::optuna {
namespace {

constexpr std::size_t kTrialsAMessage = 500;
constexpr int kTries = 3;

}  // namespace

Result<Client> Client::create(const Problem& problem, BridgeOptions options) {
  KERF_TRY(check(problem.space));
  KERF_TRY(check(problem.sampler, problem.space));
  if (problem.directions.empty()) return invalid_argument("optuna study: no directions; expected one an objective");
  Client client(problem, std::move(options));
  KERF_TRY(client.start());
  return client;
}

Result<void> Client::start() {
  bridge_.reset();
  sent_ = 0;
  running_sent_ = running_.empty();
  KERF_ASSIGN(bridge_, BridgeProcess::start(options_));
  Json directions = Json::array();
  for (const Direction direction : problem_.directions) directions.push_back(std::string(to_string(direction)));
  KERF_TRY(bridge_->call({{"type", "create"},
                          {"sampler", to_json(problem_.sampler)},
                          {"space", to_json(problem_.space)},
                          {"directions", std::move(directions)},
                          {"seed", problem_.seed}}));
  return {};
}

void Client::started(Json params) {
  running_.push_back(std::move(params));
  running_sent_ = false;
}

void Client::ended(ToldTrial trial) {
  const auto was_running = std::find(running_.begin(), running_.end(), trial.params);
  if (was_running != running_.end()) running_.erase(was_running);
  told_.push_back(wire(trial));
  running_sent_ = false;
}

Json Client::wire(const ToldTrial& trial) const {
  const bool sound = search::rankable(trial.values, problem_.directions.size()) &&
                     (trial.constraints.empty() || search::rankable(trial.constraints, trial.constraints.size()));
  const bool complete = trial.state == TrialState::kComplete && sound;
  Json out = {{"params", trial.params},
              {"state", complete                                 ? "complete"
                        : trial.state == TrialState::kPruned ? "pruned"
                                                             : "failed"}};
  if (complete) {
    out["values"] = trial.values;
    out["constraints"] = trial.constraints;
  }
  return out;
}

Result<void> Client::synchronize() {
  while (sent_ < told_.size() || !running_sent_) {
    const std::size_t end = std::min(told_.size(), sent_ + kTrialsAMessage);
    Json message = {{"type", "tell"}, {"trials", Json::array()}, {"running", Json::array()}};
    for (std::size_t i = sent_; i < end; ++i) message["trials"].push_back(told_[i]);
    const bool last = end == told_.size();
    if (last) message["running"] = running_;
    KERF_TRY(bridge_->call(message));
    sent_ = end;
    running_sent_ = last;
  }
  return {};
}

Result<std::vector<Json>> Client::ask(const Json& question, std::int64_t count) {
  if (!bridge_ || !bridge_->usable()) KERF_TRY(start());
  KERF_TRY(synchronize());
  KERF_ASSIGN(const Json answer, bridge_->call(question, count));
  const Json points = answer.value("params", Json());
  if (!points.is_array() || static_cast<std::int64_t>(points.size()) != count) {
    return internal_error("optuna bridge: its answer to ask has other than " + std::to_string(count) + " points");
  }
  for (const Json& point : points) {
    if (!point.is_array() || point.size() != problem_.space.size()) {
      return internal_error("optuna bridge: it proposed " + canonical_text(point).substr(0, 80) + ", which is no point of the space");
    }
  }
  return points.get<std::vector<Json>>();
}

Result<std::vector<Json>> Client::suggest(std::int64_t count, std::int64_t attempt, std::span<const ToldTrial> answered) {
  Json question = {{"type", "ask"}, {"count", count}, {"attempt", attempt}, {"answered", Json::array()}};
  for (const ToldTrial& trial : answered) question["answered"].push_back(wire(trial));
  Error error;
  for (int tries = 0; tries < kTries; ++tries) {
    auto points = ask(question, count);
    if (points.has_value()) return points;
    error = points.error();
    // What the bridge itself refuses it would refuse again; a dead one is started anew and told
    // everything.
    if (error.code != ErrorCode::kUnavailable && error.code != ErrorCode::kDeadlineExceeded) break;
    bridge_.reset();
  }
  return error;
}

std::optional<pid_t> Client::bridge_pid() const {
  if (!bridge_ || !bridge_->usable()) return std::nullopt;
  return bridge_->pid();
}

}  // namespace kerf::optuna
