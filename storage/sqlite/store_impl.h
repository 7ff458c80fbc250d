#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "storage/data_lock.h"
#include "storage/sqlite/ack_file.h"
#include "storage/sqlite/database.h"
#include "storage/sqlite/sqlite_store.h"

namespace kerf::storage {

/// "2026-03-01T22:15:09.042Z".
[[nodiscard]] std::string timestamp(Clock::WallTime time);

/// What a damaged database says: which file, what was found, the way back.
[[nodiscard]] Error damaged(const std::string& path, const std::string& found);

/// The StudyStore in SQLite. Methods about studies, events and documents stand in sqlite_store.cc,
/// those about work in sqlite_work.cc.
class SqliteStore final : public StudyStore {
 public:
  SqliteStore(std::string path, const Clock& clock, SqliteStoreOptions options,
              std::optional<DataLock> lock, std::optional<AckFile> ack, Database database);

  Result<StudyRecord> create_study(const Json& definition, const std::string& identity,
                                   const std::string& idempotency_key) override;
  Result<StudyRecord> study(const std::string& id) override;
  Result<std::optional<StudyRecord>> find_by_identity(const std::string& identity) override;
  Result<std::vector<StudyRecord>> studies(const std::string& cursor, std::int64_t limit) override;
  Result<void> set_study_state(const std::string& id, StudyState from, StudyState to,
                               const std::string& reason) override;
  Result<void> add_active_seconds(const std::string& id, double seconds) override;
  Result<void> set_budget(const std::string& id, const Json& budget) override;

  Result<std::vector<std::int64_t>> enqueue(const std::string& study,
                                            const std::vector<NewWork>& work) override;
  Result<LeaseGrant> lease(const WorkKey& key, const std::string& worker) override;
  Result<void> finish(const WorkOutcome& outcome) override;
  Result<TrialState> release(const WorkKey& key, std::int64_t token, const Error& error,
                             std::int64_t max_attempts) override;
  Result<std::int64_t> requeue_running(std::int64_t max_attempts) override;
  Result<std::vector<WorkKey>> waiting(const std::string& study, std::int64_t limit) override;
  Result<Trial> trial(const std::string& study, std::int64_t number) override;
  Result<std::vector<Trial>> trials(const std::string& study, std::int64_t first,
                                    std::int64_t limit) override;
  Result<WorkRecord> work(const WorkKey& key) override;

  Result<std::int64_t> log(const std::string& study, const std::string& type,
                           const Json& data) override;
  Result<std::vector<Event>> events(const std::string& study, std::int64_t after,
                                    std::int64_t limit) override;
  Result<void> put_document(const std::string& study, const std::string& name,
                            const Json& document) override;
  Result<std::optional<Json>> document(const std::string& study, const std::string& name) override;
  Result<void> keep_looks(const std::map<std::string, Json>& looks) override;
  Result<std::map<std::string, Json>> looks(const std::vector<std::string>& keys) override;
  Result<void> record_upload(const Upload& upload) override;
  Result<std::vector<Upload>> uploads(const std::string& kind, const std::string& cursor,
                                      std::int64_t limit) override;
  Result<void> backup_to(const std::string& path) override;

 private:
  /// Runs `body` (which returns a Result); a failure of SQLite becomes its Error.
  template <class Body>
  std::invoke_result_t<Body> read(Body body) {
    try {
      return body();
    } catch (const SqliteFailure& failure) {
      return failed(failure);
    }
  }

  /// Runs `body` in one transaction, which is undone where it returns an error.
  template <class Body>
  std::invoke_result_t<Body> write(Body body) {
    try {
      begin();
      auto result = body();
      if (result.has_value()) {
        commit();
      } else {
        roll_back();
      }
      return result;
    } catch (const SqliteFailure& failure) {
      roll_back();
      return failed(failure);
    } catch (...) {
      roll_back();
      throw;
    }
  }

  void begin();
  void commit();
  void roll_back() noexcept;
  /// The failure as an Error; throws std::runtime_error where it means damage.
  [[nodiscard]] Error failed(const SqliteFailure& failure) const;
  [[nodiscard]] Json parse(const std::string& text) const;

  [[nodiscard]] std::string now() const;
  [[nodiscard]] std::string new_id();
  [[nodiscard]] StudyRecord study_row(const Query& query) const;
  [[nodiscard]] Result<StudyRecord> find_study(const std::string& id);
  [[nodiscard]] Result<void> require_study(const std::string& id);
  std::int64_t append_event(const std::string& study, const std::string& type, const Json& data);

  void append_work_event(const WorkKey& key, TrialState state);
  [[nodiscard]] Trial trial_row(const Query& query) const;
  [[nodiscard]] Error no_such_work(const WorkKey& key) const;
  /// Puts running work back in line, or fails it where its attempts are used up.
  TrialState give_back(const WorkKey& key, std::int64_t attempts, std::int64_t max_attempts,
                       const Error& error);
  [[nodiscard]] Result<void> keep_late(const WorkOutcome& outcome);

  std::string path_;
  const Clock& clock_;
  SqliteStoreOptions options_;
  std::optional<DataLock> lock_;  // Outlives the database: freed after it is closed.
  std::optional<AckFile> ack_;
  Database database_;
  std::int64_t last_id_ms_ = 0;
};

}  // namespace kerf::storage
