#include "storage/sqlite/sqlite_store.h"

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <random>
#include <utility>

#include "core/sha256.h"
#include "storage/sqlite/store_impl.h"

namespace kerf::storage {
namespace {

constexpr std::string_view kStudyColumns =
    "SELECT id, state, definition, identity, reason, created_at, finished_at, active_seconds "
    "FROM studies ";

bool is_final(StudyState state) {
  return state != StudyState::kRunning && state != StudyState::kPaused;
}

std::uint64_t system_random() {
  static thread_local std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32U) | device();
}

}  // namespace

std::string timestamp(Clock::WallTime time) {
  using std::chrono::duration_cast;
  const auto ms = duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  auto rest = static_cast<int>(ms % 1000);
  if (rest < 0) {
    rest += 1000;
    --seconds;
  }
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min,
                parts.tm_sec, rest);
  return text.data();
}

Error damaged(const std::string& path, const std::string& found) {
  return {ErrorCode::kDataLoss,
          path + " is damaged (" + found + "); restore a backup with `kerf restore`"};
}

SqliteStore::SqliteStore(std::string path, const Clock& clock, SqliteStoreOptions options,
                         std::optional<DataLock> lock, std::optional<AckFile> ack,
                         Database database)
    : path_(std::move(path)),
      clock_(clock),
      options_(std::move(options)),
      lock_(std::move(lock)),
      ack_(std::move(ack)),
      database_(std::move(database)) {
  if (!options_.random) options_.random = system_random;
}

void SqliteStore::begin() { Query(database_, "BEGIN IMMEDIATE").run(); }

void SqliteStore::commit() {
  std::int64_t sequence = 0;
  {
    Query next(database_,
               "UPDATE meta SET value = value + 1 WHERE name = 'sequence' RETURNING value");
    if (!next.next()) throw std::runtime_error(damaged(path_, "it has no sequence").message);
    sequence = next.integer(0);
    while (next.next()) {
    }
  }
  Query(database_, "COMMIT").run();
  if (ack_) ack_->write(static_cast<std::uint64_t>(sequence));
}

void SqliteStore::roll_back() noexcept {
  try {
    if (database_.in_transaction()) Query(database_, "ROLLBACK").run();
  } catch (const SqliteFailure&) {
    // SQLite rolls back by itself where it can't do it when asked.
  }
}

Error SqliteStore::failed(const SqliteFailure& failure) const {
  const Error error = failure.error();
  if (error.code == ErrorCode::kDataLoss) {
    throw std::runtime_error(damaged(path_, error.message).message);
  }
  if (error.code == ErrorCode::kResourceExhausted) {
    return {error.code, path_ + ": " + error.message + "; make room on the disk"};
  }
  return with_context(path_, error);
}

Json SqliteStore::parse(const std::string& text) const {
  Json out = Json::parse(text, nullptr, false);
  if (out.is_discarded()) {
    throw std::runtime_error(damaged(path_, "a document is no JSON").message);
  }
  return out;
}

std::string SqliteStore::now() const { return timestamp(clock_.wall_now()); }

std::string SqliteStore::new_id() {
  const auto since = clock_.wall_now().time_since_epoch();
  const std::int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  // A clock that was set back doesn't turn the order round.
  last_id_ms_ = std::max(last_id_ms_, std::max<std::int64_t>(ms, 0));
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "st_%012llx%012llx",
                static_cast<unsigned long long>(last_id_ms_) & 0xFFFFFFFFFFFFULL,
                static_cast<unsigned long long>(options_.random()) & 0xFFFFFFFFFFFFULL);
  return text.data();
}

StudyRecord SqliteStore::study_row(const Query& query) const {
  StudyRecord out;
  out.id = query.text(0);
  const auto state = study_state_from_string(query.text(1));
  if (!state) throw std::runtime_error(damaged(path_, "study " + out.id + " has no state").message);
  out.state = *state;
  out.definition = parse(query.text(2));
  out.identity = query.text(3);
  out.reason = query.text(4);
  out.created_at = query.text(5);
  out.finished_at = query.text(6);
  out.active_seconds = query.real(7);
  return out;
}

Result<StudyRecord> SqliteStore::find_study(const std::string& id) {
  static const std::string sql = std::string(kStudyColumns) + "WHERE id = ?1";
  Query query(database_, sql, id);
  if (!query.next()) return not_found("no study " + id);
  return study_row(query);
}

