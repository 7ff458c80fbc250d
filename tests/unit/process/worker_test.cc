// The scheduler in this process, real workers and runners as children of it; only what a runner
// does with a model is made up (fake_work.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "core/child_process.h"
#include "core/sha256.h"
#include "scheduler/local_launcher.h"
#include "scheduler/scheduler.h"
#include "storage/file_store.h"
#include "storage/sqlite/sqlite_store.h"
#include "tests/simulation/study_fixture.h"
#include "tests/unit/process/fake_work.h"
#include "workers/process/supervisor.h"

namespace kerf::process {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using storage::StudyState;

constexpr milliseconds kPatience{60000};

class WorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("kerf-worker-test-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    files_ = std::make_unique<storage::FileStore>(
        *storage::FileStore::open((folder_ / "files").string()));
    open();
  }

  void TearDown() override {
    close();
    fs::remove_all(folder_);
  }

  void open() {
    auto store = storage::open_sqlite_store((folder_ / "kerf.db").string(), clock_);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
    scheduler::SchedulerOptions options;
    options.core.samplers = simulation::make_random_sampler;
    options.core.limits.lease = lease_;
    options.heartbeat = milliseconds(100);
    options.tick = milliseconds(50);
    options.worker_token = "a secret";
    options.reconnect_grace = milliseconds(300);
    scheduler_ = std::make_unique<scheduler::Scheduler>(options, *store_, *files_, clock_);
    ASSERT_TRUE(scheduler_->start().has_value());
    local_ = *scheduler_->listen_unix((folder_ / "w.sock").string());
    tcp_ = *scheduler_->listen_tcp("127.0.0.1", 0);
    thread_ = std::thread([this] { scheduler_->run(); });
  }

  void close() {
    launcher_.reset();
    if (thread_.joinable()) {
      scheduler_->stop();
      thread_.join();
    }
    scheduler_.reset();
    store_.reset();
  }

  void launch(int workers) {
    scheduler::LauncherOptions options;
    options.argv = {self_executable(), "--as-worker"};
    options.connect = local_;
    options.workers = workers;
    options.log_dir = folder_.string();
    options.first_backoff = milliseconds(50);
    launcher_ = std::make_unique<scheduler::LocalLauncher>(options);
    launcher_->start();
  }

  ChildProcess remote(const std::string& token, const std::string& name) {
    ChildOptions options;
    options.argv = {self_executable(), "--as-worker",  "--connect", tcp_,
                    "--cache-dir",     (folder_ / "cache").string(), "--name", name,
                    "--connect-limit", "5000"};
    options.env["KERF_WORKER_TOKEN"] = token;
    return ChildProcess::spawn(options);
  }

  std::string put(const std::string& content) {
    const fs::path path = folder_ / "upload";
    std::ofstream(path) << content;
    return *files_->put_file(path.string());
  }

  std::string submit(std::int64_t trials, const std::string& model = "a model") {
    Json document = simulation::study_document(trials, false);
    document["model"] = put(model);
    document["data"] = {{"calibration", put("calibration")}, {"evaluation", put("evaluation")}};
    const auto record = scheduler_->submit(document, "");
    EXPECT_TRUE(record.has_value());
    return record->id;
  }

  storage::StudyRecord wait(const std::string& id) {
    const auto record = scheduler_->wait(id, kPatience);
    EXPECT_TRUE(record.has_value()) << record.error().message << logs();
    return record.has_value() ? *record : storage::StudyRecord{};
  }

  Trial trial(const std::string& id, std::int64_t number) {
    return scheduler_->call([&](scheduler::Core&, storage::StudyStore& store) {
      const auto found = store.trial(id, number);
      return found.has_value() ? *found : Trial{};
    });
  }

  // Waits for a condition on the scheduler's thread, which is asked whenever something changed.
  template <class F>
  bool eventually(F condition) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < limit) {
      if (condition()) return true;
      std::this_thread::yield();
    }
    return false;
  }

  std::string logs() {
    std::string out;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (entry.path().extension() != ".log") continue;
      std::ifstream file(entry.path());
      out += "\n" + std::string(std::istreambuf_iterator<char>(file), {});
    }
    return out;
  }

  static bool alive(pid_t pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    if (!std::getline(status, text)) return false;
    return text.substr(text.rfind(')') + 2, 1) != "Z";
  }

  static std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> out;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream status(entry.path() / "stat");
      std::string text;
      if (!std::getline(status, text)) continue;
      std::istringstream rest(text.substr(text.rfind(')') + 2));
      std::string state;
      pid_t ppid = 0;
      rest >> state >> ppid;
      if (ppid == parent && state != "Z") out.push_back(std::stoi(name));
    }
    return out;
  }

  SystemClock clock_;
  milliseconds lease_{3000};
  fs::path folder_;
  std::unique_ptr<storage::FileStore> files_;
  std::unique_ptr<storage::StudyStore> store_;
  std::unique_ptr<scheduler::Scheduler> scheduler_;
  std::unique_ptr<scheduler::LocalLauncher> launcher_;
  std::thread thread_;
  std::string local_;
  std::string tcp_;
};

