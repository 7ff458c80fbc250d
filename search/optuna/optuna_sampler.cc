#include "search/optuna/optuna_sampler.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "search/pareto.h"

namespace kerf::search {
namespace {

constexpr std::string_view kPrefix = "optuna-";
constexpr std::size_t kTrialsAMessage = 500;
constexpr int kTries = 3;

Json trial_json(const Observation& observation, std::size_t objectives) {
  const bool complete =
      observation.state == TrialState::kComplete && rankable(observation.objectives, objectives) &&
      (observation.constraints.empty() ||
       rankable(observation.constraints, observation.constraints.size()));
  Json out = {{"choices", observation.choices}, {"state", complete ? "complete" : "pruned"}};
  if (complete) {
    out["values"] = observation.objectives;
    out["constraints"] = observation.constraints;
  }
  return out;
}

}  // namespace

const std::vector<std::string>& optuna_sampler_names() {
  static const std::vector<std::string> names = {"optuna-tpe", "optuna-nsga2", "optuna-nsga3",
                                                 "optuna-qmc", "optuna-gp"};
  return names;
}

bool is_optuna_sampler(const std::string& name) {
  const auto& names = optuna_sampler_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

OptunaProposer::OptunaProposer(const std::string& name, const SamplerProblem& problem,
                               BridgeOptions options)
    : options_(std::move(options)), objectives_(problem.directions.size()) {
  Json dimensions = Json::array();
  for (const DimensionSpec& dimension : problem.dimensions) {
    dimensions.push_back({{"choices", dimension.choices}, {"ordered", dimension.ordered}});
  }
  Json directions = Json::array();
  for (const Direction direction : problem.directions) {
    directions.push_back(std::string(to_string(direction)));
  }
  create_message_ = {{"type", "create"},
                     {"sampler", name.substr(kPrefix.size())},
                     {"dimensions", std::move(dimensions)},
                     {"directions", std::move(directions)},
                     {"seed", problem.seed},
                     {"anchors", problem.anchors.size()}};
}

Result<std::unique_ptr<OptunaProposer>> OptunaProposer::create(const std::string& name,
                                                               const SamplerProblem& problem,
                                                               BridgeOptions options) {
  std::unique_ptr<OptunaProposer> proposer(new OptunaProposer(name, problem, std::move(options)));
  KERF_TRY(proposer->start());
  return proposer;
}

Result<void> OptunaProposer::start() {
  bridge_.reset();
  sent_ = 0;
  pending_sent_ = pending_.empty();
  KERF_ASSIGN(bridge_, BridgeProcess::start(options_));
  KERF_TRY(bridge_->call(create_message_));
  return {};
}

Result<void> OptunaProposer::synchronize() {
  while (sent_ < told_.size() || !pending_sent_) {
    const std::size_t end = std::min(told_.size(), sent_ + kTrialsAMessage);
    Json message = {{"type", "tell"}, {"trials", Json::array()}, {"pending", Json::array()}};
    for (std::size_t i = sent_; i < end; ++i) message["trials"].push_back(told_[i]);
    const bool last = end == told_.size();
    if (last) message["pending"] = pending_;
    KERF_TRY(bridge_->call(message));
    sent_ = end;
    pending_sent_ = last;
  }
  return {};
}

Result<Choices> OptunaProposer::ask(std::int64_t attempt) {
  if (!bridge_ || !bridge_->usable()) {
    KERF_TRY(start());
  }
  KERF_TRY(synchronize());
  KERF_ASSIGN(const Json answer, bridge_->call({{"type", "ask"}, {"attempt", attempt}}));
  try {
    return answer.at("choices").get<Choices>();
  } catch (const Json::exception&) {
    return internal_error("optuna bridge: its answer to ask names no choices");
  }
}

Result<Choices> OptunaProposer::propose(std::int64_t attempt) {
  Error error;
  for (int tries = 0; tries < kTries; ++tries) {
    auto choices = ask(attempt);
    if (choices.has_value()) return choices;
    error = choices.error();
    // What the bridge itself refuses it would refuse again; a dead one is started anew and told
    // everything.
    if (error.code != ErrorCode::kUnavailable && error.code != ErrorCode::kDeadlineExceeded) break;
    bridge_.reset();
  }
  return error;
}

void OptunaProposer::tell(const Observation& observation) {
  const auto waiting = std::find(pending_.begin(), pending_.end(), observation.choices);
  if (waiting != pending_.end()) pending_.erase(waiting);
  told_.push_back(trial_json(observation, objectives_));
  pending_sent_ = false;
}

void OptunaProposer::pending(const Choices& choices) {
  pending_.push_back(choices);
  pending_sent_ = false;
}

std::optional<pid_t> OptunaProposer::bridge_pid() const {
  if (!bridge_ || !bridge_->usable()) return std::nullopt;
  return bridge_->pid();
}

Result<std::unique_ptr<Proposer>> make_optuna_proposer(const std::string& name,
                                                       const SamplerProblem& problem) {
  KERF_ASSIGN(std::unique_ptr<OptunaProposer> proposer, OptunaProposer::create(name, problem));
  return std::unique_ptr<Proposer>(std::move(proposer));
}

}  // namespace kerf::search
