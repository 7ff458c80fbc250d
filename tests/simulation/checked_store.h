#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "storage/study_store.h"

namespace kerf::simulation {

/// The real store behind an observer that refuses writes on demand (a full disk) and keeps books of
/// its own: what was leased, what ended, with which token.
class CheckedStore final : public storage::StudyStore {
 public:
  struct Entry {
    std::int64_t token = 0;
    bool running = false;
    int endings = 0;
    Json result;
  };

  explicit CheckedStore(storage::StudyStore& store) : store_(store) {}

  std::function<bool()> full = [] { return false; };
  std::map<WorkKey, Entry> book;
  std::vector<std::string> violations;
  std::int64_t last_token = 0;

  Result<storage::StudyRecord> create_study(const Json& definition, const std::string& identity,
                                            const std::string& key) override {
    return store_.create_study(definition, identity, key);
  }
  Result<storage::StudyRecord> study(const std::string& id) override { return store_.study(id); }
  Result<std::optional<storage::StudyRecord>> find_by_identity(const std::string& id) override {
    return store_.find_by_identity(id);
  }
  Result<std::vector<storage::StudyRecord>> studies(const std::string& cursor,
                                                    std::int64_t limit) override {
    return store_.studies(cursor, limit);
  }
  Result<void> set_study_state(const std::string& id, storage::StudyState from,
                               storage::StudyState to, const std::string& reason) override {
    if (full()) return no_room();
    return store_.set_study_state(id, from, to, reason);
  }
  Result<void> add_active_seconds(const std::string& id, double seconds) override {
    if (full()) return no_room();
    return store_.add_active_seconds(id, seconds);
  }
  Result<void> set_budget(const std::string& id, const Json& budget) override {
    return store_.set_budget(id, budget);
  }
  Result<std::vector<std::int64_t>> enqueue(const std::string& study,
                                            const std::vector<storage::NewWork>& work) override {
    if (full()) return no_room();
    return store_.enqueue(study, work);
  }
  Result<storage::LeaseGrant> lease(const WorkKey& key, const std::string& worker) override {
    if (full()) return no_room();
    auto grant = store_.lease(key, worker);
    if (!grant.has_value()) return grant;
    Entry& entry = book[key];
    if (entry.running || entry.endings > 0) complain(key, "was leased while running or ended");
    if (grant->token <= last_token) complain(key, "got a token that doesn't grow");
    last_token = entry.token = grant->token;
    entry.running = true;
    return grant;
  }
  Result<void> finish(const WorkOutcome& outcome) override {
    if (full()) return no_room();
    const auto done = store_.finish(outcome);
    Entry& entry = book[outcome.key];
    if (!done.has_value()) {
      if (entry.running && entry.token == outcome.token) complain(outcome.key, "lost its outcome");
      return done;
    }
    if (outcome.token != entry.token) complain(outcome.key, "took the outcome of a stale token");
    if (entry.running) {
      ++entry.endings;
      entry.result = outcome.result;
    } else if (entry.result != outcome.result) {
      complain(outcome.key, "acknowledged another outcome than the one it has");
    }
    entry.running = false;
    if (entry.endings != 1) complain(outcome.key, "ended more than once");
    return done;
  }
  Result<TrialState> release(const WorkKey& key, std::int64_t token, const Error& error,
                             std::int64_t max_attempts) override {
    if (full()) return no_room();
    const auto state = store_.release(key, token, error, max_attempts);
    if (!state.has_value()) return state;
    Entry& entry = book[key];
    if (!entry.running || token != entry.token) complain(key, "was released by a stale token");
    entry.running = false;
    if (*state == TrialState::kFailed) ++entry.endings;
    return state;
  }
  Result<std::int64_t> requeue_running(std::int64_t max_attempts) override {
    const auto count = store_.requeue_running(max_attempts);
    for (auto& [key, entry] : book) entry.running = false;
    return count;
  }
  Result<std::vector<WorkKey>> waiting(const std::string& study, std::int64_t limit) override {
    return store_.waiting(study, limit);
  }
  Result<Trial> trial(const std::string& study, std::int64_t number) override {
    return store_.trial(study, number);
  }
  Result<std::vector<Trial>> trials(const std::string& study, std::int64_t first,
                                    std::int64_t limit) override {
    return store_.trials(study, first, limit);
  }
  Result<storage::WorkRecord> work(const WorkKey& key) override { return store_.work(key); }
  Result<std::int64_t> log(const std::string& study, const std::string& type,
                           const Json& data) override {
    if (full()) return no_room();
    return store_.log(study, type, data);
  }
  Result<std::vector<storage::Event>> events(const std::string& study, std::int64_t after,
                                             std::int64_t limit) override {
    return store_.events(study, after, limit);
  }
  Result<void> put_document(const std::string& study, const std::string& name,
                            const Json& document) override {
    if (full()) return no_room();
    return store_.put_document(study, name, document);
  }
  Result<std::optional<Json>> document(const std::string& study, const std::string& name) override {
    return store_.document(study, name);
  }
  Result<void> keep_looks(const std::map<std::string, Json>& looks) override {
    if (full()) return no_room();
    return store_.keep_looks(looks);
  }
  Result<std::map<std::string, Json>> looks(const std::vector<std::string>& keys) override {
    return store_.looks(keys);
  }
  Result<void> record_upload(const storage::Upload& upload) override {
    return store_.record_upload(upload);
  }
  Result<std::vector<storage::Upload>> uploads(const std::string& kind, const std::string& cursor,
                                               std::int64_t limit) override {
    return store_.uploads(kind, cursor, limit);
  }
  Result<void> backup_to(const std::string& path) override { return store_.backup_to(path); }

 private:
  static Error no_room() { return {ErrorCode::kResourceExhausted, "the disk is full"}; }
  void complain(const WorkKey& key, const std::string& what) {
    violations.push_back(std::string(to_string(key.kind)) + " " + std::to_string(key.number) +
                         " of " + key.study + " " + what);
  }

  storage::StudyStore& store_;
};

}  // namespace kerf::simulation
