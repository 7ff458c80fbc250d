#include <algorithm>
#include <utility>

#include "storage/sqlite/store_impl.h"

namespace kerf::storage {
namespace {

/// work.kind in the schema: frozen, whatever the enumeration's order becomes.
int stored(WorkKind kind) {
  switch (kind) {
    case WorkKind::kInspect:
      return 0;
    case WorkKind::kTrial:
      return 1;
    case WorkKind::kVerify:
      return 2;
    case WorkKind::kExport:
      return 3;
    case WorkKind::kProfile:
      return 4;
  }
  return 0;
}

WorkKind kind_from_stored(std::int64_t value) {
  switch (value) {
    case 0:
      return WorkKind::kInspect;
    case 1:
      return WorkKind::kTrial;
    case 2:
      return WorkKind::kVerify;
    case 4:
      return WorkKind::kProfile;
    default:
      return WorkKind::kExport;
  }
}

std::string describe(const WorkKey& key) {
  return std::string(to_string(key.kind)) + " " + std::to_string(key.number) + " of study " +
         key.study;
}

/// The outcome as columns.
struct StoredOutcome {
  std::optional<std::string> result;
  std::optional<std::string> error_code;
  std::optional<std::string> error_message;

  explicit StoredOutcome(const WorkOutcome& outcome) {
    if (!outcome.result.is_null()) result = canonical_text(outcome.result);
    if (!outcome.error) return;
    error_code = std::string(to_string(outcome.error->code));
    error_message = outcome.error->message;
  }
};

std::optional<Error> error_of(const Query& query, int code_column) {
  if (query.is_null(code_column)) return std::nullopt;
  return Error{error_code_from_string(query.text(code_column)), query.text(code_column + 1)};
}

std::optional<std::string> text_or_null(const Query& query, int column) {
  if (query.is_null(column)) return std::nullopt;
  return query.text(column);
}

TrialState terminal_state(const WorkOutcome& outcome) {
  if (outcome.error) return TrialState::kFailed;
  if (outcome.key.kind == WorkKind::kTrial && outcome.result.is_object() &&
      outcome.result.value("pruned", Json(false)) == Json(true)) {
    return TrialState::kPruned;
  }
  return TrialState::kComplete;
}

constexpr std::string_view kTrialColumns =
    "SELECT t.number, t.state, t.candidate, t.choices, t.result, t.attempts, t.error_code, "
    "t.error_message, t.started_at, t.finished_at, v.result "
    "FROM work t LEFT JOIN work v ON v.study = t.study AND v.kind = 2 AND v.number = t.number "
    "AND v.state = 'complete' WHERE t.kind = 1 AND t.study = ?1 ";

}  // namespace

void SqliteStore::append_work_event(const WorkKey& key, TrialState state) {
  Json data = {{"number", key.number}, {"state", std::string(to_string(state))}};
  if (key.kind == WorkKind::kTrial) {
    append_event(key.study, "trial", data);
  } else {
    data["kind"] = std::string(to_string(key.kind));
    append_event(key.study, "work", data);
  }
}

Error SqliteStore::no_such_work(const WorkKey& key) const {
  return not_found("no " + describe(key));
}

Result<std::vector<std::int64_t>> SqliteStore::enqueue(const std::string& study,
                                                       const std::vector<NewWork>& work) {
  return write([&]() -> Result<std::vector<std::int64_t>> {
    KERF_TRY(require_study(study));
    std::int64_t next = 0;
    {
      Query last(database_, "SELECT max(number) FROM work WHERE study = ?1 AND kind = 1", study);
      if (last.next() && !last.is_null(0)) next = last.integer(0) + 1;
    }
    std::vector<std::int64_t> out;
    for (const NewWork& item : work) {
      const bool is_trial = item.kind == WorkKind::kTrial;
      const WorkKey key{study, item.kind, is_trial ? next : item.number};
      const auto changed =
          Query(database_,
                "INSERT INTO work (study, kind, number, candidate, choices, fingerprint, created_at)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                study, stored(item.kind), key.number, canonical_text(item.candidate),
                canonical_text(Json(item.choices)), item.fingerprint, now())
              .run();
      if (changed == 0) {
        out.push_back(-1);
        continue;
      }
      append_work_event(key, TrialState::kWaiting);
      out.push_back(key.number);
      if (is_trial) ++next;
    }
    return out;
  });
}

Result<LeaseGrant> SqliteStore::lease(const WorkKey& key, const std::string& worker) {
  return write([&]() -> Result<LeaseGrant> {
    LeaseGrant grant;
    grant.key = key;
    {
      Query work(database_,
                 "SELECT state, attempts, candidate FROM work "
                 "WHERE study = ?1 AND kind = ?2 AND number = ?3",
                 key.study, stored(key.kind), key.number);
      if (!work.next()) return no_such_work(key);
      if (work.text(0) != to_string(TrialState::kWaiting)) {
        return Error{ErrorCode::kAborted, describe(key) + " is " + work.text(0) + ", not waiting"};
      }
      grant.attempt = work.integer(1) + 1;
      grant.candidate = parse(work.text(2));
    }
    {
      Query token(database_,
                  "UPDATE meta SET value = value + 1 WHERE name = 'token' RETURNING value");
      if (!token.next()) throw std::runtime_error(damaged(path_, "it has no token").message);
      grant.token = token.integer(0);
      while (token.next()) {
      }
    }
    Query(database_,
          "UPDATE work SET state = 'running', token = ?4, attempts = ?5, worker = ?6, "
          "started_at = ?7 WHERE study = ?1 AND kind = ?2 AND number = ?3 AND state = 'waiting'",
          key.study, stored(key.kind), key.number, grant.token, grant.attempt, worker, now())
        .run();
    append_work_event(key, TrialState::kRunning);
    return grant;
  });
}

Result<void> SqliteStore::finish(const WorkOutcome& outcome) {
  const WorkKey& key = outcome.key;
  const StoredOutcome columns(outcome);
  bool late = false;
  auto result = write([&]() -> Result<void> {
    {
      Query work(database_,
                 "SELECT state, token, result, error_code, error_message FROM work "
                 "WHERE study = ?1 AND kind = ?2 AND number = ?3",
                 key.study, stored(key.kind), key.number);
      if (!work.next()) return no_such_work(key);
      const std::string state = work.text(0);
      const bool current = work.integer(1) == outcome.token;
      if (current && state != "running" && state != "waiting" &&
          text_or_null(work, 2) == columns.result && text_or_null(work, 3) == columns.error_code &&
          text_or_null(work, 4) == columns.error_message) {
        return {};
      }
      if (!current || state != "running") {
        late = true;
        return Error{ErrorCode::kAborted,
                     "the lease " + std::to_string(outcome.token) + " of " + describe(key) +
                         " has lapsed; it is " + state +
                         (current ? "" : " under lease " + std::to_string(work.integer(1)))};
      }
    }
    const TrialState state = terminal_state(outcome);
    Query(database_,
          "UPDATE work SET state = ?4, result = ?5, error_code = ?6, error_message = ?7, "
          "finished_at = ?8 WHERE study = ?1 AND kind = ?2 AND number = ?3",
          key.study, stored(key.kind), key.number, to_string(state), columns.result,
          columns.error_code, columns.error_message, now())
        .run();
    append_work_event(key, state);
    return {};
  });
  if (late) KERF_TRY(keep_late(outcome));
  return result;
}

Result<void> SqliteStore::keep_late(const WorkOutcome& outcome) {
  const StoredOutcome columns(outcome);
  return write([&]() -> Result<void> {
    // A token that was never given is nobody's outcome.
    Query(database_,
          "INSERT INTO late_outcomes (study, kind, number, token, result, error_code, "
          "error_message, at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE ?4 BETWEEN 1 AND "
          "(SELECT value FROM meta WHERE name = 'token') ON CONFLICT DO NOTHING",
          outcome.key.study, stored(outcome.key.kind), outcome.key.number, outcome.token,
          columns.result, columns.error_code, columns.error_message, now())
        .run();
    return {};
  });
}

TrialState SqliteStore::give_back(const WorkKey& key, std::int64_t attempts,
                                  std::int64_t max_attempts, const Error& error) {
  if (attempts < max_attempts) {
    Query(database_,
          "UPDATE work SET state = 'waiting', worker = '' "
          "WHERE study = ?1 AND kind = ?2 AND number = ?3",
          key.study, stored(key.kind), key.number)
        .run();
    append_work_event(key, TrialState::kWaiting);
    return TrialState::kWaiting;
  }
  Query(database_,
        "UPDATE work SET state = 'failed', error_code = ?4, error_message = ?5, finished_at = ?6 "
        "WHERE study = ?1 AND kind = ?2 AND number = ?3",
        key.study, stored(key.kind), key.number, to_string(error.code), error.message, now())
      .run();
  append_work_event(key, TrialState::kFailed);
  return TrialState::kFailed;
}

Result<TrialState> SqliteStore::release(const WorkKey& key, std::int64_t token, const Error& error,
                                        std::int64_t max_attempts) {
  return write([&]() -> Result<TrialState> {
    std::int64_t attempts = 0;
    {
      Query work(database_,
                 "SELECT state, token, attempts FROM work "
                 "WHERE study = ?1 AND kind = ?2 AND number = ?3",
                 key.study, stored(key.kind), key.number);
      if (!work.next()) return no_such_work(key);
      if (work.text(0) != "running" || work.integer(1) != token) {
        return Error{ErrorCode::kAborted, "the lease " + std::to_string(token) + " of " +
                                              describe(key) + " has lapsed; it is " + work.text(0)};
      }
      attempts = work.integer(2);
    }
    return give_back(key, attempts, max_attempts, error);
  });
}

Result<std::int64_t> SqliteStore::requeue_running(std::int64_t max_attempts) {
  return write([&]() -> Result<std::int64_t> {
    std::vector<std::pair<WorkKey, std::int64_t>> running;
    {
      Query query(database_,
                  "SELECT study, kind, number, attempts FROM work WHERE state = 'running' "
                  "ORDER BY study, kind, number");
      while (query.next()) {
        running.push_back({{query.text(0), kind_from_stored(query.integer(1)), query.integer(2)},
                           query.integer(3)});
      }
    }
    for (const auto& [key, attempts] : running) {
      give_back(key, attempts, max_attempts,
                {ErrorCode::kUnavailable, "the server stopped during attempt " +
                                              std::to_string(attempts) + " of " +
                                              std::to_string(max_attempts)});
    }
    return static_cast<std::int64_t>(running.size());
  });
}

Result<std::vector<WorkKey>> SqliteStore::waiting(const std::string& study, std::int64_t limit) {
  return read([&]() -> Result<std::vector<WorkKey>> {
    KERF_TRY(require_study(study));
    Query query(database_,
                "SELECT kind, number FROM work WHERE study = ?1 AND state = 'waiting' AND (kind = 3 "
                "OR EXISTS (SELECT 1 FROM studies WHERE id = ?1 AND state = 'running')) "
                "ORDER BY kind, number LIMIT ?2",
                study, std::max<std::int64_t>(limit, 0));
    std::vector<WorkKey> out;
    while (query.next()) {
      out.push_back({study, kind_from_stored(query.integer(0)), query.integer(1)});
    }
    return out;
  });
}

Trial SqliteStore::trial_row(const Query& query) const {
  Trial out;
  out.number = query.integer(0);
  const auto state = trial_state_from_string(query.text(1));
  const Json choices = parse(query.text(3));
  if (!state || !choices.is_array()) {
    throw std::runtime_error(damaged(path_, "a trial has no state or choices").message);
  }
  out.state = *state;
  out.candidate = parse(query.text(2));
  out.choices = choices.get<std::vector<int>>();
  if (!query.is_null(4)) out.measurement = parse(query.text(4));
  out.attempts = query.integer(5);
  out.error = error_of(query, 6);
  out.started_at = query.text(8);
  out.finished_at = query.text(9);
  if (!query.is_null(10)) out.verification = parse(query.text(10));
  return out;
}

Result<Trial> SqliteStore::trial(const std::string& study, std::int64_t number) {
  return read([&]() -> Result<Trial> {
    static const std::string sql = std::string(kTrialColumns) + "AND t.number = ?2";
    KERF_TRY(require_study(study));
    Query query(database_, sql, study, number);
    if (!query.next()) return no_such_work({study, WorkKind::kTrial, number});
    return trial_row(query);
  });
}

Result<std::vector<Trial>> SqliteStore::trials(const std::string& study, std::int64_t first,
                                               std::int64_t limit) {
  return read([&]() -> Result<std::vector<Trial>> {
    static const std::string sql =
        std::string(kTrialColumns) + "AND t.number >= ?2 ORDER BY t.number LIMIT ?3";
    KERF_TRY(require_study(study));
    Query query(database_, sql, study, first, std::max<std::int64_t>(limit, 0));
    std::vector<Trial> out;
    while (query.next()) out.push_back(trial_row(query));
    return out;
  });
}

Result<WorkRecord> SqliteStore::work(const WorkKey& key) {
  return read([&]() -> Result<WorkRecord> {
    Query query(database_,
                "SELECT state, candidate, result, attempts, error_code, error_message FROM work "
                "WHERE study = ?1 AND kind = ?2 AND number = ?3",
                key.study, stored(key.kind), key.number);
    if (!query.next()) return no_such_work(key);
    WorkRecord out;
    out.key = key;
    const auto state = trial_state_from_string(query.text(0));
    if (!state) throw std::runtime_error(damaged(path_, describe(key) + " has no state").message);
    out.state = *state;
    out.candidate = parse(query.text(1));
    if (!query.is_null(2)) out.result = parse(query.text(2));
    out.attempts = query.integer(3);
    out.error = error_of(query, 4);
    return out;
  });
}

}  // namespace kerf::storage
