#include "scheduler/core.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "scheduler/core_study.h"
#include "scheduler/effective.h"
#include "search/hypervolume.h"
#include "search/observe.h"

namespace kerf::scheduler {
namespace {

using storage::NewWork;
using storage::StudyRecord;
using storage::StudyState;

constexpr std::int64_t kPage = 500;
constexpr double kSaveSecondsEvery = 5;

const Error kNotRunInTime{ErrorCode::kCancelled, "not run: the study's time was spent"};
const Error kStudyCancelled{ErrorCode::kCancelled, "the study was cancelled"};

WorkKey inspect_key(const std::string& study) { return {study, WorkKind::kInspect, 0}; }

KnownTrial known_trial(const std::optional<search::SearchSpace>& space, const Trial& trial) {
  KnownTrial out{trial.number, trial.choices, ""};
  if (space && !trial.choices.empty()) out.fingerprint = space->fingerprint(trial.choices);
  if (out.fingerprint.empty()) {
    const auto plan = CompressionPlan::parse(trial.candidate);
    if (plan.has_value()) out.fingerprint = plan->canonical();
  }
  return out;
}

bool is_final(StudyState state) {
  return state != StudyState::kRunning && state != StudyState::kPaused;
}

}  // namespace

Json to_json(const StudyProgress& progress) {
  Json out = {{"study", progress.study},
              {"state", std::string(storage::to_string(progress.state))},
              {"phase", std::string(to_string(progress.phase))},
              {"reason", progress.reason},
              {"budget_trials", progress.budget_trials},
              {"queued", progress.queued},
              {"waiting", progress.waiting},
              {"running", progress.running},
              {"finished", progress.finished},
              {"failed", progress.failed},
              {"front_size", progress.front_size},
              {"hypervolume", progress.hypervolume},
              {"active_seconds", progress.active_seconds}};
  if (progress.charged > 0) out["charged_trials"] = progress.charged;
  if (progress.eta_seconds) out["eta_seconds"] = *progress.eta_seconds;
  if (!progress.blocked.empty()) out["blocked"] = progress.blocked;
  return out;
}

Core::Core(CoreOptions options, storage::StudyStore& store, const Clock& clock)
    : options_(std::move(options)), store_(store), clock_(clock), leases_(options_.limits, clock) {
  last_tick_ = clock_.steady_now();
}

Core::~Core() = default;

Result<void> Core::start() {
  KERF_TRY(store_.requeue_running(options_.max_blameless_attempts));
  std::string cursor;
  while (true) {
    KERF_ASSIGN(const std::vector<StudyRecord> page, store_.studies(cursor, kPage));
    for (const StudyRecord& record : page) {
      cursor = record.id;
      if (!is_final(record.state) && !studies_.contains(record.id)) KERF_TRY(load(record));
    }
    if (static_cast<std::int64_t>(page.size()) < kPage) break;
  }
  for (auto& [id, study] : studies_) advance(*study);
  remove_ended();
  return {};
}

Result<Core::Study*> Core::load(const StudyRecord& record) {
  auto definition = StudyDefinition::parse(record.definition);
  if (!definition.has_value()) {
    return with_context("study " + record.id, definition.error());
  }
  const bool has_test = has_test_split(*definition);
  auto owned = std::make_unique<Study>(record, std::move(*definition), has_test);
  Study& study = *owned;
  study.machine.set_paused(record.state == StudyState::kPaused);
  study.machine.add_active(record.active_seconds);
  if (study.definition.window) {
    auto window = WindowCheck::make(*study.definition.window);
    if (window.has_value()) {
      study.window = *window;
      study.window_open = window->open(clock_.wall_now());
    } else {
      study.machine.fail(window.error());
    }
  }
  // A newcomer starts level with the one that has had least, not with a claim on the past.
  for (const auto& [id, other] : studies_) {
    study.served = study.served.count() == 0 ? other->served
                                             : std::min(study.served, other->served);
  }
  KERF_TRY(replay(study));
  Study* loaded = owned.get();
  studies_[record.id] = std::move(owned);
  changed_.insert(record.id);
  return loaded;
}

// Brings a study's memory to where the store is, in the words in which things happen later.
Result<void> Core::replay(Study& study) {
  const std::string& id = study.record.id;
  if (auto inspection = store_.work(inspect_key(id)); inspection.has_value()) {
    study.machine.inspect_queued();
    if (is_terminal(inspection->state)) inspect_ended(study, *inspection);
  } else if (inspection.error().code != ErrorCode::kNotFound) {
    return inspection.error();
  }
  std::optional<search::SearchSpace> space;
  if (study.model) {
    auto built = search::SearchSpace::build(study.definition.space, *study.model);
    if (built.has_value()) space = std::move(*built);
  }
  std::vector<Trial> ended;
  for (std::int64_t first = 0;;) {
    KERF_ASSIGN(std::vector<Trial> page, store_.trials(id, first, kPage));
    for (Trial& trial : page) {
      first = trial.number + 1;
      study.trials[trial.number] = known_trial(space, trial);
      study.machine.trial_queued(trial.number);
      if (trial.state == TrialState::kRunning) study.machine.trial_leased(trial.number);
      if (is_terminal(trial.state)) ended.push_back(std::move(trial));
    }
    if (static_cast<std::int64_t>(page.size()) < kPage) break;
  }
  study.machine.want_profile(search::uses_profile(study.definition.search.sampler));
  KERF_TRY(replay_profile(study));
  KERF_TRY(replay_search(study));
  // In the order in which they ended, as the log has it: wall times may have jumped.
  KERF_ASSIGN(const auto order, order_of_ends(id));
  std::stable_sort(ended.begin(), ended.end(), [&](const Trial& a, const Trial& b) {
    const auto place = [&](const Trial& trial) {
      const auto found = order.find(trial.number);
      return found == order.end() ? 0 : found->second;
    };
    return place(a) < place(b);
  });
  for (const Trial& trial : ended) {
    study.machine.trial_finished(trial.number, TrialState::kWaiting, trial.state, trial.error);
    if (trial.number == 0) baseline_ended(study, trial);
    learn(study, trial);
  }
  return {};
}

Result<std::map<std::int64_t, std::int64_t>> Core::order_of_ends(const std::string& study) {
  std::map<std::int64_t, std::int64_t> order;
  for (std::int64_t after = 0;;) {
    KERF_ASSIGN(const std::vector<storage::Event> page, store_.events(study, after, kPage));
    for (const storage::Event& event : page) {
      after = event.id;
      if (event.type != "trial" || !event.data.is_object()) continue;
      const auto state = trial_state_from_string(event.data.value("state", ""));
      if (state && is_terminal(*state)) {
        order[event.data.value("number", std::int64_t{-1})] = event.id;
      }
    }
    if (static_cast<std::int64_t>(page.size()) < kPage) return order;
  }
}

Result<StudyRecord> Core::submit(const Json& definition, const std::string& idempotency_key) {
  KERF_ASSIGN(const StudyDefinition parsed, StudyDefinition::parse(definition));
  const auto& names = search::sampler_names();
  if (std::find(names.begin(), names.end(), parsed.search.sampler) == names.end()) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    return invalid_argument("study.search.sampler: \"" + parsed.search.sampler +
                            "\"; expected one of " + list);
  }
  if (parsed.window) KERF_TRY(WindowCheck::make(*parsed.window));
  KERF_ASSIGN(StudyRecord record,
              store_.create_study(parsed.to_json(), parsed.identity(), idempotency_key));
  if (!studies_.contains(record.id) && !is_final(record.state)) {
    KERF_ASSIGN(Study* const study, load(record));
    advance(*study);
    remove_ended();
    dispatch();
  }
  return record;
}

