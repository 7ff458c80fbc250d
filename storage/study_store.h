#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/json.h"
#include "core/result.h"
#include "core/study.h"
#include "core/trial.h"
#include "core/work.h"

namespace kerf::storage {

/// What a study is doing. kRunning and kPaused go on after a restart; the others are final.
enum class StudyState { kRunning, kPaused, kComplete, kCancelled, kFailed };

[[nodiscard]] std::string_view to_string(StudyState state);
[[nodiscard]] std::optional<StudyState> study_state_from_string(std::string_view text);

/// A study as the store holds it. Files are ids ("sha256:…") by then.
struct StudyRecord {
  std::string id;               ///< Made by the store: time-ordered, unique, URL-safe.
  StudyState state = StudyState::kRunning;
  Json definition;              ///< StudyDefinition::to_json() with file ids.
  std::string identity;         ///< StudyDefinition::identity() of that.
  std::string reason;           ///< Why it is complete or failed ("budget.trials", an error's text).
  std::string created_at;       ///< RFC 3339, UTC.
  std::string finished_at;
  double active_seconds = 0;    ///< Time spent running, for budget.seconds across restarts.
};

/// Work to put in line. For kTrial the number is given by the store (the next one).
struct NewWork {
  WorkKind kind = WorkKind::kTrial;
  std::int64_t number = 0;       ///< For kinds other than kTrial.
  Json candidate;                ///< CompressionPlan (trial, verify, export), LookRequest (profile); null for inspect.
  std::vector<int> choices;      ///< The sampler's coordinates; trials only.
  std::string fingerprint;       ///< CompressionPlan::canonical(); unique among a study's trials.
};

/// A lease that was taken.
struct LeaseGrant {
  WorkKey key;
  std::int64_t token = 0;     ///< Greater than every earlier token of this store.
  std::int64_t attempt = 0;   ///< From 1.
  Json candidate;
};

/// One piece of work that is not a trial, and where it stands.
struct WorkRecord {
  WorkKey key;
  TrialState state = TrialState::kWaiting;
  Json candidate;
  Json result;
  std::int64_t attempts = 0;
  std::optional<Error> error;
};

/// An entry of a study's log, also sent as SSE.
struct Event {
  std::int64_t id = 0;    ///< Grows within the store.
  std::string type;       ///< "trial", "front", "state", "log", …
  Json data;
  std::string at;         ///< RFC 3339, UTC.
};

/// A file that came in as a model or a data set.
struct Upload {
  std::string id;          ///< "sha256:…"
  std::string kind;        ///< "model", "dataset".
  std::string name;        ///< What its sender called it; may be empty.
  std::int64_t bytes = 0;
  std::string created_at;  ///< RFC 3339, UTC.
};

/// The only truth about studies, trials and their results.
///
/// Every state change is a compare-and-set inside one transaction; what a call acknowledged is on
/// disk (synchronous=FULL). A waiting or running piece of work gets exactly one terminal state.
///
/// Trials are numbered from 0 without a gap. Each change of a trial's state is also an event "trial"
/// {number, state}, of other work "work" {kind, number, state}, of a study "state" {state, reason}:
/// written in the same transaction.
///
/// Errors:   resource_exhausted where the disk is full (nothing changed; reading goes on);
///           not_found for an unknown id. Throws std::runtime_error where the database is damaged.
/// Threads:  one thread at a time.
class StudyStore {
 public:
  virtual ~StudyStore() = default;

  /// Creates a study in kRunning. With an idempotency key: the same key and body give the same
  /// study again; the same key with another body is already_exists.
  [[nodiscard]] virtual Result<StudyRecord> create_study(const Json& definition,
                                                         const std::string& identity,
                                                         const std::string& idempotency_key) = 0;
  [[nodiscard]] virtual Result<StudyRecord> study(const std::string& id) = 0;
  /// The newest study of that identity.
  [[nodiscard]] virtual Result<std::optional<StudyRecord>> find_by_identity(
      const std::string& identity) = 0;
  /// Oldest first; those after `cursor` (an id; empty = from the start), at most `limit`.
  [[nodiscard]] virtual Result<std::vector<StudyRecord>> studies(const std::string& cursor,
                                                                 std::int64_t limit) = 0;
  /// kAborted where the study's state isn't `from`. A final state stamps finished_at; leaving one
  /// (a resumed run with a larger budget) clears it and the reason.
  [[nodiscard]] virtual Result<void> set_study_state(const std::string& id, StudyState from,
                                                     StudyState to, const std::string& reason) = 0;
  [[nodiscard]] virtual Result<void> add_active_seconds(const std::string& id, double seconds) = 0;
  /// Replaces the definition's budget (a resumed `kerf run` with other --trials).
  [[nodiscard]] virtual Result<void> set_budget(const std::string& id, const Json& budget) = 0;

