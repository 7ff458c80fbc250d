// One thread, a virtual clock, a seed: the real scheduler core and the real store under crashes,
// delays, duplicates and a full disk. A failure prints its seed; KERF_SIMULATION_SEED=n runs that
// one alone, KERF_SIMULATION_SEEDS=n runs so many.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>

#include "scheduler/core.h"
#include "storage/sqlite/sqlite_store.h"
#include "tests/simulation/checked_store.h"
#include "tests/simulation/study_fixture.h"

namespace kerf::simulation {
namespace {

using scheduler::Core;
using std::chrono::milliseconds;
using storage::StudyState;

struct Faults {
  double worker_crash = 0.01;    // a step of a busy worker
  double connection_loss = 0.01;
  double attempt_fails = 0.03;
  double server_crash = 0.002;   // a step of the world
  double stall = 0.01;           // a worker that hears and says nothing for long (SIGSTOP)
  double disk_full = 0.003;
  double duplicate = 0.1;        // an outcome is sent again although it was sent
};

class World {
 public:
  World(std::uint64_t seed, Faults faults, int workers)
      : faults_(faults), random_({static_cast<std::int64_t>(seed)}) {
    storage::SqliteStoreOptions options;
    options.random = [this] { return random_.next(); };
    auto opened = storage::open_sqlite_store(":memory:", clock_, options);
    if (!opened.has_value()) throw std::runtime_error(opened.error().message);
    inner_ = std::move(*opened);
    store_ = std::make_unique<CheckedStore>(*inner_);
    store_->full = [this] { return clock_.steady_now() < full_until_; };
    workers_.resize(static_cast<std::size_t>(workers));
    start_server();
  }

  std::string submit(std::int64_t trials, bool test_split, const std::string& sampler = "optuna-tpe") {
    Json document = study_document(trials, test_split, sampler);
    document["name"] = "study " + std::to_string(studies_.size());
    auto record = core_->submit(document, "");
    if (!record.has_value()) throw std::runtime_error(record.error().message);
    studies_.push_back(record->id);
    return record->id;
  }

  bool all_final() {
    for (const std::string& id : studies_) {
      const auto record = store_->study(id);
      if (record->state == StudyState::kRunning || record->state == StudyState::kPaused) return false;
    }
    return true;
  }

  // Whether all studies ended within so many steps.
  bool run(int steps) {
    for (int i = 0; i < steps && store_->violations.empty(); ++i) {
      if (all_final()) return true;
      step();
    }
    return all_final();
  }

  void step() {
    clock_.advance(milliseconds(1 + random_.below(2000)));
    if (random_.below(50) == 0) {
      clock_.jump_wall(std::chrono::hours(random_.below(175200) - 87600));
    }
    if (happens(faults_.disk_full)) full_until_ = clock_.steady_now() + milliseconds(random_.below(60000));
    if (happens(faults_.server_crash)) return start_server();
    core_->tick();
    perform();
    for (std::size_t i = 0; i < workers_.size(); ++i) live(workers_[i]);
  }

  CheckedStore& store() { return *store_; }
  Core& core() { return *core_; }
  const std::map<WorkKey, Json>& acknowledged() const { return acknowledged_; }
  int restarts() const { return restarts_; }

 private:
  struct Worker {
    std::string connection;       // empty = not connected
    std::optional<Work> work;
    std::optional<WorkOutcome> outcome;
    std::vector<WorkOutcome> old; // sent before, and sent again some time
    std::int64_t progress = 0;
    Clock::SteadyTime stalled_until;
  };

  bool happens(double chance) { return random_.unit() < chance; }

  void start_server() {
    scheduler::CoreOptions options;
    options.samplers = make_random_sampler;
    options.max_attempts = 1000;
    options.max_blameless_attempts = 1000;
    options.limits.lease = std::chrono::seconds(20);
    options.limits.progress = std::chrono::seconds(300);
    core_ = std::make_unique<Core>(options, *store_, clock_);
    searches_.clear();
    for (Worker& worker : workers_) worker.connection.clear();
    ++restarts_;
    if (!core_->start().has_value()) throw std::runtime_error("the server doesn't start");
    perform();
  }

  void perform() {
    Core::Actions actions = core_->take_actions();
    for (auto& assignment : actions.assignments) {
      for (Worker& worker : workers_) {
        if (worker.connection != assignment.worker) continue;
        if (worker.work) {
          store_->violations.push_back("a busy worker got more work");
          return;
        }
        worker.work = std::move(assignment.work);
        worker.outcome.reset();
        worker.progress = 0;
        break;
      }
    }
    for (const auto& cancellation : actions.cancellations) {
      for (Worker& worker : workers_) {
        if (worker.connection == cancellation.worker) drop_work(worker, cancellation.token);
      }
    }
    for (auto& search : actions.searches) searches_.push_back(std::move(search));
    // Samplers take their time; several studies' answers come in any order.
    while (!searches_.empty() && random_.below(3) != 0) {
      const auto index = static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(searches_.size())));
      Core::SearchJob job = std::move(searches_[index]);
      searches_.erase(searches_.begin() + static_cast<std::ptrdiff_t>(index));
      core_->search_done(job.study, job.run());
      Core::Actions more = core_->take_actions();
      for (auto& one : more.searches) searches_.push_back(std::move(one));
      more.searches.clear();
      put_back(std::move(more));
    }
  }