Core::Study* Core::find(const std::string& study) {
  const auto found = studies_.find(study);
  return found == studies_.end() ? nullptr : found->second.get();
}

Result<void> Core::cancel(const std::string& id) {
  Study* study = find(id);
  if (study == nullptr) {
    KERF_ASSIGN(const StudyRecord record, store_.study(id));
    return Error{ErrorCode::kFailedPrecondition,
                 "study " + id + " is " + std::string(storage::to_string(record.state)) +
                     " already; expected one that is running or paused"};
  }
  KERF_TRY(drop_waiting(*study, kStudyCancelled));
  for (const auto& [key, lease] : std::map<WorkKey, Lease>(leases_.leases())) {
    if (key.study != id || key.kind == WorkKind::kExport) continue;
    WorkOutcome outcome{key, lease.token, nullptr, kStudyCancelled, false};
    KERF_TRY(store_.finish(outcome));
    (void)leases_.finish(key, lease.token);
    actions_.cancellations.push_back({lease.worker, key, lease.token});
    if (key.kind == WorkKind::kTrial) trial_ended(*study, key.number);
  }
  end(*study, StudyState::kCancelled, "cancelled");
  remove_ended();
  return {};
}

// A study that somebody wants to change, in the one state that allows it.
Result<void> Core::expect_state(const std::string& id, StudyState wanted) {
  KERF_ASSIGN(const StudyRecord record, store_.study(id));
  if (record.state == wanted) return {};
  return Error{ErrorCode::kFailedPrecondition, "study " + id + " is " + std::string(storage::to_string(record.state)) +
                                                   "; expected one that is " + std::string(storage::to_string(wanted))};
}

