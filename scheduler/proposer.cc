#include "scheduler/proposer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "search/observe.h"

namespace kerf::scheduler {
namespace {

// Questions in a row that bring nothing but plans that were tried already.
constexpr int kFruitlessQuestions = 64;

}  // namespace

Result<std::unique_ptr<Proposer>> Proposer::make(const StudyDefinition& study,
                                                 const ModelInfo& model,
                                                 const SamplerFactory& factory,
                                                 std::vector<double> reference,
                                                 search::Profile profile,
                                                 search::PoorBatches poor) {
  KERF_ASSIGN(search::SearchSpace built, search::SearchSpace::build(study.space, model));
  const auto space = std::make_shared<const search::SearchSpace>(std::move(built));
  if (space->dimensions().empty()) {
    // One point only: its plan is the baseline or the space's single candidate.
    return std::unique_ptr<Proposer>(new Proposer(space, nullptr));
  }
  search::SamplerProblem problem;
  problem.dimensions = space->specs();
  problem.directions = search::directions_of(study);
  problem.constraint_count = search::bound_count(study);
  problem.bound_scales = search::bound_scales(study.constraints);
  problem.seed = study.search.seed;
  problem.anchors = space->anchors();
  problem.fingerprint = [space](const search::Choices& choices) { return space->fingerprint(choices); };
  problem.reference = std::move(reference);
  problem.profile = std::move(profile);
  problem.poor = poor;
  for (const Objective& objective : study.objectives) problem.names.push_back(objective.metric);
  for (const Constraint& constraint : study.constraints) {
    if (constraint.max) problem.names.push_back(constraint.metric);
    if (constraint.min) problem.names.push_back(constraint.metric);
  }
  if (study.budget.gain > 0) problem.poor_gain = study.budget.gain;
  KERF_ASSIGN(std::unique_ptr<search::Sampler> sampler,
              factory(study.search.sampler, std::move(problem)));
  auto made = std::unique_ptr<Proposer>(new Proposer(space, std::move(sampler)));
  made->stalled_ = made->sampler_->stalled();  // and the log says so
  return made;
}

void Proposer::mark_pending(const KnownTrial& trial) {
  known_.insert(trial.fingerprint);
  if (sampler_ && !trial.choices.empty()) sampler_->mark_pending(trial.choices);
}

Result<void> Proposer::tell(const search::Observation& observation,
                            const std::string& fingerprint) {
  known_.insert(fingerprint);
  if (sampler_ && !observation.choices.empty()) KERF_TRY(sampler_->tell(observation));
  return {};
}

Result<std::vector<Proposal>> Proposer::ask(std::int64_t count) {
  std::vector<Proposal> out;
  for (int question = 0; question < kFruitlessQuestions; ++question) {
    const std::int64_t want = count - static_cast<std::int64_t>(out.size());
    if (want <= 0) break;
    std::vector<search::Choices> points;
    if (sampler_) {
      KERF_ASSIGN(points, sampler_->ask(want));
    } else {
      points.emplace_back();
    }
    if (points.empty()) break;
    for (search::Choices& choices : points) {
      std::string fingerprint = space_->fingerprint(choices);
      // The sampler knows all but the trials that aren't points of the space.
      if (!known_.insert(fingerprint).second) continue;
      KERF_ASSIGN(const CompressionPlan plan, space_->plan(choices));
      out.push_back({std::move(choices), plan.to_json(), std::move(fingerprint)});
      question = -1;
    }
    if (!sampler_) break;
  }
  return out;
}

std::vector<std::string> Proposer::take_notes() {
  if (!sampler_) return {};
  std::vector<std::string> notes = sampler_->take_notes();
  const bool stalled = sampler_->stalled();
  if (stalled && !stalled_) {
    notes.emplace_back("search: little more is to be expected; the last two batches promised next to no gain of hypervolume");
  }
  stalled_ = stalled;
  return notes;
}

}  // namespace kerf::scheduler
