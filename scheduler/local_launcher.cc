#include "scheduler/local_launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "core/child_process.h"

namespace kerf::scheduler {
namespace {

using TimePoint = std::chrono::steady_clock::time_point;

constexpr std::int64_t kLogLimit = 8LL << 20U;
constexpr auto kLook = std::chrono::milliseconds(100);  // between looks at the children

class Worker {
 public:
  Worker(const LauncherOptions& options, int index, std::vector<std::string> argv)
      : options_(options), index_(index), argv_(std::move(argv)) {}
  Worker(Worker&&) = default;
  ~Worker() { close_log(); }

  // Starts, reaps, starts again; appends what the child says to its log.
  void look(TimePoint now, std::atomic<std::int64_t>& restarts) {
    if (child_.running()) {
      copy_output();
      const auto status = child_.poll();
      if (!status) return;
      copy_output();
      note("ended with " + describe_wait_status(*status));
      child_ = ChildProcess();
      if (now - started_at_ >= options_.healthy_after) deaths_ = 0;
      ++deaths_;
      ++restarts;
      const std::chrono::milliseconds pause(options_.first_backoff.count()
                                            << std::min(deaths_ - 1, 20));
      start_at_ = now + std::min(pause, options_.longest_backoff);
      return;
    }
    if (now < start_at_) return;
    start(now);
  }

  void ask_to_end() {
    if (child_.running()) child_.signal(SIGTERM);
  }
  void end(std::chrono::milliseconds grace) {
    if (!child_.running()) return;
    (void)child_.wait_for(grace);
    if (child_.running()) child_.terminate(std::chrono::milliseconds(0));
    copy_output();
  }
  [[nodiscard]] int output() const { return child_.stderr_fd(); }

 private:
  void start(TimePoint now) {
    ChildOptions child;
    child.argv = argv_;
    if (!options_.token.empty()) child.env["KERF_WORKER_TOKEN"] = options_.token;
    child.pipe_stderr = true;
    child.stdout_to_stderr = true;
    started_at_ = now;
    try {
      child_ = ChildProcess::spawn(child);
      fcntl(child_.stderr_fd(), F_SETFL, O_NONBLOCK);
      note("started as process " + std::to_string(child_.pid()));
    } catch (const std::system_error& e) {
      note(std::string("can't be started: ") + e.what());
      ++deaths_;
      start_at_ = now + options_.longest_backoff;
    }
  }

  void copy_output() {
    char piece[4096];
    while (child_.stderr_fd() >= 0) {
      const ssize_t got = ::read(child_.stderr_fd(), piece, sizeof piece);
      if (got <= 0) return;
      write_log({piece, static_cast<std::size_t>(got)});
    }
  }

  void note(const std::string& text) {
    write_log("kerf: worker " + std::to_string(index_) + " " + text + "\n");
  }

  // A log that can't be written is no reason to stop working.
  void write_log(std::string_view text) {
    if (options_.log_dir.empty()) {
      (void)!::write(2, text.data(), text.size());
      return;
    }
    const std::string path =
        options_.log_dir + "/worker-" + std::to_string(index_) + ".log";
    struct stat info {};
    if (log_ >= 0 && fstat(log_, &info) == 0 && info.st_size > kLogLimit) {
      close_log();
      std::rename(path.c_str(), (path + ".1").c_str());
    }
    if (log_ < 0) log_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_ >= 0) (void)!::write(log_, text.data(), text.size());
  }

  void close_log() {
    if (log_ >= 0) ::close(log_);
    log_ = -1;
  }

  const LauncherOptions& options_;
  int index_;
  std::vector<std::string> argv_;
  ChildProcess child_;
  TimePoint started_at_;
  TimePoint start_at_;
  int deaths_ = 0;
  int log_ = -1;
};

}  // namespace

class LocalLauncher::Impl {
 public:
  explicit Impl(LauncherOptions options) : options_(std::move(options)) {
    if (options_.argv.empty()) throw std::invalid_argument("a launcher needs the worker's program");
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }

  ~Impl() {
    stop();
    ::close(wake_);
  }

  void start() {
    if (thread_.joinable()) return;
    thread_ = std::thread([this] { run(); });
  }

  void stop() {
    if (!thread_.joinable()) return;
    const std::uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
    thread_.join();
  }

  [[nodiscard]] std::int64_t restarts() const { return restarts_; }

 private:
  std::vector<std::string> argv_of(int index, const std::vector<int>& cpus) const {
    std::vector<std::string> argv = options_.argv;
    argv.insert(argv.end(), {"--connect", options_.connect, "--threads",
                             std::to_string(options_.threads)});
    std::vector<int> mine;
    for (int i = 0; i < options_.threads && !cpus.empty(); ++i) {
      mine.push_back(cpus[static_cast<std::size_t>(index * options_.threads + i) % cpus.size()]);
    }
    std::sort(mine.begin(), mine.end());
    mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
    if (!mine.empty()) argv.insert(argv.end(), {"--cpus", cpu_list(mine)});
    for (const auto& [key, value] : options_.labels) {
      argv.insert(argv.end(), {"--label", key + "=" + value});
    }
    return argv;
  }

  void run() {
    const std::vector<int> cpus = options_.cpus.empty() ? allowed_cpus() : options_.cpus;
    std::vector<Worker> workers;
    workers.reserve(static_cast<std::size_t>(std::max(0, options_.workers)));
    for (int i = 0; i < options_.workers; ++i) {
      workers.emplace_back(options_, i, argv_of(i, cpus));
    }
    while (true) {
      const TimePoint now = std::chrono::steady_clock::now();
      for (Worker& worker : workers) worker.look(now, restarts_);
      std::vector<pollfd> wait = {{wake_, POLLIN, 0}};
      for (const Worker& worker : workers) {
        if (worker.output() >= 0) wait.push_back({worker.output(), POLLIN, 0});
      }
      ::poll(wait.data(), wait.size(), static_cast<int>(kLook.count()));
      if ((wait[0].revents & POLLIN) != 0) break;
    }
    for (Worker& worker : workers) worker.ask_to_end();
    const TimePoint limit = std::chrono::steady_clock::now() + options_.stop_grace;
    for (Worker& worker : workers) {
      worker.end(std::max(std::chrono::milliseconds(0),
                          std::chrono::duration_cast<std::chrono::milliseconds>(
                              limit - std::chrono::steady_clock::now())));
    }
  }

  LauncherOptions options_;
  std::thread thread_;
  int wake_ = -1;
  std::atomic<std::int64_t> restarts_{0};
};

LocalLauncher::LocalLauncher(LauncherOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
LocalLauncher::~LocalLauncher() = default;
void LocalLauncher::start() { impl_->start(); }
void LocalLauncher::stop() { impl_->stop(); }
std::int64_t LocalLauncher::restarts() const { return impl_->restarts(); }

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> out;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return out;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) out.push_back(cpu);
  }
  return out;
}

std::string cpu_list(const std::vector<int>& cpus) {
  std::string out;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!out.empty()) out += ",";
    out += std::to_string(cpus[i]);
    if (last > i) out += "-" + std::to_string(cpus[last]);
    i = last + 1;
  }
  return out;
}

}  // namespace kerf::scheduler