Result<void> SqliteStore::require_study(const std::string& id) {
  if (!Query(database_, "SELECT 1 FROM studies WHERE id = ?1", id).next()) {
    return not_found("no study " + id);
  }
  return {};
}

std::int64_t SqliteStore::append_event(const std::string& study, const std::string& type,
                                       const Json& data) {
  Query query(database_,
              "INSERT INTO events (study, type, data, at) VALUES (?1, ?2, ?3, ?4) RETURNING id",
              study, type, canonical_text(data), now());
  const std::int64_t id = query.next() ? query.integer(0) : 0;
  while (query.next()) {
  }
  return id;
}

Result<StudyRecord> SqliteStore::create_study(const Json& definition, const std::string& identity,
                                              const std::string& idempotency_key) {
  const std::string text = canonical_text(definition);
  const std::string body_hash = sha256_hex(identity + "\n" + text);
  return write([&]() -> Result<StudyRecord> {
    if (!idempotency_key.empty()) {
      Query earlier(database_, "SELECT body_hash, study FROM idempotency WHERE key = ?1",
                    idempotency_key);
      if (earlier.next()) {
        if (earlier.text(0) != body_hash) {
          return Error{ErrorCode::kAlreadyExists, "the idempotency key \"" + idempotency_key +
                                                      "\" was used for another study"};
        }
        return find_study(earlier.text(1));
      }
    }
    // The clock of an earlier process may have been ahead of ours.
    if (last_id_ms_ == 0) {
      Query last(database_, "SELECT max(id) FROM studies");
      if (last.next() && last.text(0).size() >= 15) {
        last_id_ms_ = std::strtoll(last.text(0).substr(3, 12).c_str(), nullptr, 16);
      }
    }
    const std::string id = new_id();
    Query(database_,
          "INSERT INTO studies (id, state, definition, identity, created_at) "
          "VALUES (?1, 'running', ?2, ?3, ?4)",
          id, text, identity, now())
        .run();
    if (!idempotency_key.empty()) {
      Query(database_,
            "INSERT INTO idempotency (key, body_hash, study, created_at) VALUES (?1, ?2, ?3, ?4)",
            idempotency_key, body_hash, id, now())
          .run();
    }
    append_event(id, "state", {{"state", "running"}, {"reason", ""}});
    return find_study(id);
  });
}

Result<StudyRecord> SqliteStore::study(const std::string& id) {
  return read([&] { return find_study(id); });
}

Result<std::optional<StudyRecord>> SqliteStore::find_by_identity(const std::string& identity) {
  return read([&]() -> Result<std::optional<StudyRecord>> {
    static const std::string sql =
        std::string(kStudyColumns) + "WHERE identity = ?1 ORDER BY position DESC LIMIT 1";
    Query query(database_, sql, identity);
    if (!query.next()) return std::optional<StudyRecord>();
    return std::optional(study_row(query));
  });
}

Result<std::vector<StudyRecord>> SqliteStore::studies(const std::string& cursor,
                                                      std::int64_t limit) {
  return read([&]() -> Result<std::vector<StudyRecord>> {
    std::int64_t after = 0;
    if (!cursor.empty()) {
      Query position(database_, "SELECT position FROM studies WHERE id = ?1", cursor);
      if (!position.next()) return not_found("no study " + cursor + " to go on from");
      after = position.integer(0);
    }
    static const std::string sql =
        std::string(kStudyColumns) + "WHERE position > ?1 ORDER BY position LIMIT ?2";
    Query query(database_, sql, after, std::max<std::int64_t>(limit, 0));
    std::vector<StudyRecord> out;
    while (query.next()) out.push_back(study_row(query));
    return out;
  });
}

Result<void> SqliteStore::set_study_state(const std::string& id, StudyState from, StudyState to,
                                          const std::string& reason) {
  return write([&]() -> Result<void> {
    const auto changed =
        Query(database_,
              "UPDATE studies SET state = ?3, reason = ?4, finished_at = ?5 "
              "WHERE id = ?1 AND state = ?2",
              id, to_string(from), to_string(to), reason, is_final(to) ? now() : std::string())
            .run();
    if (changed == 0) {
      KERF_ASSIGN(const StudyRecord record, find_study(id));
      return Error{ErrorCode::kAborted, "study " + id + " is " +
                                            std::string(to_string(record.state)) + ", not " +
                                            std::string(to_string(from))};
    }
    append_event(id, "state", {{"state", std::string(to_string(to))}, {"reason", reason}});
    return {};
  });
}

