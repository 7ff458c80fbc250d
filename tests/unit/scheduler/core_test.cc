#include "scheduler/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/racing.h"
#include "storage/sqlite/sqlite_store.h"
#include "tests/simulation/checked_store.h"
#include "tests/simulation/study_fixture.h"

namespace kerf::scheduler {
namespace {

using simulation::measured;
using std::chrono::seconds;
using storage::StudyState;

class CoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = storage::open_sqlite_store(":memory:", clock_);
    ASSERT_TRUE(opened.has_value());
    real_ = std::move(*opened);
    store_ = std::make_unique<simulation::CheckedStore>(*real_);
    restart();
  }
  void TearDown() override {
    EXPECT_TRUE(store_->violations.empty()) << store_->violations.front();
  }

  void restart() {
    CoreOptions options;
    options.samplers = simulation::make_random_sampler;
    core_ = std::make_unique<Core>(options, *store_, clock_);
    ASSERT_TRUE(core_->start().has_value());
    held_.clear();
  }

  std::string submit(Json document) {
    const auto record = core_->submit(document, "");
    EXPECT_TRUE(record.has_value()) << record.error().message;
    return record->id;
  }

  void join(const std::string& id, const std::map<std::string, std::string>& labels = {},
            const std::string& cpu = "simulated cpu") {
    WorkerInfo info;
    info.id = info.name = id;
    info.labels = labels;
    info.hardware = simulation::hardware(cpu).to_json();
    info.hardware_id = simulation::hardware(cpu).id();
    cpu_[id] = cpu;
    core_->worker_joined(info);
    core_->worker_ready(id);
    perform();
  }

  void perform() {
    while (true) {
      Core::Actions actions = core_->take_actions();
      for (auto& one : actions.assignments) held_[one.worker] = one.work;
      for (const auto& one : actions.cancellations) {
        const auto held = held_.find(one.worker);
        if (held == held_.end() || held->second.token != one.token) continue;
        held_.erase(held);
        core_->worker_ready(one.worker);
      }
      if (actions.searches.empty() && actions.cancellations.empty() && actions.assignments.empty()) return;
      for (auto& search : actions.searches) core_->search_done(search.study, search.run());
    }
  }

  // The worker does what it has; the key of that.
  std::optional<WorkKey> work(const std::string& worker) {
    const auto held = held_.find(worker);
    if (held == held_.end()) return std::nullopt;
    const Work done = held->second;
    WorkOutcome outcome{done.key, done.token, nullptr, std::nullopt, false};
    outcome.result = done.key.kind == WorkKind::kInspect
                         ? simulation::small_model().to_json()
                         : measured(done.payload.at("plan"), done.token, cpu_[worker]);
    if (done.key.kind == WorkKind::kExport) outcome.result = {{"file", simulation::file_id('9')}, {"bytes", 1}};
    const auto taken = core_->outcome(worker, outcome);
    if (!taken.has_value()) return std::nullopt;
    held_.erase(worker);
    perform();
    return done.key;
  }

  void work_until_done(const std::string& worker) {
    for (int i = 0; i < 1000 && work(worker); ++i) {
    }
  }

  StudyState state(const std::string& id) { return store_->study(id)->state; }

  ManualClock clock_;
  std::unique_ptr<storage::StudyStore> real_;
  std::unique_ptr<simulation::CheckedStore> store_;
  std::unique_ptr<Core> core_;
  std::map<std::string, Work> held_;
  std::map<std::string, std::string> cpu_;
};

TEST_F(CoreTest, AStudyRunsToItsEnd) {
  const std::string id = submit(simulation::study_document(10, true));
  join("a");
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(store_->study(id)->reason, "budget.trials");
  const auto trials = store_->trials(id, 0, 100);
  ASSERT_EQ(trials->size(), 10U);
  EXPECT_EQ((*trials)[0].candidate, Json::object()) << "trial 0 is the baseline";
  EXPECT_TRUE((*trials)[0].verification.is_object());
  EXPECT_TRUE(store_->document(id, "model")->has_value());
  EXPECT_EQ((**store_->document(id, "reference"))["point"].size(), 3U);
  EXPECT_EQ(core_->progress(id)->finished, 10);
}