TEST_F(WorkerTest, WhatRunnersDoIsTheTrialsResultAndNotTheWorkersEnd) {
  launch(2);
  const std::string id = submit(12);
  EXPECT_EQ(wait(id).state, StudyState::kComplete);

  const Trial crashed = trial(id, 1);
  EXPECT_EQ(crashed.state, TrialState::kComplete);
  EXPECT_EQ(crashed.attempts, 2);
  const Trial hung = trial(id, 2);
  EXPECT_EQ(hung.state, TrialState::kComplete);
  EXPECT_EQ(hung.attempts, 2);
  const Trial short_of_memory = trial(id, 3);
  EXPECT_EQ(short_of_memory.state, TrialState::kComplete);
  EXPECT_EQ(short_of_memory.attempts, 2);
  const Trial wrong = trial(id, 4);
  EXPECT_EQ(wrong.state, TrialState::kFailed);
  EXPECT_EQ(wrong.attempts, 1);
  EXPECT_EQ(wrong.error->message, "this plan can't be done");
  const Trial hopeless = trial(id, 5);
  EXPECT_EQ(hopeless.state, TrialState::kFailed);
  EXPECT_EQ(hopeless.attempts, 3);
  EXPECT_THAT(hopeless.error->message, testing::HasSubstr("exit code 7"));
  EXPECT_THAT(hopeless.error->message, testing::HasSubstr("phase accuracy"));
  EXPECT_EQ(trial(id, 6).state, TrialState::kComplete);
  EXPECT_EQ(launcher_->restarts(), 0) << logs();
  EXPECT_THAT(logs(), testing::HasSubstr("a line before the end"));
}

TEST_F(WorkerTest, AnExportArrivesInTheServersFiles) {
  launch(1);
  const std::string id = submit(1);
  EXPECT_EQ(wait(id).state, StudyState::kComplete);
  std::promise<Result<std::string>> done;
  scheduler_->export_trial(id, 0, [&](Result<std::string> file) { done.set_value(std::move(file)); });
  const auto file = done.get_future().get();
  ASSERT_TRUE(file.has_value()) << file.error().message << logs();
  std::ifstream stored(*files_->path_of(*file));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(stored), {}), "exported {}");
}

TEST_F(WorkerTest, ARemoteWorkerFetchesTheFilesOnce) {
  const std::string large(3'500'000, 'm');  // some pieces
  ChildProcess worker = remote("a secret", "far away");
  const std::string id = submit(10, large);
  EXPECT_EQ(wait(id).state, StudyState::kComplete);
  EXPECT_EQ(trial(id, 6).state, TrialState::kComplete);
  int cached = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "cache")) {
    EXPECT_TRUE(is_file_id("sha256:" + entry.path().filename().string())) << entry;
    ++cached;
  }
  EXPECT_EQ(cached, 3);
  std::promise<Result<std::string>> done;
  scheduler_->export_trial(id, 0, [&](Result<std::string> file) { done.set_value(std::move(file)); });
  EXPECT_TRUE(done.get_future().get().has_value());
}

TEST_F(WorkerTest, AWrongTokenIsRefused) {
  ChildProcess worker = remote("a guess", "stranger");
  const auto status = worker.wait_for(kPatience);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(describe_wait_status(*status), "exit code 2");
  EXPECT_TRUE(scheduler_->workers().empty());
}

TEST_F(WorkerTest, AKilledWorkerIsStartedAgainAndItsRunnerIsGone) {
  launch(1);
  const std::string id = submit(8);
  // Trial 2 hangs at its first attempt: the worker can be found at it.
  ASSERT_TRUE(eventually([&] { return trial(id, 2).state == TrialState::kRunning; }));
  const std::vector<pid_t> workers = children_of(getpid());
  ASSERT_EQ(workers.size(), 1U);
  std::vector<pid_t> runners;
  ASSERT_TRUE(eventually([&] { return !(runners = children_of(workers[0])).empty(); }));
  kill(workers[0], SIGKILL);
  EXPECT_TRUE(eventually([&] { return !alive(runners[0]); }));
  EXPECT_EQ(wait(id).state, StudyState::kComplete);
  EXPECT_EQ(trial(id, 2).state, TrialState::kComplete);
  EXPECT_GE(launcher_->restarts(), 1);
}