  // Actions of a nested call, performed at once.
  void put_back(Core::Actions actions) {
    for (auto& assignment : actions.assignments) {
      for (Worker& worker : workers_) {
        if (worker.connection == assignment.worker && !worker.work) {
          worker.work = std::move(assignment.work);
          worker.outcome.reset();
          worker.progress = 0;
          break;
        }
      }
    }
  }

  void drop_work(Worker& worker, std::int64_t token) {
    if (!worker.work || worker.work->token != token) return;
    worker.work.reset();
    worker.outcome.reset();
    core_->worker_ready(worker.connection);
  }

  void connect(Worker& worker) {
    scheduler::WorkerInfo info;
    info.id = worker.connection = "c" + std::to_string(++connections_);
    info.name = info.id;
    info.hardware = hardware().to_json();
    info.hardware_id = hardware().id();
    core_->worker_joined(info);
    if (!worker.work) core_->worker_ready(worker.connection);
    perform();
  }

  void disconnect(Worker& worker) {
    const std::string connection = std::exchange(worker.connection, "");
    core_->worker_left(connection, random_.below(2) == 0 ? Clock::Duration(0) : std::chrono::seconds(5));
    perform();
  }

  void live(Worker& worker) {
    if (clock_.steady_now() < worker.stalled_until) return;
    if (happens(faults_.stall)) {
      worker.stalled_until = clock_.steady_now() + milliseconds(random_.below(120000));
      return;
    }
    if (worker.connection.empty()) {
      if (random_.below(3) == 0) connect(worker);
      return;
    }
    if (happens(faults_.connection_loss)) return disconnect(worker);
    if (happens(faults_.worker_crash)) {
      worker.work.reset();
      worker.outcome.reset();
      return disconnect(worker);
    }
    if (!worker.old.empty() && happens(faults_.duplicate)) {
      const auto index = static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(worker.old.size())));
      resend(worker, worker.old[index]);
      return;
    }
    if (!worker.work) return;
    if (!worker.outcome) {
      const auto held = core_->heartbeat(worker.connection, worker.work->key, worker.work->token,
                                         {++worker.progress, "accuracy", 0.5});
      if (!held.has_value()) {
        drop_work(worker, worker.work->token);
        perform();
        return;
      }
      if (random_.below(4) == 0) worker.outcome = work_out(*worker.work);
      return;
    }
    report(worker);
  }

  WorkOutcome work_out(const Work& work) {
    WorkOutcome outcome{work.key, work.token, nullptr, std::nullopt, false};
    if (happens(faults_.attempt_fails)) {
      outcome.error = internal_error("the runner ended with signal 11");
      outcome.retry = true;
    } else if (work.key.kind == WorkKind::kInspect) {
      outcome.result = small_model().to_json();
    } else if (work.key.kind == WorkKind::kProfile) {
      outcome.result = looked(work.payload.at("looks"));
    } else {
      outcome.result = measured(work.payload.at("plan"), work.token);
      // Some plans don't work, whoever tries.
      if (work.key.number > 0 && work.key.kind == WorkKind::kTrial && work.key.number % 17 == 0) {
        outcome.result = nullptr;
        outcome.error = invalid_argument("this plan can't be done");
      }
    }
    return outcome;
  }

  void report(Worker& worker) {
    const WorkOutcome outcome = *worker.outcome;
    const auto taken = core_->outcome(worker.connection, outcome);
    if (!taken.has_value() && taken.error().code == ErrorCode::kResourceExhausted) return;
    if (taken.has_value() && !outcome.retry) acknowledged_[outcome.key] = outcome.result;
    worker.old.push_back(outcome);
    worker.work.reset();
    worker.outcome.reset();
    // The acknowledgement may be lost with the connection, or with the server.
    perform();
  }

  // A late or doubled outcome, over whatever connection there is: changes nothing.
  void resend(Worker& worker, const WorkOutcome& outcome) {
    const bool idle = !worker.work;
    if (!idle) return;
    (void)core_->outcome(worker.connection, outcome).has_value();
    perform();
  }

  Faults faults_;
  search::Rng random_;
  ManualClock clock_;
  Clock::SteadyTime full_until_;
  std::unique_ptr<storage::StudyStore> inner_;
  std::unique_ptr<CheckedStore> store_;
  std::unique_ptr<Core> core_;
  std::vector<Worker> workers_;
  std::vector<Core::SearchJob> searches_;
  std::vector<std::string> studies_;
  std::map<WorkKey, Json> acknowledged_;
  std::int64_t connections_ = 0;
  int restarts_ = -1;
};