TEST_F(CoreTest, CandidatesAreRacedAgainstTheConstraintsOnceTheBaselineIsKnown) {
  Json document = simulation::study_document(4, false);
  document["constraints"] = {{{"metric", "accuracy_drop"}, {"max", 0.01}}};
  const std::string id = submit(document);
  join("a");
  ASSERT_EQ(work("a")->kind, WorkKind::kInspect);
  EXPECT_FALSE(held_.at("a").payload.contains("racing")) << "the baseline is measured whole";
  ASSERT_EQ(work("a")->number, 0);
  const auto terms = RacingTerms::parse(held_.at("a").payload.at("racing"));
  ASSERT_TRUE(terms.has_value()) << terms.error().message;
  EXPECT_THAT(terms->limits, testing::ElementsAre(testing::Pair("accuracy_drop", 0.01)));
  // What the worker stops is pruned, counts as a trial, and never stands on the front.
  const Work work = held_.at("a");
  Json stopped = simulation::measured(work.payload.at("plan"), work.token);
  stopped.erase("latency_p50_us");
  stopped["pruned"] = true;
  stopped["reason"] = "accuracy_drop is surely above 0.01";
  ASSERT_TRUE(core_->outcome("a", {work.key, work.token, stopped, std::nullopt, false}).has_value());
  held_.erase("a");
  perform();
  const auto trial = store_->trial(id, 1);
  EXPECT_EQ(trial->state, TrialState::kPruned);
  EXPECT_EQ(trial->to_json()["reason"], "accuracy_drop is surely above 0.01");
  EXPECT_TRUE(trial->to_json()["metrics"].contains("accuracy"));
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(store_->trials(id, 0, 100)->size(), 4U);
}

TEST_F(CoreTest, TheReferencePointStaysWhereItWasWhenTheStudyBegan) {
  const std::string id = submit(simulation::study_document(4, false));
  join("a");
  ASSERT_EQ(work("a")->kind, WorkKind::kInspect);
  ASSERT_EQ(work("a")->number, 0);
  const Json moved = {{"point", {0.5, 1000.0, 9000.0}}};  // as another version's rule may have put it
  ASSERT_TRUE(store_->put_document(id, "reference", moved).has_value());
  restart();
  join("a");
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(**store_->document(id, "reference"), moved);
}

TEST_F(CoreTest, WorkersAreMatchedByLabels) {
  Json document = simulation::study_document(3, false);
  document["hardware"] = {{"labels", {{"cpu", "zen4"}}}};
  const std::string id = submit(document);
  join("plain");
  join("wrong", {{"cpu", "m2"}});
  EXPECT_TRUE(held_.empty());
  EXPECT_EQ(core_->progress(id)->blocked, "no worker with cpu=zen4");
  join("right", {{"cpu", "zen4"}, {"rack", "7"}});
  EXPECT_TRUE(held_.contains("right"));
  EXPECT_EQ(core_->progress(id)->blocked, "");
}

TEST_F(CoreTest, TheBaselinesHardwareMeasuresAllTrials) {
  const std::string id = submit(simulation::study_document(4, false));
  join("a", {}, "one cpu");
  ASSERT_EQ(work("a")->kind, WorkKind::kInspect);
  ASSERT_EQ(work("a")->number, 0);
  join("b", {}, "another cpu");
  EXPECT_FALSE(held_.contains("b"));
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kComplete);
  restart();
  ASSERT_TRUE(core_->extend(id, {6, 0, 0}).has_value());
  join("b", {}, "another cpu");
  EXPECT_FALSE(held_.contains("b")) << "also after a restart";
  EXPECT_THAT(core_->progress(id)->blocked, testing::HasSubstr("hardware"));
  join("c", {}, "one cpu");
  work_until_done("c");
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(store_->trials(id, 0, 100)->size(), 6U);
}