TEST_F(WorkerTest, AWorkerThatIsToldToEndGivesItsWorkBack) {
  ChildProcess first = remote("a secret", "first");
  const std::string id = submit(8);
  ASSERT_TRUE(eventually([&] { return trial(id, 2).state == TrialState::kRunning; }));
  first.signal(SIGTERM);
  const auto status = first.wait_for(kPatience);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(describe_wait_status(*status), "exit code 0");
  EXPECT_TRUE(eventually([&] { return trial(id, 2).state == TrialState::kWaiting; }));
  ChildProcess second = remote("a secret", "second");
  EXPECT_EQ(wait(id).state, StudyState::kComplete);
}

TEST_F(WorkerTest, AWorkerThatSleptPastItsLeaseChangesNothing) {
  ChildProcess sleeper = remote("a secret", "sleeper");
  const std::string id = submit(8);
  ASSERT_TRUE(eventually([&] { return trial(id, 2).state == TrialState::kRunning; }));
  ::kill(sleeper.pid(), SIGSTOP);
  ASSERT_TRUE(eventually([&] { return trial(id, 2).state == TrialState::kWaiting; }));
  ChildProcess other = remote("a secret", "other");
  EXPECT_EQ(wait(id).state, StudyState::kComplete);
  const Json before = trial(id, 2).measurement;
  ::kill(sleeper.pid(), SIGCONT);
  EXPECT_TRUE(eventually([&] { return scheduler_->workers().size() == 2; }));
  EXPECT_EQ(trial(id, 2).measurement, before);
}

TEST_F(WorkerTest, AServerThatComesBackGoesOn) {
  ChildProcess worker;
  const std::string id = submit(10);
  launch(1);
  ASSERT_TRUE(eventually([&] { return trial(id, 2).state == TrialState::kRunning; }));
  close();
  open();
  launch(2);
  EXPECT_EQ(wait(id).state, StudyState::kComplete);
  for (int number = 0; number < 10; ++number) {
    const Trial one = trial(id, number);
    EXPECT_TRUE(is_terminal(one.state)) << number;
    EXPECT_EQ(one.state, number == 4 || number == 5 ? TrialState::kFailed : TrialState::kComplete);
  }
}

TEST_F(WorkerTest, PausedStudiesWaitAndCancelledOnesEnd) {
  launch(1);
  const std::string paused = submit(12);
  ASSERT_TRUE(eventually([&] { return trial(paused, 2).state == TrialState::kRunning; }));
  ASSERT_TRUE(scheduler_->pause(paused).has_value());
  EXPECT_FALSE(scheduler_->pause(paused).has_value());
  ASSERT_TRUE(scheduler_->resume(paused).has_value());
  ASSERT_TRUE(scheduler_->cancel(paused).has_value());
  EXPECT_EQ(wait(paused).state, StudyState::kCancelled);
  EXPECT_EQ(trial(paused, 2).state, TrialState::kFailed);
  EXPECT_FALSE(scheduler_->cancel(paused).has_value());
  // The worker is free again.
  Json document = simulation::study_document(1, false);
  EXPECT_EQ(wait(submit(1)).state, StudyState::kComplete);
}

TEST(WorkerOptions, ProcessorsAndLabelsAreParsedStrictly) {
  EXPECT_EQ(*parse_cpu_list("0,2-4"), (std::vector<int>{0, 2, 3, 4}));
  for (const char* text : {"", "x", "3-1", "1,", "-1", "1-", "99999", "1;2"}) {
    EXPECT_FALSE(parse_cpu_list(text).has_value()) << text;
  }
  std::map<std::string, std::string> labels;
  EXPECT_TRUE(add_label("cpu=zen4", labels).has_value());
  EXPECT_EQ(labels["cpu"], "zen4");
  for (const char* text : {"", "=x", "x=", "x"}) EXPECT_FALSE(add_label(text, labels).has_value());
}

}  // namespace
}  // namespace kerf::process

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "";
  if (role == "--as-runner") return kerf::process::run_as_runner();
  if (role == "--as-worker") return kerf::process::run_as_worker(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
