#include "cli/study_host.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>

#include "core/child_process.h"
#include "storage/sqlite/sqlite_store.h"
#include "workers/data/dataset.h"
#include "workers/data/npz.h"
#include "workers/onnx/reader.h"
#include "workers/onnx/writer.h"

namespace kerf::cli {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "the signal handler needs it");

// Unix socket paths have room for 107 bytes. A data directory whose path is longer has its socket in
// a private folder elsewhere.
Result<std::string> make_socket_path(const std::string& data_dir, std::string* folder) {
  const std::string inside = fs::absolute(fs::path(data_dir) / "workers.sock").lexically_normal().string();
  if (inside.size() < 100) return inside;
  std::string pattern = (fs::temp_directory_path() / "kerf-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    return Error{ErrorCode::kUnavailable, pattern + ": can't be made"};
  }
  *folder = pattern;
  return pattern + "/workers.sock";
}

/// A file that is there while it lives.
class TemporaryFile {
 public:
  TemporaryFile() : path_((fs::temp_directory_path() / ("kerf-put-" + std::to_string(getpid()))).string()) {}
  ~TemporaryFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Only a model whose bytes have the word that external data is filed under can have some; the
// others go into the store unread.
bool may_have_external_data(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string window;
  std::string piece(1U << 20U, '\0');
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    window.append(piece.data(), static_cast<std::size_t>(file.gcount()));
    if (window.find("location") != std::string::npos) return true;
    window.erase(0, window.size() - std::min<std::size_t>(window.size(), 8));
  }
  return false;
}

Result<std::string> store_model(const std::string& path, const storage::FileStore& files) {
  if (!may_have_external_data(path)) return files.put_file(path);
  KERF_ASSIGN(const graph::Graph graph, onnx::read_model(path));
  const TemporaryFile whole;
  KERF_TRY(onnx::write_model(graph, whole.path()));
  return files.put_file(whole.path());
}

Result<std::string> store_data(const std::string& path, const storage::FileStore& files) {
  if (!fs::is_directory(path)) return files.put_file(path);
  KERF_ASSIGN(const data::DataSet set, data::load_dataset(path));
  std::map<std::string, graph::Tensor> arrays = set.inputs;
  if (set.labels) arrays["y"] = *set.labels;
  const TemporaryFile packed;
  KERF_TRY(data::write_npz(packed.path(), arrays));
  return files.put_file(packed.path());
}

}  // namespace

StudyHost::StudyHost(HostOptions options, storage::FileStore files)
    : options_(std::move(options)), files_(std::move(files)) {}

Result<std::unique_ptr<StudyHost>> StudyHost::open(const HostOptions& options, const Clock& clock) {
  const fs::path dir(options.data_dir);
  std::error_code failed;
  fs::create_directories(dir / "logs", failed);
  if (failed) return invalid_argument(options.data_dir + ": " + failed.message());
  KERF_ASSIGN(auto store, storage::open_sqlite_store((dir / "kerf.db").string(), clock));
  KERF_ASSIGN(auto files, storage::FileStore::open((dir / "files").string()));
  std::unique_ptr<StudyHost> host(new StudyHost(options, std::move(files)));
  host->store_ = std::move(store);
  scheduler::SchedulerOptions how;
  how.worker_token = options.worker_token;
  host->scheduler_ = std::make_unique<scheduler::Scheduler>(how, *host->store_, host->files_, clock);
  return host;
}

StudyHost::~StudyHost() { stop(); }

Result<void> StudyHost::start() {
  KERF_TRY(scheduler_->start());
  KERF_ASSIGN(const std::string socket, make_socket_path(options_.data_dir, &socket_dir_));
  KERF_ASSIGN(const std::string address, scheduler_->listen_unix(socket));
  if (!options_.worker_listen.empty()) {
    KERF_ASSIGN(const Address where, parse_address(options_.worker_listen));
    KERF_ASSIGN(worker_address_, scheduler_->listen_tcp(where.host, where.port));
  }
  thread_ = std::thread([this] {
    try {
      scheduler_->run();
    } catch (const std::exception& e) {
      // A damaged store: nothing that this process does could be trusted from here on.
      std::fprintf(stderr, "kerf: %s\n", e.what());
      std::_Exit(1);
    }
  });
  if (options_.workers > 0) {
    scheduler::LauncherOptions how;
    how.argv = {self_executable(), "worker"};
    how.connect = address;
    how.workers = options_.workers;
    how.threads = options_.threads;
    how.log_dir = (fs::path(options_.data_dir) / "logs").string();
    launcher_ = std::make_unique<scheduler::LocalLauncher>(how);
    launcher_->start();
  }
  return {};
}

void StudyHost::stop() {
  launcher_.reset();
  if (thread_.joinable()) {
    scheduler_->stop();
    thread_.join();
  }
  if (!socket_dir_.empty()) {
    std::error_code ignored;
    fs::remove_all(socket_dir_, ignored);
    socket_dir_.clear();
  }
}

Result<StudyDefinition> store_files(StudyDefinition study, const std::string& folder,
                                    const storage::FileStore& files) {
  const auto put = [&](const char* key, std::string& file, bool model) -> Result<void> {
    if (file.empty()) return {};
    const std::string path = (fs::path(folder) / file).lexically_normal().string();
    if (!fs::exists(path)) {
      return not_found(std::string("study.") + key + ": " + path + ": no such file");
    }
    auto id = model ? store_model(path, files) : store_data(path, files);
    if (!id.has_value()) return with_context(std::string("study.") + key, id.error());
    file = *id;
    return {};
  };
  KERF_TRY(put("model", study.model, true));
  KERF_TRY(put("data", study.data.single, false));
  KERF_TRY(put("data.calibration", study.data.calibration, false));
  KERF_TRY(put("data.evaluation", study.data.evaluation, false));
  KERF_TRY(put("data.test", study.data.test, false));
  return study;
}

Result<Address> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  Address address;
  unsigned port = 0;
  if (colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
    if (parsed.ec == std::errc() && parsed.ptr == end && port <= 65535 && colon > 0) {
      address.host = text.substr(0, colon);
      if (address.host.starts_with('[') && address.host.ends_with(']')) {
        address.host = address.host.substr(1, address.host.size() - 2);
      }
      address.port = static_cast<std::uint16_t>(port);
      return address;
    }
  }
  return invalid_argument("address \"" + text + "\"; expected HOST:PORT such as 127.0.0.1:8080");
}

void watch_for_stop() {
  struct sigaction action {};
  action.sa_handler = [](int) { g_stop.store(true); };
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool stop_wanted() { return g_stop.load(); }

}  // namespace kerf::cli