TEST_F(CoreTest, StudiesShareAWorkersTimeAndKeepItForAWhile) {
  const std::string one = submit(simulation::study_document(40, false));
  const std::string two = submit(simulation::study_document(40, false));
  join("a");
  std::map<std::string, int> done;
  int changes = 0;
  std::string last;
  for (int i = 0; i < 40; ++i) {
    clock_.advance(seconds(5));
    const auto key = work("a");
    ASSERT_TRUE(key.has_value());
    ++done[key->study];
    changes += key->study != last ? 1 : 0;
    last = key->study;
  }
  EXPECT_NEAR(done[one], done[two], 8);
  EXPECT_LT(changes, 16) << "a runner's caches are worth something";
  EXPECT_GT(changes, 3);
}

TEST_F(CoreTest, OutsideItsWindowAStudyRests) {
  Json document = simulation::study_document(5, false);
  document["window"] = {{"start", "22:00"}, {"stop", "06:00"}, {"timezone", "UTC"}};
  const std::string id = submit(document);
  const auto midnight = std::chrono::floor<std::chrono::days>(clock_.wall_now());
  clock_.jump_wall(midnight + std::chrono::hours(12) - clock_.wall_now());
  core_->tick();
  join("a");
  EXPECT_TRUE(held_.empty());
  EXPECT_THAT(core_->progress(id)->blocked, testing::HasSubstr("window"));
  clock_.jump_wall(std::chrono::hours(10));
  core_->tick();
  perform();
  EXPECT_TRUE(held_.contains("a"));
  clock_.jump_wall(std::chrono::hours(8));
  core_->tick();
  ASSERT_TRUE(work("a").has_value()) << "what runs may end";
  EXPECT_TRUE(held_.empty());
}

TEST_F(CoreTest, SpentSecondsEndTheStudyAlsoAcrossRestarts) {
  Json document = simulation::study_document(1000, false);
  document["budget"]["seconds"] = 60;
  const std::string id = submit(document);
  join("a");
  for (int i = 0; i < 4; ++i) {
    clock_.advance(seconds(10));
    core_->tick();
    ASSERT_TRUE(work("a").has_value());
  }
  restart();
  join("a");
  for (int i = 0; i < 10 && state(id) == StudyState::kRunning; ++i) {
    clock_.advance(seconds(10));
    core_->tick();
    (void)work("a");
  }
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(store_->study(id)->reason, "budget.seconds");
  EXPECT_NEAR(store_->study(id)->active_seconds, 60, 15);
  const std::vector<Trial> trials = *store_->trials(id, 0, 100);
  for (const Trial& trial : trials) EXPECT_TRUE(is_terminal(trial.state)) << trial.number;
}

TEST_F(CoreTest, CancellingTakesTheWorkAway) {
  const std::string id = submit(simulation::study_document(10, false));
  join("a");
  (void)work("a");
  (void)work("a");
  ASSERT_TRUE(held_.contains("a"));
  const Work held = held_["a"];
  ASSERT_TRUE(core_->cancel(id).has_value());
  EXPECT_EQ(state(id), StudyState::kCancelled);
  perform();
  EXPECT_FALSE(held_.contains("a"));
  const WorkOutcome late{held.key, held.token, measured(held.payload["plan"], held.token), std::nullopt, false};
  EXPECT_EQ(core_->outcome("a", late).error().code, ErrorCode::kAborted);
  const std::vector<Trial> trials = *store_->trials(id, 0, 100);
  for (const Trial& trial : trials) EXPECT_TRUE(is_terminal(trial.state)) << trial.number;
}