Result<void> SqliteStore::add_active_seconds(const std::string& id, double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) {
    return invalid_argument("active seconds of study " + id + " can only grow");
  }
  return write([&]() -> Result<void> {
    const auto changed =
        Query(database_, "UPDATE studies SET active_seconds = active_seconds + ?2 WHERE id = ?1", id,
              seconds)
            .run();
    if (changed == 0) return not_found("no study " + id);
    return {};
  });
}

Result<void> SqliteStore::set_budget(const std::string& id, const Json& budget) {
  return write([&]() -> Result<void> {
    KERF_ASSIGN(StudyRecord record, find_study(id));
    record.definition["budget"] = budget;
    Query(database_, "UPDATE studies SET definition = ?2 WHERE id = ?1", id,
          canonical_text(record.definition))
        .run();
    return {};
  });
}

Result<std::int64_t> SqliteStore::log(const std::string& study, const std::string& type,
                                      const Json& data) {
  return write([&]() -> Result<std::int64_t> {
    KERF_TRY(require_study(study));
    return append_event(study, type, data);
  });
}

Result<std::vector<Event>> SqliteStore::events(const std::string& study, std::int64_t after,
                                               std::int64_t limit) {
  return read([&]() -> Result<std::vector<Event>> {
    KERF_TRY(require_study(study));
    Query query(database_,
                "SELECT id, type, data, at FROM events WHERE study = ?1 AND id > ?2 "
                "ORDER BY id LIMIT ?3",
                study, after, std::max<std::int64_t>(limit, 0));
    std::vector<Event> out;
    while (query.next()) {
      out.push_back({query.integer(0), query.text(1), parse(query.text(2)), query.text(3)});
    }
    return out;
  });
}

Result<void> SqliteStore::put_document(const std::string& study, const std::string& name,
                                       const Json& document) {
  return write([&]() -> Result<void> {
    KERF_TRY(require_study(study));
    Query(database_,
          "INSERT INTO documents (study, name, body) VALUES (?1, ?2, ?3) "
          "ON CONFLICT (study, name) DO UPDATE SET body = excluded.body",
          study, name, canonical_text(document))
        .run();
    return {};
  });
}

Result<std::optional<Json>> SqliteStore::document(const std::string& study,
                                                  const std::string& name) {
  return read([&]() -> Result<std::optional<Json>> {
    KERF_TRY(require_study(study));
    Query query(database_, "SELECT body FROM documents WHERE study = ?1 AND name = ?2", study, name);
    if (!query.next()) return std::optional<Json>();
    return std::optional(parse(query.text(0)));
  });
}

Result<void> SqliteStore::record_upload(const Upload& upload) {
  return write([&]() -> Result<void> {
    Query(database_,
          "INSERT INTO uploads (id, kind, name, bytes, created_at) VALUES (?1, ?2, ?3, ?4, ?5) "
          "ON CONFLICT (kind, id) DO NOTHING",
          upload.id, upload.kind, upload.name, upload.bytes,
          upload.created_at.empty() ? now() : upload.created_at)
        .run();
    return {};
  });
}

Result<std::vector<Upload>> SqliteStore::uploads(const std::string& kind, const std::string& cursor,
                                                 std::int64_t limit) {
  return read([&]() -> Result<std::vector<Upload>> {
    std::int64_t after = 0;
    if (!cursor.empty()) {
      Query position(database_, "SELECT position FROM uploads WHERE kind = ?1 AND id = ?2", kind,
                     cursor);
      if (!position.next()) return not_found("no " + kind + " " + cursor + " to go on from");
      after = position.integer(0);
    }
    Query query(database_,
                "SELECT id, kind, name, bytes, created_at FROM uploads "
                "WHERE kind = ?1 AND position > ?2 ORDER BY position LIMIT ?3",
                kind, after, std::max<std::int64_t>(limit, 0));
    std::vector<Upload> out;
    while (query.next()) {
      out.push_back(
          {query.text(0), query.text(1), query.text(2), query.integer(3), query.text(4)});
    }
    return out;
  });
}

Result<void> SqliteStore::backup_to(const std::string& path) {
  return read([&]() -> Result<void> {
    if (auto error = copy_database(database_, path)) return *error;
    return {};
  });
}

}  // namespace kerf::storage