Result<void> Core::pause(const std::string& id) {
  KERF_TRY(expect_state(id, StudyState::kRunning));
  KERF_TRY(store_.set_study_state(id, StudyState::kRunning, StudyState::kPaused, ""));
  if (Study* study = find(id)) {
    save_seconds(*study);
    study->record.state = StudyState::kPaused;
    study->machine.set_paused(true);
    changed_.insert(id);
  }
  return {};
}

Result<void> Core::resume(const std::string& id) {
  KERF_TRY(expect_state(id, StudyState::kPaused));
  KERF_TRY(store_.set_study_state(id, StudyState::kPaused, StudyState::kRunning, ""));
  if (Study* study = find(id)) {
    study->record.state = StudyState::kRunning;
    study->machine.set_paused(false);
    study->line_stale = true;
    changed_.insert(id);
    advance(*study);
  }
  remove_ended();
  dispatch();
  return {};
}

Result<void> Core::extend(const std::string& id, const Budget& budget) {
  Json document = {{"trials", budget.trials}};
  if (budget.seconds > 0) document["seconds"] = budget.seconds;
  if (budget.stagnation > 0) document["stagnation"] = budget.stagnation;
  if (budget.gain > 0) document["gain"] = budget.gain;
  KERF_TRY(store_.set_budget(id, document));
  Study* study = find(id);
  if (study == nullptr) {
    KERF_ASSIGN(const StudyRecord before, store_.study(id));
    if (!is_final(before.state)) return {};  // start() will take it over
    if (before.state != StudyState::kComplete) {
      return Error{ErrorCode::kFailedPrecondition,
                   "study " + id + " is " + std::string(storage::to_string(before.state)) +
                       "; expected one that is running, paused or complete"};
    }
    KERF_TRY(store_.set_study_state(id, StudyState::kComplete, StudyState::kRunning, ""));
    KERF_ASSIGN(const StudyRecord record, store_.study(id));
    KERF_ASSIGN(study, load(record));
  } else {
    study->definition.budget = budget;
    study->machine.set_budget(budget);
  }
  advance(*study);
  remove_ended();
  dispatch();
  return {};
}

Result<StudyProgress> Core::progress(const std::string& id) {
  if (const Study* study = find(id)) return describe(*study);
  KERF_ASSIGN(const StudyRecord record, store_.study(id));
  StudyProgress out;
  out.study = id;
  out.state = record.state;
  out.phase = Phase::kDone;
  out.reason = record.reason;
  out.active_seconds = record.active_seconds;
  KERF_ASSIGN(const std::optional<Json> summary, store_.document(id, "summary"));
  if (summary) {
    out.budget_trials = summary->value("budget_trials", std::int64_t{0});
    out.queued = summary->value("queued", std::int64_t{0});
    out.finished = summary->value("finished", std::int64_t{0});
    out.failed = summary->value("failed", std::int64_t{0});
    out.charged = summary->value("charged_trials", std::int64_t{0});
    out.front_size = summary->value("front_size", std::int64_t{0});
    out.hypervolume = summary->value("hypervolume", 0.0);
  }
  return out;
}

StudyProgress Core::describe(const Study& study) const {
  StudyProgress out;
  const StudyMachine& machine = study.machine;
  out.study = study.record.id;
  out.state = study.record.state;
  out.phase = machine.phase();
  out.reason = study.record.reason;
  out.budget_trials = machine.budget().trials;
  out.queued = machine.queued();
  out.waiting = machine.waiting();
  out.running = machine.running();
  out.finished = machine.finished();
  out.failed = machine.failed();
  out.charged = machine.charged();
  out.active_seconds = machine.active_seconds();
  if (study.front) {
    out.front_size = static_cast<std::int64_t>(study.front->trials().size());
    out.hypervolume = study.front->hypervolume();
  }
  if (is_final(study.record.state)) return out;
  if (study.finished_here > 0 && out.budget_trials > 0) {
    const double left = static_cast<double>(out.budget_trials - out.charged - out.finished);
    out.eta_seconds = left * study.seconds_here / static_cast<double>(study.finished_here);
    if (machine.budget().seconds > 0) {
      out.eta_seconds = std::clamp(machine.budget().seconds - out.active_seconds, 0.0,
                                   *out.eta_seconds);
    }
  }
  out.blocked = why_blocked(study);
  return out;
}