TEST_F(CoreTest, AStudyInAnotherStateIsNeitherPausedNorResumedAndTheAnswerSaysSo) {
  const std::string id = submit(simulation::study_document(10, false));
  const auto resumed = core_->resume(id);
  ASSERT_FALSE(resumed.has_value());
  EXPECT_EQ(resumed.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(resumed.error().message, "study " + id + " is running; expected one that is paused");
  ASSERT_TRUE(core_->cancel(id).has_value());
  const auto paused = core_->pause(id);
  ASSERT_FALSE(paused.has_value());
  EXPECT_EQ(paused.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(paused.error().message, "study " + id + " is cancelled; expected one that is running");
  EXPECT_EQ(core_->pause("nothing").error().code, ErrorCode::kNotFound);
}

TEST_F(CoreTest, APausedStudyCanBeCancelled) {
  const std::string id = submit(simulation::study_document(10, false));
  join("a");
  (void)work("a");
  (void)work("a");
  ASSERT_TRUE(core_->pause(id).has_value());
  (void)work("a");
  EXPECT_TRUE(held_.empty());
  ASSERT_TRUE(core_->cancel(id).has_value());
  const std::vector<Trial> trials = *store_->trials(id, 0, 100);
  for (const Trial& trial : trials) EXPECT_TRUE(is_terminal(trial.state)) << trial.number;
}

TEST_F(CoreTest, AFullDiskStopsLeasingAndKeepsOutcomesUntilThereIsRoom) {
  bool full = false;
  store_->full = [&] { return full; };
  const std::string id = submit(simulation::study_document(5, false));
  join("a");
  ASSERT_TRUE(work("a").has_value());
  full = true;
  const Work held = held_["a"];
  const WorkOutcome outcome{held.key, held.token, measured(held.payload["plan"], held.token), std::nullopt, false};
  EXPECT_EQ(core_->outcome("a", outcome).error().code, ErrorCode::kResourceExhausted);
  join("b");
  EXPECT_FALSE(held_.contains("b"));
  EXPECT_EQ(core_->progress(id)->blocked, "the disk is full");
  full = false;
  core_->tick();
  EXPECT_TRUE(core_->outcome("a", outcome).has_value());
  held_.erase("a");
  perform();
  work_until_done("a");
  work_until_done("b");
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kComplete);
}

TEST_F(CoreTest, ALapsedLeaseGoesToAnotherAndItsOutcomeIsRefused) {
  const std::string id = submit(simulation::study_document(3, false));
  join("a");
  ASSERT_TRUE(work("a").has_value());
  const Work first = held_["a"];
  ASSERT_TRUE(core_->heartbeat("a", first.key, first.token, {1, "accuracy", 0.5}).has_value());
  clock_.advance(seconds(60));
  core_->tick();
  held_.clear();
  (void)core_->take_actions();
  core_->worker_left("a", Clock::Duration(0));
  join("b");
  ASSERT_TRUE(held_.contains("b"));
  EXPECT_EQ(held_["b"].key, first.key);
  EXPECT_GT(held_["b"].token, first.token);
  const WorkOutcome late{first.key, first.token, measured(first.payload["plan"], first.token), std::nullopt, false};
  EXPECT_EQ(core_->outcome("a", late).error().code, ErrorCode::kAborted);
  work_until_done("b");
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(store_->trial(id, 0)->attempts, 2);
}

TEST_F(CoreTest, AMalformedResultIsAFailedAttempt) {
  const std::string id = submit(simulation::study_document(3, false));
  join("a");
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const Work held = held_["a"];
    ASSERT_EQ(held.key.kind, WorkKind::kInspect);
    const WorkOutcome malformed{held.key, held.token, {{"layers", 7}}, std::nullopt, false};
    EXPECT_TRUE(core_->outcome("a", malformed).has_value());
    held_.erase("a");
    perform();
  }
  EXPECT_EQ(state(id), StudyState::kFailed);
  EXPECT_THAT(store_->study(id)->reason, testing::HasSubstr("malformed"));
  EXPECT_EQ((**store_->document(id, "failure"))["code"], "internal");
}

TEST_F(CoreTest, ASpaceThatDoesNotFitTheModelFailsTheStudyWithItsReason) {
  Json document = simulation::study_document(3, false);
  document["space"]["layers"] = {{{"match", "fc9"}, {"weight_bits", {8, 32}}}};
  const std::string id = submit(document);
  join("a");
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kFailed);
  EXPECT_THAT(store_->study(id)->reason, testing::HasSubstr("fc9"));
  EXPECT_EQ((**store_->document(id, "failure"))["code"], "invalid_argument");
}

TEST_F(CoreTest, ObjectivesThatCannotBeMeasuredFailTheStudyAtItsBaseline) {
  Json document = simulation::study_document(3, false);
  document["objectives"] = {{{"metric", "accuracy"}}, {{"metric", "energy_uj"}}};
  const std::string id = submit(document);
  join("a");
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kFailed);
  EXPECT_THAT(store_->study(id)->reason, testing::HasSubstr("energy_uj"));
}

