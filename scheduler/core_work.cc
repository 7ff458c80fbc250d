#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/look.h"
#include "core/measurement.h"
#include "core/sha256.h"
#include "scheduler/core.h"
#include "scheduler/core_study.h"
#include "scheduler/effective.h"
#include "search/hypervolume.h"
#include "search/observe.h"

namespace kerf::scheduler {
namespace {

constexpr std::int64_t kLineRead = 64;

// What a worker sends is checked before it becomes truth.
Result<void> check_result(const WorkOutcome& outcome) {
  if (outcome.error) return {};
  const auto wrong = [&](const std::string& why) {
    return internal_error("the worker's result of " + std::string(to_string(outcome.key.kind)) +
                          " is malformed: " + why);
  };
  if (!outcome.result.is_object()) return wrong("it is no object");
  switch (outcome.key.kind) {
    case WorkKind::kInspect: {
      const auto info = ModelInfo::parse(outcome.result);
      if (!info.has_value()) return wrong(info.error().message);
      return {};
    }
    case WorkKind::kTrial:
    case WorkKind::kVerify: {
      const auto measurement = Measurement::parse(outcome.result);
      if (!measurement.has_value()) return wrong(measurement.error().message);
      return {};
    }
    case WorkKind::kExport: {
      const auto file = outcome.result.find("file");
      if (file == outcome.result.end() || !file->is_string()) return wrong("no \"file\"");
      return {};
    }
    case WorkKind::kProfile: {
      const auto looks = LookResult::parse(outcome.result);
      if (!looks.has_value()) return wrong(looks.error().message);
      return {};
    }
  }
  return {};
}

// What a candidate takes: the baseline's time without what is done once a study, and without timing
// where no trial is timed; and what it takes to be proposed, leased, sent and kept (9 to 17 ms of the
// digits' and the shapes' trials), without which looks would seem dear where a trial takes milliseconds.
constexpr double kSecondsBesidePhases = 0.01;

double candidate_seconds(const Measurement& baseline, bool timed) {
  static const std::set<std::string> kOnce = {"load", "baseline", "wait_lock"};
  static const std::set<std::string> kTiming = {"latency", "layers", "energy"};
  double ms = 0;
  for (const auto& [phase, spent] : baseline.phase_ms) {
    if (!kOnce.contains(phase) && (timed || !kTiming.contains(phase))) ms += spent;
  }
  return ms / 1000 + kSecondsBesidePhases;
}

/// Of all that decides what fewer channels take.
std::string channel_costs_key(const StudyDefinition& study, const std::string& hardware) {
  constexpr const char* kMethod = "channel costs 1";  // another one measures anew
  return sha256_hex(canonical_text({{"what", kMethod},
                                    {"model", study.model},
                                    {"hardware", hardware},
                                    {"threads", study.measure.threads},
                                    {"batch", study.measure.batch}}));
}

Json data_files(const DataFiles& data) {
  Json out = Json::object();
  if (!data.single.empty()) out["single"] = data.single;
  if (!data.calibration.empty()) out["calibration"] = data.calibration;
  if (!data.evaluation.empty()) out["evaluation"] = data.evaluation;
  if (!data.test.empty()) out["test"] = data.test;
  return out;
}

}  // namespace

void Core::worker_joined(WorkerInfo worker) { leases_.join(std::move(worker)); }

void Core::worker_left(const std::string& worker, Clock::Duration grace) {
  idle_.erase(worker);
  leaving_.erase(worker);
  last_study_.erase(worker);
  leases_.leave(worker, grace);
  for (LapsedLease& lapsed : leases_.expire()) to_release_.push_back(std::move(lapsed));
  release_lapsed();
  for (auto& [id, study] : studies_) advance(*study);
  remove_ended();
  dispatch();
}

void Core::worker_ready(const std::string& worker) {
  for (Lease& lease : leases_.leases_of_worker(worker)) {
    (void)leases_.finish(lease.key, lease.token);
    to_release_.push_back({std::move(lease), Error{ErrorCode::kUnavailable,
                                                   "the worker dropped the work"}});
  }
  release_lapsed();
  free_worker(worker);
  dispatch();
  if (!idle_.contains(worker)) return;
  // Nothing was in line: studies may propose for it.
  for (auto& [id, study] : studies_) advance(*study);
  remove_ended();
  dispatch();
}

void Core::worker_leaving(const std::string& worker) {
  idle_.erase(worker);
  if (leases_.worker(worker) != nullptr) leaving_.insert(worker);
}

Result<void> Core::heartbeat(const std::string& worker, const WorkKey& key, std::int64_t token,
                             const WorkProgress& progress) {
  return leases_.heartbeat(key, token, worker, progress);
}

std::vector<WorkerStatus> Core::workers() const {
  std::vector<WorkerStatus> out;
  for (const auto& [id, info] : leases_.workers()) {
    WorkerStatus status{info, std::nullopt, {}};
    for (const Lease& lease : leases_.leases_of_worker(id)) {
      status.work = lease.key;
      status.progress = lease.progress;
    }
    out.push_back(std::move(status));
  }
  return out;
}

Result<void> Core::outcome(const std::string& worker, const WorkOutcome& reported) {
  WorkOutcome outcome = reported;
  if (const auto sound = check_result(outcome); !sound.has_value()) {
    outcome.error = sound.error();
    outcome.result = nullptr;
    outcome.retry = true;
  }
  TrialState state = TrialState::kComplete;
  const bool retry = outcome.error.has_value() && outcome.retry;
  if (retry) {
    const bool blameless = outcome.error->code == ErrorCode::kCancelled;
    const auto released =
        store_.release(outcome.key, outcome.token, *outcome.error,
                       blameless ? options_.max_blameless_attempts : options_.max_attempts);
    if (!released.has_value()) return refused(worker, released.error());
    state = *released;
  } else if (const auto finished = store_.finish(outcome); !finished.has_value()) {
    return refused(worker, finished.error());
  }
  std::optional<Lease> lease = leases_.finish(outcome.key, outcome.token);
  free_worker(worker);
  // An outcome that was acknowledged before, and whose acknowledgement was lost, changes nothing.
  if (!lease) {
    const auto lapsed = std::find_if(to_release_.begin(), to_release_.end(), [&](const auto& one) {
      return one.lease.key == outcome.key && one.lease.token == outcome.token;
    });
    if (lapsed == to_release_.end()) {
      dispatch();
      return {};
    }
    lease = lapsed->lease;
    to_release_.erase(lapsed);
  }
  charge(*lease);
  if (retry) {
    log(outcome.key.study, "log",
        {{"kind", std::string(to_string(outcome.key.kind))},
         {"number", outcome.key.number},
         {"worker", worker},
         {"message", "attempt failed: " + outcome.error->message}});
  }
  work_ended(outcome.key, retry ? state : TrialState::kComplete);
  return {};
}

// A worker whose outcome isn't wanted is free as well; one whose outcome found no room keeps it.
Error Core::refused(const std::string& worker, const Error& error) {
  if (error.code == ErrorCode::kResourceExhausted) {
    store_full_ = true;
  } else {
    free_worker(worker);
    dispatch();
  }
  return error;
}

// Not one that has work in its hands, or on the way to it.
void Core::free_worker(const std::string& worker) {
  if (leases_.worker(worker) == nullptr || leaving_.contains(worker)) return;
  if (leases_.leases_of_worker(worker).empty()) idle_.insert(worker);
}

// Worker time counts against its study's share.
void Core::charge(const Lease& lease) {
  if (Study* study = find(lease.key.study)) {
    study->served += clock_.steady_now() - lease.granted_at;
  }
}

// A lease is over and the store knows. `state` is kWaiting where the work goes back in line;
// anything else stands for "has its terminal state".
void Core::work_ended(const WorkKey& key, TrialState state) {
  note_end(key, state);
  remove_ended();
  dispatch();
}

void Core::note_end(const WorkKey& key, TrialState state) {
  changed_.insert(key.study);
  Study* study = find(key.study);
  if (key.kind == WorkKind::kExport) {
    if (state != TrialState::kWaiting) export_ended(key);
  } else if (study != nullptr && state == TrialState::kWaiting) {
    study->line_stale = true;
    if (key.kind == WorkKind::kTrial) study->machine.trial_returned(key.number);
  } else if (study != nullptr) {
    switch (key.kind) {
      case WorkKind::kInspect: {
        const auto record = store_.work(key);
        if (record.has_value()) inspect_ended(*study, *record);
        break;
      }
      case WorkKind::kTrial:
        trial_ended(*study, key.number);
        break;
      case WorkKind::kVerify:
        if (study->open_verifications.erase(key.number) > 0) study->machine.verify_finished();
        break;
      case WorkKind::kProfile:
        profile_part_ended(*study, key);
        break;
      case WorkKind::kExport:
        break;
    }
  }
  if (study != nullptr) advance(*study);
}

void Core::release_lapsed() {
  std::vector<LapsedLease> kept;
  for (LapsedLease& lapsed : std::exchange(to_release_, {})) {
    const WorkKey key = lapsed.lease.key;
    const auto released = store_.release(
        key, lapsed.lease.token, lapsed.error,
        lapsed.lease.confirmed ? options_.max_attempts : options_.max_blameless_attempts);
    if (!released.has_value() && released.error().code == ErrorCode::kResourceExhausted) {
      store_full_ = true;
      kept.push_back(std::move(lapsed));
      continue;
    }
    actions_.cancellations.push_back({lapsed.lease.worker, key, lapsed.lease.token});
    charge(lapsed.lease);
    if (!released.has_value()) continue;  // aborted: it ended in another way
    log(key.study, "log",
        {{"kind", std::string(to_string(key.kind))},
         {"number", key.number},
         {"message", "lease lapsed: " + lapsed.error.message}});
    work_ended(key, *released);
  }
  to_release_.insert(to_release_.end(), std::make_move_iterator(kept.begin()),
                     std::make_move_iterator(kept.end()));
}

// The first that were measured stay, so that later studies search the same space.
Result<void> Core::keep_channel_costs(const Study& study) {
  const ChannelCosts costs = study.model->channel_costs();
  if (costs.hardware.empty()) return {};
  const std::string key = channel_costs_key(study.definition, costs.hardware);
  KERF_ASSIGN(const auto known, store_.looks({key}));
  if (known.contains(key)) return {};
  return store_.keep_looks({{key, costs.to_json()}});
}

void Core::inspect_ended(Study& study, const storage::WorkRecord& record) {
  if (record.state != TrialState::kComplete) {
    study.machine.inspect_finished(
        with_context("inspect", record.error.value_or(internal_error("no error was told"))));
    return;
  }
  auto info = ModelInfo::parse(record.result);
  if (!info.has_value()) {
    study.machine.inspect_finished(with_context("inspect", info.error()));
    return;
  }
  study.model = std::move(*info);
  if (!keep_channel_costs(study).has_value()) store_full_ = true;
  if (!store_.put_document(study.record.id, "model", record.result).has_value()) store_full_ = true;
  study.machine.inspect_finished(std::nullopt);
}

void Core::trial_ended(Study& study, std::int64_t number) {
  const auto read = store_.trial(study.record.id, number);
  if (!read.has_value()) return;
  const Trial& trial = *read;
  study.machine.trial_finished(number, TrialState::kRunning, trial.state, trial.error);
  ++study.finished_here;
  if (number == 0) baseline_ended(study, trial);
  learn(study, trial);
  if (std::exchange(study.front_changed, false) && study.front) {
    const Json front = {{"trials", study.front->trials()},
                        {"hypervolume", study.front->hypervolume()},
                        {"after", number}};
    if (!store_.put_document(study.record.id, "front", front).has_value()) store_full_ = true;
    log(study.record.id, "front", front);
  }
}

// Fixes what all other trials are compared with. Also at a restart: the documents are written again
// with the same content.
void Core::baseline_ended(Study& study, const Trial& trial) {
  if (trial.state != TrialState::kComplete) return;
  const std::string& id = study.record.id;
  study.definition = effective_study(std::move(study.definition), trial.measurement);
  const auto reference = search::reference_point(study.definition, trial.measurement);
  if (!reference.has_value()) {
    study.machine.fail(with_context("baseline", reference.error()));
    return;
  }
  const search::Outcome seen = search::observe(study.definition, trial.measurement);
  if (!seen.complete()) {
    std::string missing;
    for (const std::string& name : seen.missing) missing += (missing.empty() ? "" : ", ") + name;
    study.machine.fail(Error{ErrorCode::kFailedPrecondition,
                             "baseline: " + missing + " can't be measured with this data on this "
                             "hardware; expected objectives and constraints that can"});
    return;
  }
  // Fixed when the study was made: a later version's rule doesn't move it.
  study.reference = *reference;
  const auto fixed = store_.document(id, "reference");
  if (fixed.has_value() && *fixed && (*fixed)->contains("point")) {
    const auto point = (**fixed)["point"].get<std::vector<double>>();
    if (point.size() == reference->size()) study.reference = point;
  }
  study.front.emplace(search::directions_of(study.definition), study.reference);
  study.racing.emplace(study.definition, trial.measurement);
  study.measured_on = search::hardware_id(trial);
  if (const auto measured = Measurement::parse(trial.measurement); measured.has_value()) {
    study.hardware = measured->hardware;
    study.trial_seconds = candidate_seconds(*measured, trial_metrics(study.definition).empty());
  }
  const auto pinned = store_.document(id, "hardware");
  if (pinned.has_value() && pinned->has_value() && (*pinned)->is_object()) {
    study.hardware_id = (*pinned)->value("id", "");
  } else {
    study.hardware_id = study.measured_on;
  }
  if (study.hardware_id.empty()) study.hardware_id = study.measured_on;
  const Json objectives = [&] {
    Json out = Json::array();
    for (const Objective& objective : study.definition.objectives) {
      out.push_back({{"metric", objective.metric},
                     {"direction", std::string(to_string(objective.direction))}});
    }
    return out;
  }();
  const std::map<std::string, Json> documents = {{"reference", {{"point", study.reference}}},
                                                 {"objectives", objectives}};
  for (const auto& [name, document] : documents) {
    const auto there = store_.document(id, name);
    if (there.has_value() && there->has_value() && **there == document) continue;
    if (!store_.put_document(id, name, document).has_value()) store_full_ = true;
  }
}

void Core::export_trial(const std::string& study, std::int64_t number,
                        std::function<void(Result<std::string>)> done) {
  const WorkKey key{study, WorkKind::kExport, number};
  const auto trial = store_.trial(study, number);
  if (!trial.has_value()) return done(trial.error());
  if (trial->state != TrialState::kComplete) {
    return done(Error{ErrorCode::kFailedPrecondition,
                      "trial " + std::to_string(number) + " of study " + study + " is " +
                          std::string(to_string(trial->state)) + "; expected a complete one"});
  }
  const auto queued =
      store_.enqueue(study, {{WorkKind::kExport, number, trial->candidate, {}, ""}});
  if (!queued.has_value()) return done(queued.error());
  exports_wanted_[key].push_back(std::move(done));
  const auto record = store_.work(key);
  if (record.has_value() && is_terminal(record->state)) {
    export_ended(key);
  } else {
    dispatch();
  }
}

void Core::export_ended(const WorkKey& key) {
  auto waiting = exports_wanted_.extract(key);
  if (waiting.empty()) return;
  const auto record = store_.work(key);
  Result<std::string> answer = internal_error("export ended without a result");
  if (!record.has_value()) {
    answer = record.error();
  } else if (record->error) {
    answer = *record->error;
  } else if (record->result.is_object() && record->result.contains("file")) {
    answer = record->result["file"].get<std::string>();
  }
  for (const auto& done : waiting.mapped()) done(answer);
}

bool Core::labels_suit(const Study& study, const WorkerInfo& worker) {
  return std::all_of(study.definition.hardware_labels.begin(),
                     study.definition.hardware_labels.end(), [&](const auto& wanted) {
                       const auto found = worker.labels.find(wanted.first);
                       return found != worker.labels.end() && found->second == wanted.second;
                     });
}

bool Core::suits(const Study& study, const WorkerInfo& worker) const {
  if (!labels_suit(study, worker)) return false;
  return study.hardware_id.empty() || worker.hardware_id.empty() ||
         worker.hardware_id == study.hardware_id;
}

std::int64_t Core::idle_for(const Study& study) const {
  return std::count_if(idle_.begin(), idle_.end(), [&](const std::string& id) {
    const WorkerInfo* worker = leases_.worker(id);
    return worker != nullptr && suits(study, *worker);
  });
}

void Core::dispatch() {
  while (!store_full_) {
    for (const std::string& worker : std::set<std::string>(idle_)) {
      idle_.erase(worker);
      if (store_full_ || !hand_out(worker)) idle_.insert(worker);
    }
    if (never_started_.empty()) return;
    for (const WorkKey& key : std::exchange(never_started_, {})) note_end(key, TrialState::kFailed);
    remove_ended();
  }
}

// The next piece of a study's line, read from the store where what is known of it is used up.
std::optional<WorkKey> Core::front_of_line(Study& study) {
  if (study.line.empty() && study.line_stale) {
    const auto waiting = store_.waiting(study.record.id, kLineRead);
    if (!waiting.has_value()) return std::nullopt;
    study.line.assign(waiting->begin(), waiting->end());
    study.line_stale = static_cast<std::int64_t>(waiting->size()) == kLineRead;
  }
  if (study.line.empty()) return std::nullopt;
  return study.line.front();
}

bool Core::hand_out(const std::string& worker_id) {
  const WorkerInfo* worker = leases_.worker(worker_id);
  if (worker == nullptr) return false;
  for (const auto& [key, wanted] : exports_wanted_) {
    if (leases_.leases().contains(key)) continue;
    const auto record = store_.work(key);
    if (record.has_value() && record->state == TrialState::kWaiting && give(key, *worker)) {
      return true;
    }
  }
  const Clock::SteadyTime now = clock_.steady_now();
  std::map<std::string, Clock::Duration> running;
  for (const auto& [key, lease] : leases_.leases()) running[key.study] += now - lease.granted_at;
  std::vector<std::pair<Clock::Duration, Study*>> candidates;
  for (auto& [id, study] : studies_) {
    if (!study->machine.may_lease(study->window_open) || !suits(*study, *worker)) continue;
    if (front_of_line(*study)) candidates.emplace_back(study->served + running[id], study.get());
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto last = last_study_.find(worker_id);
  if (last != last_study_.end() && !candidates.empty()) {
    const auto same = std::find_if(candidates.begin(), candidates.end(), [&](const auto& one) {
      return one.second->record.id == last->second;
    });
    if (same != candidates.end() && same->first <= candidates.front().first + options_.stay) {
      std::rotate(candidates.begin(), same, same + 1);
    }
  }
  for (const auto& [served, study] : candidates) {
    while (const auto key = front_of_line(*study)) {
      study->line.pop_front();
      if (give(*key, *worker)) return true;
      if (store_full_) return false;
    }
  }
  return false;
}

// Leases a piece of work to a worker; false where it isn't to be had.
bool Core::give(const WorkKey& key, const WorkerInfo& worker) {
  const auto grant = store_.lease(key, worker.name);
  if (!grant.has_value()) {
    Study* study = find(key.study);
    if (grant.error().code != ErrorCode::kAborted && grant.error().code != ErrorCode::kNotFound) {
      store_full_ = true;
      if (study != nullptr) study->line.push_front(key);
    }
    return false;
  }
  leases_.grant(key, grant->token, worker.id);
  if (Study* study = find(key.study)) {
    if (key.kind == WorkKind::kTrial) study->machine.trial_leased(key.number);
    if (key.kind == WorkKind::kTrial && key.number == 0) {
      const Json hardware = {{"id", worker.hardware_id}, {"fingerprint", worker.hardware}};
      if (!store_.put_document(key.study, "hardware", hardware).has_value()) store_full_ = true;
    }
    changed_.insert(key.study);
  }
  last_study_[worker.id] = key.study;
  auto work = build_work(*grant, worker);
  if (work.has_value()) {
    actions_.assignments.push_back({worker.id, std::move(*work)});
    // One more may be wanted in line behind it.
    if (Study* study = find(key.study)) advance(*study);
    return true;
  }
  const WorkOutcome failed{key, grant->token, nullptr, work.error(), false};
  if (store_.finish(failed).has_value()) {
    (void)leases_.finish(key, grant->token);
    never_started_.push_back(key);
  }
  return false;
}

/// What an exported file says of itself: hashes of what it was made from, the plan, what was measured.
std::map<std::string, std::string> Core::where_from(const storage::LeaseGrant& grant,
                                                    const StudyDefinition& definition) {
  std::map<std::string, std::string> out = {
      {"kerf.study", grant.key.study},
      {"kerf.trial", std::to_string(grant.key.number)},
      {"kerf.plan", canonical_text(grant.candidate)},
      {"kerf.source", definition.model},
      {"kerf.calibration", definition.data.single.empty() ? definition.data.calibration
                                                          : definition.data.single}};
  const auto trial = store_.trial(grant.key.study, grant.key.number);
  if (!trial.has_value()) return out;
  if (const auto measured = measured_metadata(trial->measurement); measured.has_value()) {
    out.insert(measured->begin(), measured->end());
  }
  return out;
}

Result<Work> Core::build_work(const storage::LeaseGrant& grant, const WorkerInfo& worker) {
  const Study* study = find(grant.key.study);
  StudyDefinition stored;
  if (study == nullptr) {
    KERF_ASSIGN(const storage::StudyRecord record, store_.study(grant.key.study));
    KERF_ASSIGN(stored, StudyDefinition::parse(record.definition));
  }
  const StudyDefinition& definition = study != nullptr ? study->definition : stored;
  Work work{grant.key, grant.token, Json::object()};
  Json& payload = work.payload;
  payload["model"] = definition.model;
  payload["data"] = data_files(definition.data);
  payload["seed"] = definition.search.seed;
  payload["measure"] = {{"threads", definition.measure.threads},
                        {"batch", definition.measure.batch}};
  payload["preprocess"] = definition.preprocess ? definition.preprocess->to_json() : Json();
  payload["attempt"] = grant.attempt;
  if (grant.key.kind == WorkKind::kProfile) {
    payload["looks"] = grant.candidate;
  } else if (grant.key.kind != WorkKind::kInspect) {
    payload["plan"] = grant.candidate;
  }
  switch (grant.key.kind) {
    case WorkKind::kTrial:
      payload["metrics"] =
          grant.key.number == 0 ? std::vector<std::string>{} : trial_metrics(definition);
      if (study != nullptr && study->racing && study->front && grant.key.number != 0) {
        if (const auto terms = study->racing->terms(study->front->trials())) payload["racing"] = terms->to_json();
      }
      break;
    case WorkKind::kVerify:
      payload["metrics"] = verify_metrics();
      break;
    case WorkKind::kExport:
      payload["metadata"] = where_from(grant, definition);
      break;
    case WorkKind::kInspect:
      payload["scan_channels"] = definition.space.snap_channels;
      if (definition.space.snap_channels) {
        const std::string key = channel_costs_key(definition, worker.hardware_id);
        KERF_ASSIGN(const auto known, store_.looks({key}));
        if (known.contains(key)) payload["channel_costs"] = known.at(key);
      }
      break;
    case WorkKind::kProfile:
      break;
  }
  return work;
}

}  // namespace kerf::scheduler