std::string Core::why_blocked(const Study& study) const {
  if (store_full_) return "the disk is full";
  if (study.machine.paused()) return "paused";
  if (!study.window_open) {
    return "outside its window, " + study.definition.window->start + " to " +
           study.definition.window->stop + " " + study.definition.window->timezone;
  }
  if (leases_.leases_of_study(study.record.id) > 0) return "";
  if (leases_.workers().empty()) return "no worker is connected";
  bool labels_fit = false;
  for (const auto& [id, worker] : leases_.workers()) {
    if (suits(study, worker)) return "";
    labels_fit = labels_fit || labels_suit(study, worker);
  }
  if (labels_fit) {
    return "no worker has the hardware that the study was begun on (" + study.hardware_id + ")";
  }
  std::string wanted;
  for (const auto& [key, value] : study.definition.hardware_labels) {
    wanted += (wanted.empty() ? "" : ", ") + key + "=" + value;
  }
  return "no worker with " + wanted;
}

void Core::log(const std::string& study, const std::string& type, const Json& data) {
  changed_.insert(study);
  // The log tells what the tables hold already: an entry that finds no room is no loss of truth.
  if (const auto logged = store_.log(study, type, data); !logged.has_value()) store_full_ = true;
}

void Core::tick() {
  const Clock::SteadyTime now = clock_.steady_now();
  const double passed = std::chrono::duration<double>(now - last_tick_).count();
  last_tick_ = now;
  store_full_ = false;
  for (LapsedLease& lapsed : leases_.expire()) to_release_.push_back(std::move(lapsed));
  release_lapsed();
  for (auto& [id, study] : studies_) {
    if (study->window) {
      const bool open = study->window->open(clock_.wall_now());
      if (open != study->window_open) changed_.insert(id);
      study->window_open = open;
    }
    if (study->machine.active(study->window_open)) {
      study->machine.add_active(passed);
      study->seconds_here += passed;
      study->unsaved_seconds += passed;
      if (study->unsaved_seconds >= kSaveSecondsEvery) save_seconds(*study);
    }
    queue_proposals(*study);
    advance(*study);
  }
  remove_ended();
  dispatch();
}

void Core::save_seconds(Study& study) {
  if (study.unsaved_seconds <= 0) return;
  if (store_.add_active_seconds(study.record.id, study.unsaved_seconds).has_value()) {
    study.record.active_seconds += study.unsaved_seconds;
    study.unsaved_seconds = 0;
  } else {
    store_full_ = true;
  }
}

void Core::advance(Study& study) {
  while (!store_full_ && !is_final(study.record.state)) {
    const Step step = study.machine.next({idle_for(study), study.window_open});
    if (step.kind == Step::Kind::kNothing || !perform(study, step)) return;
  }
}

// False where the step couldn't be done now; the machine says it again at the next tick.
bool Core::perform(Study& study, const Step& step) {
  const std::string& id = study.record.id;
  Result<void> done;
  switch (step.kind) {
    case Step::Kind::kNothing:
      return false;
    case Step::Kind::kInspect: {
      const auto queued = store_.enqueue(id, {NewWork{WorkKind::kInspect, 0, nullptr, {}, ""}});
      if (queued.has_value()) {
        study.machine.inspect_queued();
        study.line_stale = true;
      } else {
        done = queued.error();
      }
      break;
    }
    case Step::Kind::kBaseline:
      done = queue_baseline(study);
      break;
    case Step::Kind::kProfile:
      done = profile_step(study);
      break;
    case Step::Kind::kPrepare:
      prepare_search(study);
      break;
    case Step::Kind::kAsk:
      ask_search(study, step.count);
      break;
    case Step::Kind::kDropWaiting:
      done = drop_waiting(study, kNotRunInTime);
      if (done.has_value() && study.machine.waiting() > 0) return false;
      break;
    case Step::Kind::kVerify:
      done = queue_verification(study);
      break;
    case Step::Kind::kComplete:
      end(study, StudyState::kComplete, step.reason);
      return false;
    case Step::Kind::kFail:
      done = drop_waiting(study, Error{ErrorCode::kCancelled, "not run: the study failed"});
      if (done.has_value()) done = store_.put_document(id, "failure", to_json(step.error));
      if (done.has_value()) end(study, StudyState::kFailed, step.error.message);
      return false;
  }
  changed_.insert(id);
  if (!done.has_value()) store_full_ = true;
  return done.has_value();
}

