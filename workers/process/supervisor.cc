#include "workers/process/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "core/child_process.h"
#include "core/sha256.h"
#include "core/work.h"
#include "workers/measure/hardware.h"
#include "workers/process/file_cache.h"
#include "workers/process/runner_child.h"
#include "workers/process/server_link.h"

namespace kerf::process {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using TimePoint = std::chrono::steady_clock::time_point;

constexpr int kProtocolVersion = 1;
constexpr milliseconds kFirstBackoff{100};
constexpr milliseconds kLongestBackoff{5000};
constexpr milliseconds kLongestSleep{1000};
constexpr milliseconds kFlushLimit{1000};
constexpr std::size_t kChunk = 1UL << 20U;
constexpr std::size_t kUploadBuffered = 2UL << 20U;
constexpr const char* kExportName = "export.onnx";  // what a runner writes into its scratch folder

void say(const std::string& text) { std::fprintf(stderr, "kerf worker: %s\n", text.c_str()); }

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

/// A folder of our own, gone with us.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "kerf-worker-XXXXXX").string();
    if (mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A piece of work in our hands.
struct Job {
  enum class Stage {
    kFetching,   ///< Files are on their way.
    kRunning,    ///< The runner has it.
    kUploading,  ///< What it exported goes to the server.
    kReporting,  ///< The outcome is there, and is to be acknowledged.
  };
  Work work;
  Json paths;
  Stage stage = Stage::kFetching;
  TimePoint began;
  TimePoint progress_at;
  std::int64_t step = 0;
  std::string phase = "files";
  double share = 0;
  std::vector<std::string> missing;
  std::optional<WorkOutcome> outcome;
  bool sent = false;  ///< The outcome, on this connection.
  std::optional<Error> stopping;  ///< Why the runner is being stopped.
  std::string upload_id;
  std::uint64_t upload_size = 0;
  std::uint64_t uploaded = 0;
  Descriptor upload;
};

class Supervisor {
 public:
  Supervisor(WorkerOptions options, const std::string& scratch)
      : options_(std::move(options)),
        scratch_(scratch),
        runner_(RunnerSetup{options_.runner_argv, scratch, options_.lock_dir, options_.threads,
                            options_.sandbox, options_.term_grace}) {}

  int run() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigset_t before;
    sigprocmask(SIG_BLOCK, &signals, &before);
    const Descriptor told(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    (void)signal(SIGPIPE, SIG_IGN);
    lost_at_ = now();
    while (!exit_code_) {
      wait(told.get());
      signalfd_siginfo info{};
      if (read(told.get(), &info, sizeof info) == sizeof info) {
        give_back();
        exit_code_ = 0;
        break;
      }
      from_runner();
      from_server();
      check_times();
    }
    runner_.kill();
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return *exit_code_;
  }

 private:
  enum class Link { kDown, kConnecting, kHello, kUp };

  static TimePoint now() { return std::chrono::steady_clock::now(); }

  // Sleeps until something happens or is due.
  void wait(int told) {
    std::vector<pollfd> entries = {{told, POLLIN, 0}};
    if (server_) {
      const bool out = link_ == Link::kConnecting || server_.wants_to_write();
      entries.push_back({server_.fd(), static_cast<short>(POLLIN | (out ? POLLOUT : 0)), 0});
    }
    if (runner_.alive()) {
      if (runner_.socket() >= 0) {
        entries.push_back({runner_.socket(),
                           static_cast<short>(POLLIN | (runner_.wants_to_write() ? POLLOUT : 0)), 0});
      }
      if (runner_.output() >= 0) entries.push_back({runner_.output(), POLLIN, 0});
    }
    TimePoint due = now() + kLongestSleep;
    if (link_ == Link::kDown) due = std::min(due, connect_at_);
    if (link_ == Link::kUp) due = std::min(due, heartbeat_at_);
    if (const auto at = runner_.next_time()) due = std::min(due, *at);
    const auto left = std::chrono::ceil<milliseconds>(due - now()).count();
    ::poll(entries.data(), entries.size(), static_cast<int>(std::max<long>(0, left)));
  }

  void check_times() {
    const TimePoint time = now();
    runner_.check_time(time);
    if (link_ == Link::kDown && time >= connect_at_) connect();
    if (link_ == Link::kConnecting || link_ == Link::kHello) {
      if (time - linked_at_ > options_.hello_limit) drop("no answer");
    }
    if (link_ == Link::kUp && time >= heartbeat_at_) heartbeat();
    if (link_ != Link::kUp && time - lost_at_ > options_.connect_limit && !exit_code_) {
      say("no server at " + options_.connect + " for " +
          std::to_string(options_.connect_limit.count() / 1000) + " s");
      exit_code_ = 1;
    }
    if (!job_ || job_->stage != Job::Stage::kRunning || job_->stopping) return;
    if (time - job_->progress_at > options_.progress_limit) {
      stop_runner("no progress for " + std::to_string(options_.progress_limit.count() / 1000.0)
                  .substr(0, 6) + " s in phase " + job_->phase);
    } else if (time - job_->began > options_.work_limit) {
      stop_runner("not done after " + std::to_string(options_.work_limit.count() / 1000) + " s");
    }
  }

  void stop_runner(const std::string& why) {
    job_->stopping = Error{ErrorCode::kDeadlineExceeded, why};
    runner_.stop();
  }

  // The connection.

  void connect() {
    auto socket = begin_connect(options_.connect);
    if (!socket.has_value()) {
      if (socket.error().code == ErrorCode::kInvalidArgument) {
        say(socket.error().message);
        exit_code_ = 2;
        return;
      }
      return retry_later();
    }
    server_ = FrameStream(std::move(*socket));
    link_ = Link::kConnecting;
    linked_at_ = now();
  }

  void retry_later() {
    backoff_ = std::min(backoff_ * 2, kLongestBackoff);
    connect_at_ = now() + backoff_;
  }

  void drop(const std::string& why) {
    if (link_ == Link::kUp) {
      say("lost the server: " + why);
      lost_at_ = now();
      backoff_ = kFirstBackoff;
      if (options_.exit_when_idle_disconnected && !job_) exit_code_ = 0;
    }
    server_.close();
    link_ = Link::kDown;
    incoming_.reset();
    if (job_) {
      job_->sent = false;
      if (job_->stage == Job::Stage::kUploading) job_->uploaded = 0;
    }
    retry_later();
  }

  void send(const Json& message, std::string bytes = {}) {
    if (link_ == Link::kDown || link_ == Link::kConnecting) return;
    const auto sent = server_.send({message, std::move(bytes)});
    if (!sent.has_value()) drop(sent.error().message);
  }

  void from_server() {
    if (link_ == Link::kDown) return;
    if (link_ == Link::kConnecting) {
      pollfd entry{server_.fd(), POLLOUT, 0};
      if (::poll(&entry, 1, 0) <= 0) return;
      const auto connected = connect_result(server_.fd());
      if (!connected.has_value()) return drop(connected.error().message);
      link_ = Link::kHello;
      send({{"type", "hello"},
            {"version", kProtocolVersion},
            {"token", options_.token},
            {"worker", options_.name},
            {"labels", options_.labels},
            {"hardware", hardware()},
            {"host", host_name()},
            {"slots", 1}});
    }
    if (link_ == Link::kDown) return;
    Result<void> open = server_.write_some();
    if (open.has_value()) open = server_.read_some();
    while (link_ != Link::kDown) {
      const auto frame = server_.next();
      if (!frame) break;
      try {
        handle(*frame);
      } catch (const Json::exception& e) {
        open = invalid_argument(std::string("the server talks nonsense: ") + e.what());
        break;
      }
    }
    if (!open.has_value() && link_ != Link::kDown) return drop(open.error().message);
    upload_more();
  }

  Json hardware() {
    if (hardware_.is_null()) hardware_ = measure::hardware_fingerprint(options_.threads).to_json();
    return hardware_;
  }

  void handle(const Frame& frame) {
    const Json& message = frame.message;
    const auto type = message.at("type").get<std::string>();
    if (type == "refused") {
      say("the server refuses this worker: " + message.at("reason").get<std::string>());
      if (link_ == Link::kHello) exit_code_ = 2;
      return drop("refused");
    }
    if (link_ == Link::kHello) {
      if (type != "welcome") return drop("no welcome");
      link_ = Link::kUp;
      backoff_ = kFirstBackoff;
      heartbeat_ = milliseconds(std::clamp<std::int64_t>(
          message.at("heartbeat_ms").get<std::int64_t>(), 50, 60000));
      heartbeat_at_ = now();
      return job_ ? go_on() : send({{"type", "ready"}});
    }
    if (type == "work") {
      begin(message);
    } else if (type == "cancel") {
      cancelled(message.at("token").get<std::int64_t>());
    } else if (type == "chunk") {
      chunk(frame);
    } else if (type == "missing") {
      const auto file = message.at("file").get<std::string>();
      if (job_ && job_->stage == Job::Stage::kFetching) {
        fail_job(Error{ErrorCode::kNotFound, "the server hasn't got file " + file}, false);
      }
    } else if (type == "stored" || type == "not_stored") {
      stored(message);
    } else if (type == "ack" || type == "rejected") {
      if (job_ && job_->sent && job_->work.token == message.at("token").get<std::int64_t>()) {
        if (type == "rejected") say("outcome refused: " + message.value("reason", ""));
        job_.reset();  // the server counts us as free from here on
      }
    } else if (type == "later") {
      if (job_) job_->sent = false;  // again with the next heartbeat
    }
  }

  // Takes up the job on a new connection.
  void go_on() {
    if (job_->stage == Job::Stage::kReporting) return report();
    if (job_->stage == Job::Stage::kFetching) fetch();
    heartbeat();
  }

  void heartbeat() {
    heartbeat_at_ = now() + heartbeat_;
    if (!job_) return send({{"type", "heartbeat"}});
    if (job_->stage == Job::Stage::kReporting && !job_->sent) return report();
    Json message = job_->work.to_json();
    message.erase("payload");
    message["type"] = "heartbeat";
    message["step"] = job_->step;
    message["phase"] = job_->phase;
    message["share"] = job_->share;
    send(message);
  }

  // A piece of work, from its arrival to its acknowledgement.

  void begin(const Json& message) {
    auto work = Work::parse(message.at("work"));
    if (!work.has_value() || job_) return drop("work that wasn't asked for");
    job_.emplace();
    job_->work = std::move(*work);
    job_->paths = Json::object();
    job_->began = job_->progress_at = now();
    std::set<std::string> needed;
    const Json& payload = job_->work.payload;
    open_cache();
    if (payload.contains("model")) needed.insert(payload["model"].get<std::string>());
    for (const Json& id : payload.value("data", Json::object())) needed.insert(id.get<std::string>());
    const Json given = message.value("paths", Json::object());
    for (const std::string& id : needed) {
      const std::string local = given.value(id, "");
      if (!local.empty() && access(local.c_str(), R_OK) == 0) {
        job_->paths[id] = local;
      } else if (const auto cached = cache_ ? cache_->find(id) : std::nullopt) {
        job_->paths[id] = *cached;
      } else {
        job_->missing.push_back(id);
      }
    }
    heartbeat();  // tells that the work arrived
    fetch();
  }

  // A worker beside its server needs no cache: that it can't be had matters only when it is needed.
  void open_cache() {
    if (cache_) return;
    auto opened = FileCache::open(options_.cache_dir, options_.cache_bytes);
    if (opened.has_value()) {
      cache_ = std::move(*opened);
    } else {
      cache_failure_ = opened.error();
    }
  }

  void fetch() {
    incoming_.reset();
    if (job_->missing.empty()) return start();
    if (!cache_) return fail_job(*cache_failure_, true);
    send({{"type", "fetch"}, {"file", job_->missing.back()}});
  }

  void chunk(const Frame& frame) {
    if (!job_ || job_->stage != Job::Stage::kFetching || job_->missing.empty()) return;
    const auto id = frame.message.at("file").get<std::string>();
    if (id != job_->missing.back()) return;
    const auto offset = frame.message.at("offset").get<std::uint64_t>();
    if (offset == 0) incoming_ = cache_->begin(id, frame.message.at("size").get<std::uint64_t>());
    if (!incoming_) return;
    if (const auto written = incoming_->write(offset, frame.bytes); !written.has_value()) {
      return fail_job(written.error(), true);
    }
    ++job_->step;
    if (!incoming_->whole()) return;
    const auto path = incoming_->finish();
    if (!path.has_value()) return fail_job(path.error(), true);
    job_->paths[id] = *path;
    job_->missing.pop_back();
    std::set<std::string> needed;
    for (const auto& [key, value] : job_->paths.items()) needed.insert(key);
    cache_->trim(needed);
    fetch();
  }

  void start() {
    std::set<std::string> files;
    for (const Json& path : job_->paths) files.insert(path.get<std::string>());
    Result<void> given;
    if (!runner_.serves(files)) given = runner_.start(files);
    if (given.has_value()) given = runner_.give(job_->work, job_->paths);
    if (!given.has_value()) {
      runner_.kill();
      return fail_job(given.error(), true);
    }
    job_->stage = Job::Stage::kRunning;
    job_->phase = "start";
    job_->progress_at = now();
  }

  void from_runner() {
    for (RunnerEvent& event : runner_.take_events()) {
      if (!job_ || job_->stage != Job::Stage::kRunning) continue;
      switch (event.kind) {
        case RunnerEvent::Kind::kProgress:
          job_->progress_at = now();
          ++job_->step;
          job_->phase = event.phase;
          job_->share = event.share;
          break;
        case RunnerEvent::Kind::kResult:
          if (event.error) {
            fail_job(*event.error, event.retry);
          } else if (job_->work.key.kind == WorkKind::kExport) {
            begin_upload();
          } else {
            finish(WorkOutcome{job_->work.key, job_->work.token, std::move(event.result),
                               std::nullopt, false});
          }
          break;
        case RunnerEvent::Kind::kGone: {
          Error error = *event.error;
          if (job_->stopping) {
            error = *job_->stopping;
            error.message += "; " + event.error->message;
          }
          say(error.message);
          fail_job(error, true);
          break;
        }
      }
    }
  }

  void fail_job(const Error& error, bool retry) {
    if (!job_) return;
    incoming_.reset();
    finish(WorkOutcome{job_->work.key, job_->work.token, nullptr, error, retry});
  }

  void finish(WorkOutcome outcome) {
    job_->outcome = std::move(outcome);
    job_->stage = Job::Stage::kReporting;
    report();
  }

  void report() {
    if (link_ != Link::kUp || job_->sent) return;
    job_->sent = true;
    Result<std::string> fits = encode_frame({job_->outcome->to_json(), ""});
    if (!fits.has_value()) {
      job_->outcome = WorkOutcome{job_->work.key, job_->work.token, nullptr,
                                  with_context("the result", fits.error()), false};
    }
    send({{"type", "outcome"}, {"outcome", job_->outcome->to_json()}});
  }

  // The lease is another's by now, or nobody wants the work any more.
  void cancelled(std::int64_t token) {
    if (!job_ || job_->work.token != token) return;
    if (job_->stage == Job::Stage::kReporting && job_->sent) return;  // its answer is on the way
    say("work " + std::to_string(job_->work.key.number) + " is not wanted any more");
    runner_.kill();
    incoming_.reset();
    job_.reset();
    send({{"type", "ready"}});
  }

  // An exported model goes to the server, which keeps it under its content's name.

  void begin_upload() {
    const std::string path = scratch_ + "/" + kExportName;
    job_->upload = Descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat info {};
    if (!job_->upload || fstat(job_->upload.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      return fail_job(internal_error("the runner wrote no model"), true);
    }
    const auto hash = sha256_file(path);
    if (!hash.has_value()) return fail_job(hash.error(), true);
    job_->upload_id = hash->starts_with("sha256:") ? *hash : "sha256:" + *hash;
    job_->upload_size = static_cast<std::uint64_t>(info.st_size);
    job_->uploaded = 0;
    job_->stage = Job::Stage::kUploading;
    job_->phase = "upload";
    upload_more();
  }

  void upload_more() {
    if (!job_ || job_->stage != Job::Stage::kUploading || link_ != Link::kUp) return;
    std::string piece(kChunk, '\0');
    while (job_ && job_->uploaded < job_->upload_size && server_.buffered() < kUploadBuffered &&
           link_ == Link::kUp) {
      const ssize_t got = pread(job_->upload.get(), piece.data(), piece.size(),
                                static_cast<off_t>(job_->uploaded));
      if (got <= 0) return fail_job(internal_error("the exported model can't be read"), true);
      const std::uint64_t offset = job_->uploaded;
      job_->uploaded += static_cast<std::uint64_t>(got);
      ++job_->step;
      send({{"type", "put"},
            {"file", job_->upload_id},
            {"offset", offset},
            {"size", job_->upload_size}},
           piece.substr(0, static_cast<std::size_t>(got)));
    }
  }

  void stored(const Json& message) {
    if (!job_ || job_->stage != Job::Stage::kUploading ||
        message.at("file").get<std::string>() != job_->upload_id) {
      return;
    }
    if (message.at("type") == "not_stored") {
      return fail_job(Error{ErrorCode::kUnavailable,
                            "the server didn't take the model: " + message.value("reason", "")},
                      true);
    }
    finish(WorkOutcome{job_->work.key,
                       job_->work.token,
                       {{"file", job_->upload_id}, {"bytes", job_->upload_size}},
                       std::nullopt,
                       false});
  }

  // Told to end: what is in our hands goes back in line without counting against it.
  void give_back() {
    if (link_ != Link::kUp) return;
    send({{"type", "leaving"}});
    if (!job_ || link_ != Link::kUp) return;
    if (job_->stage != Job::Stage::kReporting) {
      fail_job(Error{ErrorCode::kCancelled, "the worker was told to end"}, true);
    }
    const TimePoint limit = now() + kFlushLimit;
    while (job_ && link_ == Link::kUp && now() < limit) {
      pollfd entry{server_.fd(),
                   static_cast<short>(POLLIN | (server_.wants_to_write() ? POLLOUT : 0)), 0};
      if (::poll(&entry, 1, static_cast<int>(kFlushLimit.count())) <= 0) return;
      from_server();
    }
  }

  WorkerOptions options_;
  std::optional<FileCache> cache_;  // opened when the first file has to be fetched
  std::string scratch_;
  RunnerChild runner_;
  FrameStream server_;
  Link link_ = Link::kDown;
  TimePoint connect_at_;
  TimePoint linked_at_;
  TimePoint lost_at_;
  TimePoint heartbeat_at_;
  milliseconds backoff_ = kFirstBackoff;
  milliseconds heartbeat_{2000};
  std::optional<Job> job_;
  std::unique_ptr<FileCache::Incoming> incoming_;
  std::optional<Error> cache_failure_;
  Json hardware_;
  std::optional<int> exit_code_;
};

bool pin(const std::vector<int>& cpus) {
  if (cpus.empty()) return true;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  }
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

int run_supervisor(const WorkerOptions& given) {
  WorkerOptions options = given;
  if (!pin(options.cpus)) {
    say("can't stay on the processors that --cpus names: " + std::string(std::strerror(errno)));
    return 2;
  }
  if (options.name.empty()) options.name = host_name() + ":" + std::to_string(getpid());
  if (options.runner_argv.empty()) options.runner_argv = {self_executable(), "runner"};
  if (options.cache_dir.empty()) options.cache_dir = FileCache::default_directory();
  const Scratch scratch;
  if (scratch.path().empty()) {
    say("no folder for temporary files can be made: " + std::string(std::strerror(errno)));
    return 1;
  }
  return Supervisor(std::move(options), scratch.path()).run();
}

Result<std::vector<int>> parse_cpu_list(const std::string& text) {
  const Error wrong = invalid_argument("processors \"" + text.substr(0, 80) +
                                       "\"; expected a list such as 0,2-3");
  std::set<int> cpus;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (true) {
    int first = 0;
    auto parsed = std::from_chars(at, end, first);
    if (parsed.ec != std::errc() || first < 0 || first >= CPU_SETSIZE) return wrong;
    int last = first;
    at = parsed.ptr;
    if (at != end && *at == '-') {
      parsed = std::from_chars(at + 1, end, last);
      if (parsed.ec != std::errc() || last < first || last >= CPU_SETSIZE) return wrong;
      at = parsed.ptr;
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
    if (at == end) break;
    if (*at != ',') return wrong;
    ++at;
  }
  return std::vector<int>(cpus.begin(), cpus.end());
}

Result<void> add_label(const std::string& text, std::map<std::string, std::string>& labels) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return invalid_argument("label \"" + text.substr(0, 80) + "\"; expected K=V");
  }
  labels[text.substr(0, equals)] = text.substr(equals + 1);
  return {};
}

}  // namespace kerf::process