void check_study(World& world, const std::string& id, std::int64_t trials, bool verified) {
  const auto record = world.store().study(id);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->state, StudyState::kComplete) << record->reason;
  EXPECT_EQ(record->reason, "budget.trials");
  const auto all = world.store().trials(id, 0, 10000);
  ASSERT_TRUE(all.has_value());
  // A profile is paid for in trials, and only once.
  const auto profile = world.store().document(id, "profile");
  std::int64_t charged = 0;
  if (record->definition["search"]["sampler"] == "profile") {
    ASSERT_TRUE(profile->has_value());
    EXPECT_EQ((**profile)["unknown"], 0) << canonical_text(**profile);
    const double trials_spent = (**profile)["seconds"].get<double>() / (**profile)["trial_seconds"].get<double>();
    EXPECT_EQ((**profile)["charged_trials"], std::ceil(trials_spent));
    EXPECT_GE((**profile)["seconds"], 0.2 * (**profile)["probes"].get<double>());
    EXPECT_EQ((**profile)["terms"]["alone"].size(), 3U);
    charged = (**profile)["charged_trials"];
  } else {
    EXPECT_FALSE(profile->has_value());
  }
  EXPECT_EQ(static_cast<std::int64_t>(all->size()) + charged, trials);
  std::set<std::string> plans;
  for (const Trial& trial : *all) {
    EXPECT_TRUE(is_terminal(trial.state)) << trial.number;
    EXPECT_TRUE(plans.insert(canonical_text(trial.candidate)).second) << "proposed twice";
    const bool should_fail = trial.number > 0 && trial.number % 17 == 0;
    EXPECT_EQ(trial.state, should_fail ? TrialState::kFailed : TrialState::kComplete) << trial.number;
    const WorkKey key{id, WorkKind::kTrial, trial.number};
    const auto acknowledged = world.acknowledged().find(key);
    ASSERT_TRUE(acknowledged != world.acknowledged().end()) << trial.number;
    if (!should_fail) {
      EXPECT_EQ(acknowledged->second, trial.measurement) << "what was acknowledged isn't there";
      EXPECT_EQ(trial.measurement["macs"], static_cast<double>(world.store().book[key].token));
    }
  }
  const auto front = world.store().document(id, "front");
  ASSERT_TRUE(front.has_value() && front->has_value());
  EXPECT_FALSE((**front)["trials"].empty());
  for (const Json& number : (**front)["trials"]) {
    const auto member = world.store().trial(id, number.get<std::int64_t>());
    const WorkKey key{id, WorkKind::kVerify, number.get<std::int64_t>()};
    const auto verification = world.store().work(key);
    EXPECT_EQ(member->verification.is_object(), verified)
        << "verification of trial " << number << " of front " << **front << " is "
        << (verification.has_value() ? std::string(to_string(verification->state)) + " " +
                                           (verification->error ? verification->error->message : "")
                                     : "not there");
  }
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(SchedulerSimulation, NothingIsLostDoubledOrStuckWhateverDies) {
  const std::uint64_t only = from_environment("KERF_SIMULATION_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t last = only != 0 ? only : from_environment("KERF_SIMULATION_SEEDS", 25);
  int restarts = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("KERF_SIMULATION_SEED=" + std::to_string(seed));
    World world(seed, {}, 1 + static_cast<int>(seed % 7));
    const std::string one = world.submit(40, true);
    const std::string two = world.submit(25, false, "profile");
    const std::string three = world.submit(20, false, "profile");
    EXPECT_TRUE(world.run(20000)) << "studies that don't end";
    EXPECT_TRUE(world.store().violations.empty()) << world.store().violations.front();
    check_study(world, one, 40, true);
    check_study(world, two, 25, false);
    check_study(world, three, 20, false);
    restarts += world.restarts();
    if (testing::Test::HasFailure()) return;
  }
  if (only == 0) {
    EXPECT_GT(restarts, 0) << "no server crashed: the faults don't bite";
  }
}

TEST(SchedulerSimulation, WithoutFaultsNothingIsTriedTwice) {
  Faults none{0, 0, 0, 0, 0, 0, 0};
  World world(7, none, 4);
  const std::string id = world.submit(40, false);
  ASSERT_TRUE(world.run(5000));
  check_study(world, id, 40, false);
  const auto trials = world.store().trials(id, 0, 100);
  for (const Trial& trial : *trials) EXPECT_EQ(trial.attempts, 1) << trial.number;
}

TEST(SchedulerSimulation, TheSameSeedGivesTheSameTrials) {
  const auto plans = [] {
    World world(11, {}, 3);
    const std::string id = world.submit(30, false);
    EXPECT_TRUE(world.run(20000));
    Json out;
    for (const Trial& trial : *world.store().trials(id, 0, 100)) {
      out.push_back({trial.candidate, trial.attempts, trial.measurement});
    }
    return out;
  };
  EXPECT_EQ(plans(), plans());
}

}  // namespace
}  // namespace kerf::simulation