Result<void> Core::queue_baseline(Study& study) {
  NewWork work;
  work.candidate = Json::object();
  KERF_ASSIGN(const CompressionPlan plan, CompressionPlan::parse(work.candidate));
  work.fingerprint = plan.canonical();
  const auto space = search::SearchSpace::build(study.definition.space, *study.model);
  if (!space.has_value()) {
    study.machine.fail(space.error());
    return {};
  }
  if (const auto choices = space->choices_of(plan)) {
    work.choices = *choices;
    work.fingerprint = space->fingerprint(*choices);
  }
  const Json dimensions = space->to_json();
  KERF_TRY(store_.put_document(study.record.id, "space", dimensions));
  KERF_ASSIGN(const std::vector<std::int64_t> numbers, store_.enqueue(study.record.id, {work}));
  study.trials[numbers.at(0)] = {numbers.at(0), work.choices, work.fingerprint};
  study.machine.trial_queued(numbers.at(0));
  study.line_stale = true;
  return {};
}

Result<void> Core::queue_verification(Study& study) {
  std::vector<NewWork> work;
  const std::vector<std::int64_t> members =
      study.front ? study.front->trials() : std::vector<std::int64_t>{};
  std::set<std::int64_t> numbers(members.begin(), members.end());
  numbers.insert(0);  // the promise is relative to the baseline
  for (const std::int64_t number : numbers) {
    KERF_ASSIGN(const Trial trial, store_.trial(study.record.id, number));
    work.push_back({WorkKind::kVerify, number, trial.candidate, {}, ""});
  }
  KERF_TRY(store_.enqueue(study.record.id, work));
  study.open_verifications.clear();
  for (const std::int64_t number : numbers) {
    const WorkKey key{study.record.id, WorkKind::kVerify, number};
    KERF_ASSIGN(const storage::WorkRecord record, store_.work(key));
    if (!is_terminal(record.state)) study.open_verifications.insert(number);
  }
  study.machine.verify_queued(static_cast<std::int64_t>(study.open_verifications.size()));
  study.line_stale = true;
  return {};
}

// Also of a paused study, whose work the store doesn't offer.
Result<void> Core::drop_waiting(Study& study, const Error& error) {
  const std::string& id = study.record.id;
  std::vector<WorkKey> waiting;
  for (std::int64_t first = 0;;) {
    KERF_ASSIGN(const std::vector<Trial> page, store_.trials(id, first, kPage));
    for (const Trial& trial : page) {
      first = trial.number + 1;
      if (trial.state == TrialState::kWaiting) waiting.push_back({id, WorkKind::kTrial, trial.number});
    }
    if (static_cast<std::int64_t>(page.size()) < kPage) break;
  }
  for (const WorkKey& key : waiting) {
    KERF_ASSIGN(const storage::LeaseGrant grant, store_.lease(key, "scheduler"));
    KERF_TRY(store_.finish(WorkOutcome{key, grant.token, nullptr, error, false}));
    study.machine.trial_finished(key.number, TrialState::kWaiting, TrialState::kFailed, error);
  }
  study.line.clear();
  study.line_stale = true;
  return {};
}

void Core::end(Study& study, StudyState state, const std::string& reason) {
  const std::string& id = study.record.id;
  save_seconds(study);
  Json summary = to_json(describe(study));
  summary.erase("eta_seconds");
  summary.erase("blocked");
  const auto saved = store_.put_document(id, "summary", summary);
  const auto ended = saved.has_value()
                         ? store_.set_study_state(id, study.record.state, state, reason)
                         : saved;
  if (!ended.has_value()) {
    store_full_ = true;  // tried again at the next tick
    return;
  }
  study.record.state = state;
  study.record.reason = reason;
  study.machine.ended();
}

// Studies that are over leave the memory; their last change is told first.
void Core::remove_ended() {
  for (auto entry = studies_.begin(); entry != studies_.end();) {
    if (!is_final(entry->second->record.state)) {
      ++entry;
      continue;
    }
    actions_.changes.push_back(describe(*entry->second));
    changed_.erase(entry->first);
    entry = studies_.erase(entry);
  }
}

Core::Actions Core::take_actions() {
  for (const std::string& id : std::exchange(changed_, {})) {
    if (const Study* study = find(id)) actions_.changes.push_back(describe(*study));
  }
  return std::exchange(actions_, {});
}

}  // namespace kerf::scheduler
