#include "cli/study_service.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "cli/report.h"
#include "core/sha256.h"
#include "core/study.h"
#include "search/sampler.h"

namespace kerf::cli {
namespace {

namespace fs = std::filesystem;

Json study_json(const storage::StudyRecord& record) {
  return {{"id", record.id},
          {"name", record.definition.value("name", "")},
          {"state", std::string(storage::to_string(record.state))},
          {"reason", record.reason},
          {"created_at", record.created_at},
          {"finished_at", record.finished_at.empty() ? Json() : Json(record.finished_at)},
          {"definition", record.definition}};
}

Json progress_json(const scheduler::StudyProgress& progress) {
  Json out = {{"phase", std::string(scheduler::to_string(progress.phase))},
              {"trials", progress.budget_trials},
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

/// A file on its way into the store, marked with what it was sent as once it is whole.
class StoreUpload final : public api::Upload {
 public:
  StoreUpload(storage::FileStore::Writer writer, fs::path marks)
      : writer_(std::move(writer)), marks_(std::move(marks)) {}

  Result<void> write(std::string_view bytes) override { return writer_.write(bytes); }

  Result<std::string> finish() override {
    KERF_ASSIGN(std::string id, writer_.finish());
    std::ofstream mark(marks_ / id);
    if (!mark) return Error{ErrorCode::kResourceExhausted, "the upload can't be recorded: is the disk full?"};
    return id;
  }

 private:
  storage::FileStore::Writer writer_;
  fs::path marks_;
};

class HostService final : public api::StudyService {
  /// Asks the store on the scheduler's thread and waits.
  template <class F>
  auto ask(F question) {
    return host_.scheduler().call([&](scheduler::Core&, storage::StudyStore& store) { return question(store); });
  }

 public:
  explicit HostService(StudyHost& host) : host_(host) {
    for (const auto kind : {api::UploadKind::kModel, api::UploadKind::kDataset}) {
      fs::create_directories(marks(kind));
    }
  }

  Result<Json> create_study(const Json& definition, const std::string& key) override {
    KERF_ASSIGN(const StudyDefinition study, StudyDefinition::parse(definition));
    const auto known_file = [&](const char* what, const std::string& id) -> Result<void> {
      if (id.empty()) return {};
      const std::string where = std::string("study.") + what;
      if (!is_file_id(id)) {
        return invalid_argument(where + ": \"" + id.substr(0, 80) + "\"; expected the id of an upload, sha256:…");
      }
      if (!host_.files().contains(id)) return invalid_argument(where + ": " + id + " isn't here; upload it first");
      return {};
    };
    KERF_TRY(known_file("model", study.model));
    KERF_TRY(known_file("data", study.data.single));
    KERF_TRY(known_file("data.calibration", study.data.calibration));
    KERF_TRY(known_file("data.evaluation", study.data.evaluation));
    KERF_TRY(known_file("data.test", study.data.test));
    const auto& names = search::sampler_names();
    if (std::find(names.begin(), names.end(), study.search.sampler) == names.end()) {
      std::string list;
      for (const std::string& name : names) list += " " + name;
      return invalid_argument("study.search.sampler: \"" + study.search.sampler.substr(0, 80) + "\"; expected one of" + list);
    }
    KERF_ASSIGN(const storage::StudyRecord record, host_.scheduler().submit(study.to_json(), key));
    return study_json(record);
  }

  Result<Json> studies(const std::string& cursor, std::int64_t limit) override {
    KERF_ASSIGN(const auto page, ask([&](storage::StudyStore& store) { return store.studies(cursor, limit); }));
    Json list = Json::array();
    for (const storage::StudyRecord& record : page) list.push_back(study_json(record));
    const bool more = static_cast<std::int64_t>(page.size()) == limit;
    return Json{{"studies", list}, {"next_cursor", more ? Json(page.back().id) : Json()}};
  }

  Result<Json> study(const std::string& id) override {
    KERF_ASSIGN(const storage::StudyRecord record, ask([&](storage::StudyStore& store) { return store.study(id); }));
    Json out = study_json(record);
    KERF_ASSIGN(const std::optional<Json> space, ask([&](storage::StudyStore& store) { return store.document(id, "space"); }));
    if (space) out["space"] = *space;
    KERF_ASSIGN(out["profile"], ask([&](storage::StudyStore& store) { return profile_report(store, id); }));
    if (const auto progress = host_.scheduler().progress(id); progress.has_value()) {
      out["progress"] = progress_json(*progress);
    }
    return out;
  }

  Result<Json> trials(const std::string& id, std::int64_t first, std::int64_t limit) override {
    KERF_ASSIGN(const auto page, ask([&](storage::StudyStore& store) -> Result<std::vector<Trial>> {
      KERF_TRY(store.study(id));
      return store.trials(id, first, limit);
    }));
    Json list = Json::array();
    for (const Trial& trial : page) list.push_back(trial.to_json());
    const bool more = static_cast<std::int64_t>(page.size()) == limit;
    return Json{{"trials", list}, {"next_cursor", more ? Json(std::to_string(page.back().number + 1)) : Json()}};
  }

  Result<Json> trial(const std::string& id, std::int64_t number) override {
    KERF_ASSIGN(const Trial trial, ask([&](storage::StudyStore& store) { return store.trial(id, number); }));
    return trial.to_json();
  }

  Result<Json> front(const std::string& id) override {
    return ask([&](storage::StudyStore& store) { return front_report(store, id); });
  }

  Result<std::vector<api::LogEntry>> events(const std::string& id, std::int64_t after, std::int64_t limit) override {
    KERF_ASSIGN(const auto page, ask([&](storage::StudyStore& store) -> Result<std::vector<storage::Event>> {
      KERF_TRY(store.study(id));
      return store.events(id, after, limit);
    }));
    std::vector<api::LogEntry> out;
    for (const storage::Event& event : page) out.push_back({event.id, event.type, canonical_text(event.data)});
    return out;
  }

  Result<Json> change(const std::string& id, const std::string& verb) override {
    if (verb == "cancel") KERF_TRY(host_.scheduler().cancel(id));
    if (verb == "pause") KERF_TRY(host_.scheduler().pause(id));
    if (verb == "resume") KERF_TRY(host_.scheduler().resume(id));
    return study(id);
  }

  void model(const std::string& id, std::int64_t number, std::function<void(Result<std::string>)> done) override {
    host_.scheduler().export_trial(id, number, [this, done](const Result<std::string>& file) {
      done(file.has_value() ? host_.files().path_of(*file) : file);
    });
  }

  Result<std::unique_ptr<api::Upload>> begin_upload(api::UploadKind kind, std::uint64_t bytes) override {
    KERF_ASSIGN(auto writer, host_.files().begin(std::max<std::uint64_t>(bytes, 1)));
    return std::unique_ptr<api::Upload>(std::make_unique<StoreUpload>(std::move(writer), marks(kind)));
  }

  Result<Json> uploads(api::UploadKind kind, const std::string& cursor, std::int64_t limit) override {
    std::set<std::string> ids;
    for (const auto& entry : fs::directory_iterator(marks(kind))) {
      if (const std::string id = entry.path().filename().string(); id > cursor) ids.insert(id);
    }
    Json list = Json::array();
    std::string last;
    for (const std::string& id : ids) {
      if (static_cast<std::int64_t>(list.size()) == limit) break;
      KERF_ASSIGN(const Json one, upload(kind, id));
      list.push_back(one);
      last = id;
    }
    const bool more = list.size() < ids.size();
    return Json{{kind == api::UploadKind::kModel ? "models" : "datasets", list},
                {"next_cursor", more ? Json(last) : Json()}};
  }

  Result<Json> upload(api::UploadKind kind, const std::string& id) override {
    if (!is_file_id(id) || !fs::exists(marks(kind) / id)) return not_found(id.substr(0, 80) + ": no such upload");
    KERF_ASSIGN(const std::uint64_t bytes, host_.files().size(id));
    return Json{{"id", id}, {"bytes", bytes}};
  }

  Result<Json> workers() override {
    Json list = Json::array();
    for (const scheduler::WorkerStatus& worker : host_.scheduler().workers()) {
      Json one = {{"name", worker.info.name}, {"labels", worker.info.labels}, {"hardware", worker.info.hardware}};
      if (worker.work) {
        one["work"] = {{"study", worker.work->study},
                       {"kind", std::string(to_string(worker.work->kind))},
                       {"number", worker.work->number}};
        one["phase"] = worker.progress.phase;
        one["share"] = worker.progress.share;
      }
      list.push_back(one);
    }
    return Json{{"workers", list}};
  }

  Result<Json> hardware() override {
    Json list = Json::array();
    std::set<std::string> seen;
    for (const scheduler::WorkerStatus& worker : host_.scheduler().workers()) {
      if (seen.insert(canonical_text(worker.info.hardware)).second) list.push_back(worker.info.hardware);
    }
    return Json{{"hardware", list}};
  }

  Result<std::string> metrics() override {
    KERF_ASSIGN(const auto records, ask([&](storage::StudyStore& store) { return store.studies("", 1000); }));
    std::map<std::string, std::int64_t> states;
    std::map<std::string, std::int64_t> trials;
    for (const storage::StudyRecord& record : records) {
      ++states[std::string(storage::to_string(record.state))];
      const auto progress = host_.scheduler().progress(record.id);
      if (!progress.has_value()) continue;
      trials["waiting"] += progress->waiting;
      trials["running"] += progress->running;
      trials["failed"] += progress->failed;
      trials["complete"] += progress->finished - progress->failed;
    }
    std::string out = "# TYPE kerf_studies gauge\n";
    for (const auto& [state, count] : states) {
      out += "kerf_studies{state=\"" + state + "\"} " + std::to_string(count) + "\n";
    }
    out += "# TYPE kerf_trials gauge\n";
    for (const auto& [state, count] : trials) {
      out += "kerf_trials{state=\"" + state + "\"} " + std::to_string(count) + "\n";
    }
    out += "# TYPE kerf_workers gauge\nkerf_workers " + std::to_string(host_.scheduler().workers().size()) + "\n";
    return out;
  }

  Result<void> ready() override {
    KERF_TRY(ask([](storage::StudyStore& store) { return store.studies("", 1); }));
    return {};
  }

 private:
  [[nodiscard]] fs::path marks(api::UploadKind kind) const {
    return fs::path(host_.options().data_dir) / "uploads" / (kind == api::UploadKind::kModel ? "models" : "datasets");
  }

  StudyHost& host_;
};

}  // namespace

std::unique_ptr<api::StudyService> make_study_service(StudyHost& host) {
  return std::make_unique<HostService>(host);
}

}  // namespace kerf::cli
