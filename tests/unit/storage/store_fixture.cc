#include "store_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "core/child_process.h"
#include "storage/sqlite/sqlite_store.h"

namespace kerf::storage {
namespace {

template <class T>
T must(Result<T> result) {
  if (!result.has_value()) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

void must(const Result<void>& result) {
  if (!result.has_value()) throw std::runtime_error(result.error().message);
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "kerf-storage-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::unique_ptr<StudyStore> open_or_die(const std::string& path, const Clock& clock) {
  return must(open_sqlite_store(path, clock));
}

Json dump(StudyStore& store) {
  Json out = Json::array();
  for (const StudyRecord& study : must(store.studies("", 1'000'000))) {
    Json item = {{"id", study.id},
                 {"state", std::string(to_string(study.state))},
                 {"definition", study.definition},
                 {"identity", study.identity},
                 {"reason", study.reason},
                 {"created_at", study.created_at},
                 {"finished_at", study.finished_at},
                 {"active_seconds", study.active_seconds}};
    for (const Trial& trial : must(store.trials(study.id, 0, 1'000'000))) {
      Json row = trial.to_json();
      row["choices"] = trial.choices;
      item["trials"].push_back(row);
    }
    for (const Event& event : must(store.events(study.id, 0, 1'000'000))) {
      item["events"].push_back(Json::array({event.id, event.type, event.data, event.at}));
    }
    for (const char* name : {"front", "model"}) {
      if (const auto document = must(store.document(study.id, name))) item[name] = *document;
    }
    for (const WorkKind kind : {WorkKind::kInspect, WorkKind::kVerify, WorkKind::kExport, WorkKind::kProfile}) {
      for (int number = 0; number < 3; ++number) {
        const auto work = store.work({study.id, kind, number});
        if (!work.has_value()) continue;
        item["work"].push_back(Json::array({std::string(to_string(kind)), number,
                                            std::string(to_string(work->state)), work->candidate,
                                            work->result, work->attempts}));
      }
    }
    out.push_back(item);
  }
  Json uploads = Json::array();
  for (const Upload& upload : must(store.uploads("model", "", 1000))) {
    uploads.push_back(Json::array({upload.id, upload.name, upload.bytes, upload.created_at}));
  }
  Json content = {{"studies", out}, {"uploads", uploads}};
  // Since schema 2.
  if (const auto looks = must(store.looks({"look 1", "look 2"})); !looks.empty()) content["looks"] = looks;
  return content;
}

NewWork trial_work(int n) {
  NewWork work;
  work.candidate = {{"layers", {{"conv1", {{"weight_bits", n}}}}}};
  work.choices = {n, n + 1};
  work.fingerprint = "fingerprint " + std::to_string(n);
  return work;
}

std::string fill(StudyStore& store, int trials) {
  const StudyRecord study = must(store.create_study(
      {{"name", "digits <b>nightly</b>'); DROP TABLE work; --"}, {"model", "sha256:ab"}},
      "identity-1", "key-1"));
  must(store.record_upload({"sha256:" + std::string(64, 'a'), "model", "net.onnx", 4711, ""}));
  NewWork inspect;
  inspect.kind = WorkKind::kInspect;
  must(store.enqueue(study.id, {inspect}));
  const LeaseGrant inspected = must(store.lease({study.id, WorkKind::kInspect, 0}, "worker 1"));
  must(store.finish({inspected.key, inspected.token, {{"layers", Json::array()}}, {}, false}));
  must(store.put_document(study.id, "model", {{"layers", {{{"name", "conv1"}}}}}));
  for (int n = 0; n < trials; ++n) {
    const auto numbers = must(store.enqueue(study.id, {trial_work(n)}));
    if (n % 5 == 4) continue;
    const LeaseGrant grant = must(store.lease({study.id, WorkKind::kTrial, numbers[0]}, "worker 1"));
    WorkOutcome outcome{grant.key, grant.token, {}, {}, false};
    if (n % 5 == 3) {
      outcome.error = Error{ErrorCode::kInternal, "signal 11 (Segmentation fault)"};
    } else {
      outcome.result = {{"accuracy", 0.5 + n / 1000.0}, {"pruned", n % 5 == 2}};
    }
    must(store.finish(outcome));
  }
  NewWork verify;
  verify.kind = WorkKind::kVerify;
  must(store.enqueue(study.id, {verify}));
  const LeaseGrant verified = must(store.lease({study.id, WorkKind::kVerify, 0}, "worker 2"));
  must(store.finish({verified.key, verified.token, {{"accuracy", 0.498}}, {}, false}));
  NewWork part;
  part.kind = WorkKind::kProfile;
  part.number = 1;
  part.candidate = {{"damage", {{{"layers", {{"conv1", {{"weight_bits", 8}}}}}}}}};
  must(store.enqueue(study.id, {part}));
  const LeaseGrant looked = must(store.lease({study.id, WorkKind::kProfile, 1}, "worker 2"));
  must(store.finish({looked.key, looked.token, {{"damage", {{{"kl", 0.25}}}}, {"seconds", 1.5}}, {}, false}));
  must(store.keep_looks({{"look 1", {{"kl", 0.25}}}, {"look 2", {{"kl", 1e-7}}}}));
  must(store.put_document(study.id, "front", {{"front", {0, 1}}}));
  must(store.add_active_seconds(study.id, 12.5));
  return study.id;
}

std::string in_child(const std::function<std::string()>& body) {
  std::array<int, 2> pipe_ends{};
  if (pipe(pipe_ends.data()) != 0) return "no pipe";
  const pid_t child = fork();
  if (child < 0) return "no child";
  if (child == 0) {
    close(pipe_ends[0]);
    std::string said;
    try {
      said = body();
    } catch (const std::exception& e) {
      said = std::string("threw: ") + e.what();
    }
    const bool told = write(pipe_ends[1], said.data(), said.size()) ==
                      static_cast<ssize_t>(said.size());
    _exit(told ? 0 : 1);
  }
  close(pipe_ends[1]);
  std::string said;
  std::array<char, 512> buffer{};
  ssize_t got = 0;
  while ((got = read(pipe_ends[0], buffer.data(), buffer.size())) > 0) {
    said.append(buffer.data(), static_cast<std::size_t>(got));
  }
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return said + " (" + describe_wait_status(status) + ")";
  }
  return said;
}

}  // namespace kerf::storage
