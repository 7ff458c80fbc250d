#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "scheduler/core.h"
#include "scheduler/core_study.h"
#include "search/observe.h"

namespace kerf::scheduler {
namespace {

constexpr std::int64_t kPoorBatches = 2;  // that end a study which asks for it

bool in_flight(const StudyMachine& machine) { return machine.waiting() + machine.running() > 0; }

bool was_not_run(const std::optional<Error>& error) {
  return error && error->code == ErrorCode::kCancelled;
}

}  // namespace

Result<void> Core::replay_search(Study& study) {
  KERF_ASSIGN(const std::optional<Json> document, store_.document(study.record.id, "search"));
  // A budget of another gain calls other batches poor.
  if (!document || document->value("gain", 0.0) != study.definition.budget.gain) return {};
  study.poor = {document->value("poor_batches", std::int64_t{0}), document->value("told", std::int64_t{0})};
  study.poor_kept = std::min(kPoorBatches, study.poor.batches);
  study.machine.stalled(study.poor.batches >= kPoorBatches);
  return {};
}

// A finished trial's observation goes to the sampler with the next question.
void Core::learn(Study& study, const Trial& trial) {
  if (was_not_run(trial.error)) return;
  const auto known_trial = study.trials.find(trial.number);
  if (known_trial == study.trials.end()) return;
  search::Observation observation =
      search::observation_of(study.definition, study.racing ? study.racing->paired(trial) : trial);
  if (!study.measured_on.empty() && trial.state == TrialState::kComplete &&
      search::hardware_id(trial) != study.measured_on) {
    observation.state = TrialState::kFailed;
    observation.objectives.clear();
    observation.constraints.clear();
  }
  if (study.racing && observation.state == TrialState::kComplete) study.racing->learn(trial.number, trial.measurement);
  if (study.front) {
    const auto before = study.front->trials();
    study.front->add(observation);
    study.machine.hypervolume_is(study.front->hypervolume());
    study.front_changed = study.front_changed || before != study.front->trials();
  }
  study.untold.emplace_back(std::move(observation), known_trial->second.fingerprint);
}

void Core::prepare_search(Study& study) {
  study.proposer.reset();
  const std::int64_t generation = ++study.search_generation;
  std::vector<KnownTrial> pending;
  std::vector<std::pair<search::Observation, std::string>> finished;
  std::set<std::int64_t> told;
  if (study.withheld) study.untold.push_back(std::move(*std::exchange(study.withheld, std::nullopt)));
  for (const auto& [observation, fingerprint] : study.history) {
    finished.emplace_back(observation, fingerprint);
    told.insert(observation.number);
  }
  for (auto& one : study.untold) {
    told.insert(one.first.number);
    finished.push_back(one);
    study.history.push_back(std::move(one));
  }
  study.untold.clear();
  for (const auto& [number, trial] : study.trials) {
    if (!told.contains(number)) pending.push_back(trial);
  }
  // A question is asked while a trial is measured, so that a search has always had one in flight. Where none
  // is, the last one ended while the search was asked and its answer was lost (or the study had ended):
  // asked as if it were in flight still, the search proposes what it would have.
  study.asked = false;
  study.repeats = finished.size() > 1;
  if (!in_flight(study.machine) && !finished.empty() && finished.back().first.number > 0) {
    study.withheld = finished.back();
    study.history.pop_back();
    finished.pop_back();
    pending.push_back(study.trials.at(study.withheld->first.number));
  }
  auto run = [definition = study.definition, model = *study.model, factory = options_.samplers, reference = study.reference,
              profile = study.profile, poor = study.poor, pending = std::move(pending), finished = std::move(finished), generation] {
    SearchAnswer answer;
    answer.prepared = true;
    answer.generation = generation;
    auto made = Proposer::make(definition, model, factory, reference, profile, poor);
    if (!made.has_value()) {
      answer.error = made.error();
      return answer;
    }
    for (const KnownTrial& trial : pending) (*made)->mark_pending(trial);
    for (const auto& [observation, fingerprint] : finished) {
      if (const auto learned = (*made)->tell(observation, fingerprint); !learned.has_value()) {
        answer.error = learned.error();
        return answer;
      }
    }
    answer.proposer = std::move(*made);
    return answer;
  };
  actions_.searches.push_back({study.record.id, std::move(run), true, generation});
}

void Core::ask_search(Study& study, std::int64_t count) {
  // The same for what ended while the proposer was made.
  if (!std::exchange(study.asked, true) && !study.withheld && !study.untold.empty() && study.untold.back().first.number > 0 &&
      !in_flight(study.machine)) {
    study.withheld = std::move(study.untold.back());
    study.untold.pop_back();
  }
  std::vector<std::pair<search::Observation, std::string>> news = study.untold;
  for (auto& one : study.untold) study.history.push_back(std::move(one));
  study.untold.clear();
  if (study.withheld) {
    study.untold.push_back(std::move(*study.withheld));
    study.withheld.reset();
    count = 1;  // the next question knows it
  }
  auto run = [proposer = study.proposer, news = std::move(news), count,
              generation = study.search_generation] {
    SearchAnswer answer;
    answer.generation = generation;
    for (const auto& [observation, fingerprint] : news) {
      if (const auto told = proposer->tell(observation, fingerprint); !told.has_value()) {
        answer.error = told.error();
        return answer;
      }
    }
    auto proposals = proposer->ask(count);
    if (!proposals.has_value()) {
      answer.error = proposals.error();
      return answer;
    }
    answer.proposals = std::move(*proposals);
    answer.notes = proposer->take_notes();
    answer.poor = proposer->poor_batches();
    answer.exhausted = static_cast<std::int64_t>(answer.proposals.size()) < count;
    return answer;
  };
  actions_.searches.push_back({study.record.id, std::move(run), false, study.search_generation});
}

// What a study's log says already.
std::set<std::string> Core::messages(const std::string& id) {
  constexpr std::int64_t kPage = 1000;
  std::set<std::string> out;
  std::int64_t after = 0;
  while (true) {
    const auto page = store_.events(id, after, kPage);
    if (!page.has_value()) return out;
    for (const storage::Event& event : *page) {
      after = event.id;
      if (event.type == "log") out.insert(event.data.value("message", ""));
    }
    if (static_cast<std::int64_t>(page->size()) < kPage) return out;
  }
}

void Core::search_done(const std::string& id, SearchAnswer answer) {
  Study* study = find(id);
  if (study == nullptr || answer.generation != study->search_generation) return;
  if (!answer.notes.empty()) {
    const std::set<std::string> said = study->repeats ? messages(id) : std::set<std::string>();
    for (const std::string& note : answer.notes) {
      if (!said.contains(note)) log(id, "log", {{"message", note}});
    }
  }
  if (!answer.prepared) study->repeats = false;
  if (answer.prepared) {
    study->proposer = std::move(answer.proposer);
    study->machine.prepared(std::move(answer.error));
  } else {
    study->proposals.insert(study->proposals.end(),
                            std::make_move_iterator(answer.proposals.begin()),
                            std::make_move_iterator(answer.proposals.end()));
    study->search_ended = std::pair(answer.exhausted, std::move(answer.error));
    study->poor = answer.poor;
    queue_proposals(*study);
  }
  advance(*study);
  remove_ended();
  dispatch();
}

// Puts what was proposed in line; where the store is full it is tried again, and the machine hears
// of the answer only then.
void Core::queue_proposals(Study& study) {
  if (!study.search_ended) return;
  if (study.machine.phase() != Phase::kSearch) study.proposals.clear();
  // Only a study that ends by it needs it kept, and only as far as it matters.
  const std::int64_t poor = std::min(kPoorBatches, study.poor.batches);
  if (study.machine.budget().gain > 0 && poor != study.poor_kept) {
    const Json document = {{"poor_batches", study.poor.batches}, {"told", study.poor.told}, {"gain", study.machine.budget().gain}};
    if (!store_.put_document(study.record.id, "search", document).has_value()) {
      store_full_ = true;
      return;
    }
    study.poor_kept = poor;
  }
  if (!study.proposals.empty()) {
    std::vector<storage::NewWork> work;
    for (const Proposal& proposal : study.proposals) {
      work.push_back({WorkKind::kTrial, 0, proposal.plan, proposal.choices, proposal.fingerprint});
    }
    const auto numbers = store_.enqueue(study.record.id, work);
    if (!numbers.has_value()) {
      store_full_ = true;
      return;
    }
    for (std::size_t i = 0; i < numbers->size(); ++i) {
      const std::int64_t number = (*numbers)[i];
      if (number < 0) continue;
      study.trials[number] = {number, study.proposals[i].choices, study.proposals[i].fingerprint};
      study.machine.trial_queued(number);
    }
    study.proposals.clear();
    study.line_stale = true;
  }
  auto [exhausted, error] = std::move(*study.search_ended);
  study.search_ended.reset();
  study.machine.asked(exhausted, std::move(error), study.poor.batches >= kPoorBatches);
  changed_.insert(study.record.id);
}

}  // namespace kerf::scheduler
