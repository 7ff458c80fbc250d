#include "search/optuna/optuna_sampler.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "search/pareto.h"

namespace kerf::search {
namespace {

// Uniform candidates don't stand in for draws: so many come after them before TPE begins.
constexpr std::int64_t kDraws = 10;

Result<optuna::Sampler> sampler_of(const std::string& name, std::int64_t anchors) {
  if (name == "optuna-tpe") return optuna::Sampler(optuna::TPESampler{.n_startup_trials = anchors + kDraws});
  if (name == "optuna-nsga2") return optuna::Sampler(optuna::NSGAIISampler{});
  if (name == "optuna-nsga3") return optuna::Sampler(optuna::NSGAIIISampler{});
  if (name == "optuna-qmc") return optuna::Sampler(optuna::QMCSampler{.skip = anchors});
  if (name == "optuna-bruteforce") return optuna::Sampler(optuna::BruteForceSampler{});
  if (name == "optuna-gp") return optuna::Sampler(optuna::GPSampler{});
  return invalid_argument("sampler: \"" + name + "\" is none of Optuna's");
}

optuna::SearchSpace space_of(const SamplerProblem& problem) {
  optuna::SearchSpace space;
  for (std::size_t d = 0; d < problem.dimensions.size(); ++d) {
    const DimensionSpec& spec = problem.dimensions[d];
    std::array<char, 24> name{};
    std::snprintf(name.data(), name.size(), "%06zu", d);  // Optuna sorts by name
    if (spec.ordered && spec.choices > 2) {
      space.emplace_back(name.data(), optuna::IntDistribution{0, spec.choices - 1});
      continue;
    }
    optuna::CategoricalDistribution categories;
    for (std::int64_t c = 0; c < spec.choices; ++c) categories.choices.emplace_back(c);
    space.emplace_back(name.data(), std::move(categories));
  }
  return space;
}

/// Optuna adds violations up: it gets them as shares of their bounds.
optuna::ToldTrial told_trial(const Observation& observation, const std::vector<double>& scales) {
  const bool complete =
      observation.state == TrialState::kComplete &&
      rankable(observation.objectives, observation.objectives.size()) &&
      (observation.constraints.empty() || rankable(observation.constraints, observation.constraints.size()));
  optuna::ToldTrial out{Json(observation.choices), complete ? TrialState::kComplete : TrialState::kPruned, {}, {}};
  if (complete) {
    out.values = observation.objectives;
    out.constraints = observation.constraints;
    for (std::size_t i = 0; i < std::min(out.constraints.size(), scales.size()); ++i) out.constraints[i] /= scales[i];
  }
  return out;
}

}  // namespace

const std::vector<std::string>& optuna_sampler_names() {
  static const std::vector<std::string> names = {"optuna-tpe", "optuna-nsga2",      "optuna-nsga3",
                                                 "optuna-qmc", "optuna-bruteforce", "optuna-gp"};
  return names;
}

bool is_optuna_sampler(const std::string& name) {
  const auto& names = optuna_sampler_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

Result<std::unique_ptr<OptunaProposer>> OptunaProposer::create(const std::string& name,
                                                               const SamplerProblem& problem,
                                                               optuna::BridgeOptions options) {
  optuna::Problem asked;
  asked.space = space_of(problem);
  asked.directions = problem.directions;
  asked.seed = problem.seed;
  KERF_ASSIGN(asked.sampler, sampler_of(name, static_cast<std::int64_t>(problem.anchors.size())));
  KERF_ASSIGN(optuna::Client client, optuna::Client::create(asked, std::move(options)));
  return std::unique_ptr<OptunaProposer>(new OptunaProposer(std::move(client), problem));
}

std::string OptunaProposer::name_of(const Choices& choices) const {
  return fingerprint_ ? fingerprint_(choices) : Json(choices).dump();
}

Result<Choices> OptunaProposer::propose(std::int64_t attempt) {
  if (attempt == 0) {
    answered_.clear();
    if (!ahead_.empty()) {
      last_ = std::move(ahead_.front());
      ahead_.pop_front();
      return *last_;
    }
  } else {
    // The last proposal wasn't taken: those that came with it counted on it. If its outcome is known,
    // Optuna is told so before the next attempt.
    ahead_.clear();
    if (last_) {
      if (const auto known = outcomes_.find(name_of(*last_)); known != outcomes_.end()) {
        answered_.push_back(known->second);
        answered_.back().params = Json(*last_);
      }
    }
  }
  ++questions_;
  const std::int64_t count = attempt == 0 ? std::max<std::int64_t>(1, expected_) : 1;
  KERF_ASSIGN(const std::vector<Json> points, client_.suggest(count, attempt, answered_));
  try {
    for (const Json& point : points) ahead_.push_back(point.get<Choices>());
  } catch (const Json::exception&) {
    return internal_error("optuna bridge: its answer to ask names no choices");
  }
  last_ = std::move(ahead_.front());
  ahead_.pop_front();
  return *last_;
}

void OptunaProposer::tell(const Observation& observation) {
  ahead_.clear();
  last_.reset();
  answered_.clear();
  optuna::ToldTrial trial = told_trial(observation, scales_);
  outcomes_.emplace(name_of(observation.choices), trial);
  client_.ended(std::move(trial));
}

void OptunaProposer::pending(const Choices& choices) {
  if (last_ != choices) ahead_.clear();
  last_.reset();
  answered_.clear();
  client_.started(Json(choices));
}

Result<std::unique_ptr<Proposer>> make_optuna_proposer(const std::string& name,
                                                       const SamplerProblem& problem) {
  KERF_ASSIGN(std::unique_ptr<OptunaProposer> proposer, OptunaProposer::create(name, problem));
  return std::unique_ptr<Proposer>(std::move(proposer));
}

}  // namespace kerf::search