TEST_F(CoreTest, ASmallSpaceEndsTheStudyWhenItIsExhausted) {
  Json document = simulation::study_document(1000, false);
  document["space"] = {{"default", {{"weight_bits", {8, 32}}, {"activation_bits", {8, 32}}}},
                       {"ties", {{"fc1", "fc2", "fc3"}}},
                       {"global", {{"range", {"minmax", "mse"}}}}};
  const std::string id = submit(document);
  join("a");
  work_until_done("a");
  EXPECT_EQ(state(id), StudyState::kComplete);
  EXPECT_EQ(store_->study(id)->reason, "space exhausted");
  std::set<std::string> plans;
  const std::vector<Trial> trials = *store_->trials(id, 0, 1000);
  for (const Trial& trial : trials) EXPECT_TRUE(plans.insert(canonical_text(trial.candidate)).second);
  EXPECT_GE(plans.size(), 3U);
}

TEST_F(CoreTest, ExportsAreMadeOnceAlsoOfCompleteStudies) {
  const std::string id = submit(simulation::study_document(2, false));
  join("a");
  work_until_done("a");
  ASSERT_EQ(state(id), StudyState::kComplete);
  int answers = 0;
  const auto answer = [&](const Result<std::string>& file) {
    EXPECT_EQ(*file, simulation::file_id('9'));
    ++answers;
  };
  core_->export_trial(id, 1, answer);
  core_->export_trial(id, 1, answer);
  perform();
  ASSERT_TRUE(held_.contains("a"));
  EXPECT_EQ(held_["a"].key.kind, WorkKind::kExport);
  // The file will say what it was made from, and how it did where.
  const Json& metadata = held_["a"].payload.at("metadata");
  EXPECT_EQ(metadata.at("kerf.study"), id);
  EXPECT_EQ(metadata.at("kerf.trial"), "1");
  EXPECT_EQ(metadata.at("kerf.source"), held_["a"].payload.at("model"));
  const Trial trial = *store_->trial(id, 1);
  EXPECT_EQ(metadata.at("kerf.plan"), canonical_text(trial.candidate));
  const Json measured = *parse_json(metadata.at("kerf.measured").get<std::string>());
  EXPECT_EQ(measured.at("accuracy"), trial.measurement.at("accuracy"));
  EXPECT_EQ(*parse_json(metadata.at("kerf.hardware").get<std::string>()), trial.measurement.at("hardware"));
  ASSERT_TRUE(work("a").has_value());
  EXPECT_EQ(answers, 2);
  core_->export_trial(id, 1, answer);
  EXPECT_EQ(answers, 3) << "the file is there";
  std::optional<Error> refused;
  core_->export_trial(id, 99, [&](const Result<std::string>& file) { refused = file.error(); });
  EXPECT_EQ(refused->code, ErrorCode::kNotFound);
}

TEST_F(CoreTest, AnUnknownSamplerOrZoneIsRefusedAtSubmission) {
  Json document = simulation::study_document(3, false);
  document["search"]["sampler"] = "magic";
  EXPECT_EQ(core_->submit(document, "").error().code, ErrorCode::kInvalidArgument);
  document = simulation::study_document(3, false);
  document["window"] = {{"start", "22:00"}, {"stop", "06:00"}, {"timezone", "Mars/Olympus"}};
  EXPECT_THAT(core_->submit(document, "").error().message, testing::HasSubstr("Mars/Olympus"));
}

TEST_F(CoreTest, WithoutLabelsTheDefaultObjectivesFollowTheData) {
  const std::string id = submit(simulation::study_document(2, false));
  join("a");
  (void)work("a");
  const Work baseline = held_["a"];
  Json result = measured(Json::object(), baseline.token);
  result.erase("accuracy");
  result.erase("accuracy_drop");
  const WorkOutcome outcome{baseline.key, baseline.token, result, std::nullopt, false};
  ASSERT_TRUE(core_->outcome("a", outcome).has_value());
  EXPECT_EQ(state(id), StudyState::kRunning);
  EXPECT_EQ((**store_->document(id, "objectives"))[0]["metric"], "agreement");
}

}  // namespace
}  // namespace kerf::scheduler