  /// Puts work in line, all or nothing. A trial whose fingerprint the study has already is left
  /// out. Returns the numbers given, in order, -1 for those left out. For other kinds a (kind,
  /// number) that is there already is left out as well.
  [[nodiscard]] virtual Result<std::vector<std::int64_t>> enqueue(
      const std::string& study, const std::vector<NewWork>& work) = 0;

  /// waiting -> running, attempt + 1, a new token. kAborted where it isn't waiting.
  [[nodiscard]] virtual Result<LeaseGrant> lease(const WorkKey& key, const std::string& worker) = 0;

  /// running -> the terminal state that the outcome says (complete or failed; pruned where the
  /// result has {"pruned": true}). kAborted where the token isn't the current one: then the outcome
  /// is kept for the record only. The same outcome again (same token) is acknowledged again.
  [[nodiscard]] virtual Result<void> finish(const WorkOutcome& outcome) = 0;

  /// A lease lapsed or its attempt failed in a way that may pass: running -> waiting, or -> failed
  /// with `error` after `max_attempts`. kAborted where the token isn't the current one. Returns the
  /// state it has now.
  [[nodiscard]] virtual Result<TrialState> release(const WorkKey& key, std::int64_t token,
                                                   const Error& error,
                                                   std::int64_t max_attempts) = 0;

  /// At start: everything that was running waits again (its lease died with the process); an
  /// attempt that has been the third fails. Returns how many.
  [[nodiscard]] virtual Result<std::int64_t> requeue_running(std::int64_t max_attempts) = 0;

  /// Waiting work of a running study, in the order inspect, trial, verify, export, profile, then number. Of
  /// a study that isn't running only exports: who asks for a model gets it after the end as well.
  [[nodiscard]] virtual Result<std::vector<WorkKey>> waiting(const std::string& study,
                                                             std::int64_t limit) = 0;

  [[nodiscard]] virtual Result<Trial> trial(const std::string& study, std::int64_t number) = 0;
  /// By number, from `first` on, at most `limit`.
  [[nodiscard]] virtual Result<std::vector<Trial>> trials(const std::string& study,
                                                          std::int64_t first,
                                                          std::int64_t limit) = 0;
  [[nodiscard]] virtual Result<WorkRecord> work(const WorkKey& key) = 0;

  /// Appends to the study's log.
  [[nodiscard]] virtual Result<std::int64_t> log(const std::string& study, const std::string& type,
                                                 const Json& data) = 0;
  [[nodiscard]] virtual Result<std::vector<Event>> events(const std::string& study,
                                                          std::int64_t after,
                                                          std::int64_t limit) = 0;

  /// Small documents by study and name (the model's info, the front, the reference point).
  [[nodiscard]] virtual Result<void> put_document(const std::string& study, const std::string& name,
                                                  const Json& document) = 0;
  [[nodiscard]] virtual Result<std::optional<Json>> document(const std::string& study,
                                                             const std::string& name) = 0;

  /// Keeps what was learned of a model for every study: small documents by key (a hash of all that
  /// decides them). The same key again replaces.
  [[nodiscard]] virtual Result<void> keep_looks(const std::map<std::string, Json>& looks) = 0;
  /// Those of the keys that are there.
  [[nodiscard]] virtual Result<std::map<std::string, Json>> looks(
      const std::vector<std::string>& keys) = 0;

  /// Notes a file among the models or data sets; the same id and kind again keeps the first.
  [[nodiscard]] virtual Result<void> record_upload(const Upload& upload) = 0;
  /// Oldest first; those of a kind after `cursor` (an id; empty = from the start), at most `limit`.
  [[nodiscard]] virtual Result<std::vector<Upload>> uploads(const std::string& kind,
                                                            const std::string& cursor,
                                                            std::int64_t limit) = 0;

  /// Writes a copy of everything in the store (not of the files) to `path`, which appears whole and
  /// checked, or not at all. already_exists where something is there.
  [[nodiscard]] virtual Result<void> backup_to(const std::string& path) = 0;
};

}  // namespace kerf::storage
