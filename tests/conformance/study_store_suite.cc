#include "study_store_suite.h"

#include <set>
#include <string>
#include <vector>

namespace kerf::storage {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StudyStoreSuite);

WorkOutcome success(const LeaseGrant& grant, Json result) {
  return {grant.key, grant.token, std::move(result), {}, false};
}

WorkOutcome failure(const LeaseGrant& grant, Error error) {
  return {grant.key, grant.token, {}, std::move(error), false};
}

namespace {

const Error kLapsed{ErrorCode::kDeadlineExceeded, "no heartbeat for 30 s"};

// Studies.

TEST_P(StudyStoreSuite, CreatedStudyRunsAndIsFound) {
  clock_.advance(std::chrono::milliseconds(1234));
  const Json definition = {{"name", "ä\"<b>'); DROP TABLE studies; --"}, {"model", "sha256:00"}};
  const auto made = store_->create_study(definition, "id-1", "");
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->state, StudyState::kRunning);
  EXPECT_EQ(made->definition, definition);
  EXPECT_EQ(made->identity, "id-1");
  EXPECT_EQ(made->created_at, "2019-12-20T00:00:01.234Z");
  EXPECT_EQ(made->finished_at, "");
  const auto found = store_->study(made->id);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->definition, definition);
  EXPECT_EQ(store_->study("st_nothing").error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, IdsAreUniqueUrlSafeAndInOrderEvenWhenTheClockIsSetBack) {
  std::vector<std::string> ids;
  for (int n = 0; n < 50; ++n) {
    ids.push_back(new_study());
    clock_.advance(std::chrono::milliseconds(1));
    if (n == 20) clock_.jump_wall(-std::chrono::hours(24 * 3650));
    if (n == 30) reopen();
  }
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), ids.size());
  for (const std::string& id : ids) {
    EXPECT_EQ(id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos);
  }
  std::vector<std::string> listed;
  for (const StudyRecord& study : store_->studies("", 100).value()) listed.push_back(study.id);
  EXPECT_EQ(listed, ids);
  // What lies a millisecond apart sorts by its id as well.
  EXPECT_LT(ids[0], ids[1]);
}

TEST_P(StudyStoreSuite, SameIdempotencyKeyAndBodyGiveTheSameStudy) {
  const Json definition = {{"name", "a"}};
  const std::string first = store_->create_study(definition, "i", "key").value().id;
  EXPECT_EQ(store_->create_study(definition, "i", "key").value().id, first);
  reopen();
  EXPECT_EQ(store_->create_study(definition, "i", "key").value().id, first);
  EXPECT_NE(store_->create_study(definition, "i", "other key").value().id, first);
  EXPECT_NE(store_->create_study(definition, "i", "").value().id, first);
  EXPECT_EQ(store_->studies("", 100).value().size(), 3U);
}

TEST_P(StudyStoreSuite, SameIdempotencyKeyWithAnotherBodyIsRefused) {
  ASSERT_TRUE(store_->create_study({{"name", "a"}}, "i", "key").has_value());
  const auto other = store_->create_study({{"name", "b"}}, "i", "key");
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(store_->studies("", 100).value().size(), 1U);
}

TEST_P(StudyStoreSuite, NewestStudyOfAnIdentityIsFound) {
  EXPECT_FALSE(store_->find_by_identity("i").value().has_value());
  (void)store_->create_study({{"name", "a"}}, "i", "").value();
  const std::string newer = store_->create_study({{"name", "b"}}, "i", "").value().id;
  (void)store_->create_study({{"name", "c"}}, "j", "").value();
  EXPECT_EQ(store_->find_by_identity("i").value()->id, newer);
}

TEST_P(StudyStoreSuite, ListsGoOnFromACursor) {
  std::vector<std::string> ids;
  for (int n = 0; n < 7; ++n) ids.push_back(new_study());
  std::vector<std::string> listed;
  std::string cursor;
  while (true) {
    const auto page = store_->studies(cursor, 3).value();
    if (page.empty()) break;
    EXPECT_LE(page.size(), 3U);
    for (const StudyRecord& study : page) listed.push_back(study.id);
    cursor = page.back().id;
  }
  EXPECT_EQ(listed, ids);
  EXPECT_EQ(store_->studies("st_nothing", 3).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(store_->studies("", 0).value().empty());
  EXPECT_TRUE(store_->studies("", -5).value().empty());
}

TEST_P(StudyStoreSuite, StateChangesOnlyFromTheStateThatIsExpected) {
  const std::string id = new_study();
  ASSERT_TRUE(
      store_->set_study_state(id, StudyState::kRunning, StudyState::kPaused, "").has_value());
  const auto lost = store_->set_study_state(id, StudyState::kRunning, StudyState::kComplete, "x");
  ASSERT_FALSE(lost.has_value());
  EXPECT_EQ(lost.error().code, ErrorCode::kAborted);
  EXPECT_EQ(store_->study(id).value().state, StudyState::kPaused);
  EXPECT_EQ(store_->set_study_state("st_x", StudyState::kRunning, StudyState::kPaused, "")
                .error().code,
            ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, EndIsStampedAndLeavingItClearsTheStamp) {
  const std::string id = new_study();
  ASSERT_TRUE(store_->set_study_state(id, StudyState::kRunning, StudyState::kComplete,
                                      "budget.trials").has_value());
  EXPECT_EQ(store_->study(id).value().finished_at, "2019-12-20T00:00:00.000Z");
  EXPECT_EQ(store_->study(id).value().reason, "budget.trials");
  ASSERT_TRUE(store_->set_study_state(id, StudyState::kComplete, StudyState::kRunning, "")
                  .has_value());
  EXPECT_EQ(store_->study(id).value().finished_at, "");
  EXPECT_EQ(store_->study(id).value().reason, "");
}

TEST_P(StudyStoreSuite, ActiveSecondsAddUpOverRestarts) {
  const std::string id = new_study();
  ASSERT_TRUE(store_->add_active_seconds(id, 1.5).has_value());
  reopen();
  ASSERT_TRUE(store_->add_active_seconds(id, 2.25).has_value());
  EXPECT_DOUBLE_EQ(store_->study(id).value().active_seconds, 3.75);
  EXPECT_EQ(store_->add_active_seconds(id, -1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->add_active_seconds("st_x", 1).error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, BudgetIsReplacedAndNothingElse) {
  const std::string id = store_->create_study({{"name", "a"}, {"budget", {{"trials", 5}}}}, "i", "")
                             .value().id;
  ASSERT_TRUE(store_->set_budget(id, {{"trials", 50}}).has_value());
  const Json expected = {{"name", "a"}, {"budget", {{"trials", 50}}}};
  EXPECT_EQ(store_->study(id).value().definition, expected);
  EXPECT_EQ(store_->study(id).value().identity, "i");
  EXPECT_EQ(store_->set_budget("st_x", {}).error().code, ErrorCode::kNotFound);
}

// Work in line.

TEST_P(StudyStoreSuite, TrialsAreNumberedFromZeroWithoutAGap) {
  const std::string a = new_study("a");
  const std::string b = new_study("b");
  EXPECT_EQ(store_->enqueue(a, {trial_work(0), trial_work(1)}).value(),
            (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(store_->enqueue(b, {trial_work(0)}).value(), (std::vector<std::int64_t>{0}));
  reopen();
  EXPECT_EQ(store_->enqueue(a, {trial_work(2)}).value(), (std::vector<std::int64_t>{2}));
}

TEST_P(StudyStoreSuite, TrialWithAKnownFingerprintIsLeftOut) {
  const std::string study = new_study();
  EXPECT_EQ(store_->enqueue(study, {trial_work(7), trial_work(7), trial_work(8)}).value(),
            (std::vector<std::int64_t>{0, -1, 1}));
  EXPECT_EQ(store_->enqueue(study, {trial_work(8), trial_work(9)}).value(),
            (std::vector<std::int64_t>{-1, 2}));
  EXPECT_EQ(store_->trials(study, 0, 100).value().size(), 3U);
}

TEST_P(StudyStoreSuite, OtherWorkIsOncePerKindAndNumber) {
  const std::string study = new_study();
  NewWork verify;
  verify.kind = WorkKind::kVerify;
  verify.number = 4;
  NewWork exported = verify;
  exported.kind = WorkKind::kExport;
  EXPECT_EQ(store_->enqueue(study, {verify, exported, verify}).value(),
            (std::vector<std::int64_t>{4, 4, -1}));
}

TEST_P(StudyStoreSuite, NothingIsPutInLineForAStudyThatIsNotThere) {
  EXPECT_EQ(store_->enqueue("st_x", {trial_work(1)}).error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, WaitingWorkComesByKindThenNumber) {
  const std::string study = new_study();
  std::vector<NewWork> work;
  for (const WorkKind kind : {WorkKind::kExport, WorkKind::kVerify, WorkKind::kInspect}) {
    NewWork item;
    item.kind = kind;
    work.push_back(item);
  }
  for (int n = 0; n < 3; ++n) work.push_back(trial_work(n));
  ASSERT_TRUE(store_->enqueue(study, work).has_value());
  const std::vector<WorkKey> expected = {
      {study, WorkKind::kInspect, 0}, {study, WorkKind::kTrial, 0}, {study, WorkKind::kTrial, 1},
      {study, WorkKind::kTrial, 2},   {study, WorkKind::kVerify, 0}, {study, WorkKind::kExport, 0}};
  EXPECT_EQ(store_->waiting(study, 100).value(), expected);
  EXPECT_EQ(store_->waiting(study, 2).value().size(), 2U);
  (void)leased(expected[1]);
  EXPECT_EQ(store_->waiting(study, 100).value().size(), 5U);
}

TEST_P(StudyStoreSuite, StudyThatIsNotRunningOffersOnlyExports) {
  const std::string study = new_study();
  NewWork exported;
  exported.kind = WorkKind::kExport;
  exported.number = 1;
  ASSERT_TRUE(store_->enqueue(study, {trial_work(0), exported}).has_value());
  ASSERT_TRUE(
      store_->set_study_state(study, StudyState::kRunning, StudyState::kPaused, "").has_value());
  EXPECT_EQ(store_->waiting(study, 100).value(),
            (std::vector<WorkKey>{{study, WorkKind::kExport, 1}}));
  EXPECT_EQ(store_->waiting("st_x", 1).error().code, ErrorCode::kNotFound);
}

// Leases.

TEST_P(StudyStoreSuite, LeaseSaysCandidateAttemptAndAGreaterToken) {
  const std::string study = new_study();
  const WorkKey a = new_trial(study, 1);
  const WorkKey b = new_trial(study, 2);
  const LeaseGrant first = leased(a);
  EXPECT_EQ(first.key, a);
  EXPECT_EQ(first.attempt, 1);
  EXPECT_EQ(first.candidate, trial_work(1).candidate);
  const LeaseGrant second = leased(b);
  EXPECT_GT(second.token, first.token);
  ASSERT_TRUE(store_->release(a, first.token, kLapsed, 3).has_value());
  reopen();
  const LeaseGrant third = leased(a);
  EXPECT_GT(third.token, second.token);
  EXPECT_EQ(third.attempt, 2);
}

TEST_P(StudyStoreSuite, OnlyWaitingWorkIsLeased) {
  const std::string study = new_study();
  const WorkKey key = new_trial(study, 1);
  const LeaseGrant grant = leased(key);
  EXPECT_EQ(store_->lease(key, "w2").error().code, ErrorCode::kAborted);
  ASSERT_TRUE(store_->finish(success(grant, {{"accuracy", 1}})).has_value());
  EXPECT_EQ(store_->lease(key, "w2").error().code, ErrorCode::kAborted);
  EXPECT_EQ(store_->lease({study, WorkKind::kTrial, 99}, "w2").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->lease({study, WorkKind::kExport, 0}, "w2").error().code, ErrorCode::kNotFound);
}

// Ends.

TEST_P(StudyStoreSuite, ResultCompletesATrial) {
  const std::string study = new_study();
  const WorkKey key = new_trial(study, 1);
  clock_.advance(std::chrono::seconds(5));
  const LeaseGrant grant = leased(key);
  clock_.advance(std::chrono::seconds(5));
  const Json result = {{"accuracy", 0.975}, {"latency_p50_us", 123.456789012345}};
  ASSERT_TRUE(store_->finish(success(grant, result)).has_value());
  reopen();
  const Trial trial = store_->trial(study, 0).value();
  EXPECT_EQ(trial.state, TrialState::kComplete);
  EXPECT_EQ(trial.measurement, result);
  EXPECT_EQ(trial.candidate, trial_work(1).candidate);
  EXPECT_EQ(trial.choices, trial_work(1).choices);
  EXPECT_EQ(trial.attempts, 1);
  EXPECT_FALSE(trial.error.has_value());
  EXPECT_EQ(trial.started_at, "2019-12-20T00:00:05.000Z");
  EXPECT_EQ(trial.finished_at, "2019-12-20T00:00:10.000Z");
}

TEST_P(StudyStoreSuite, ErrorFailsATrialAndPrunedResultPrunesIt) {
  const std::string study = new_study();
  const LeaseGrant failed = leased(new_trial(study, 1));
  const Error error{ErrorCode::kInvalidArgument, "layer \"conv9\": no such layer"};
  ASSERT_TRUE(store_->finish(failure(failed, error)).has_value());
  EXPECT_EQ(store_->trial(study, 0).value().state, TrialState::kFailed);
  EXPECT_EQ(store_->trial(study, 0).value().error, error);
  EXPECT_TRUE(store_->trial(study, 0).value().measurement.is_null());
  const LeaseGrant pruned = leased(new_trial(study, 2));
  ASSERT_TRUE(store_->finish(success(pruned, {{"pruned", true}, {"accuracy", 0.1}})).has_value());
  EXPECT_EQ(store_->trial(study, 1).value().state, TrialState::kPruned);
}

TEST_P(StudyStoreSuite, SameOutcomeAgainIsAcknowledgedAgain) {
  const std::string study = new_study();
  const LeaseGrant grant = leased(new_trial(study, 1));
  const WorkOutcome outcome = success(grant, {{"accuracy", 0.5}});
  ASSERT_TRUE(store_->finish(outcome).has_value());
  const auto events = store_->events(study, 0, 100).value().size();
  for (int n = 0; n < 10; ++n) EXPECT_TRUE(store_->finish(outcome).has_value());
  reopen();
  EXPECT_TRUE(store_->finish(outcome).has_value());
  EXPECT_EQ(store_->events(study, 0, 100).value().size(), events);
}

TEST_P(StudyStoreSuite, OtherOutcomeOfTheSameLeaseChangesNothing) {
  const std::string study = new_study();
  const LeaseGrant grant = leased(new_trial(study, 1));
  ASSERT_TRUE(store_->finish(success(grant, {{"accuracy", 0.5}})).has_value());
  EXPECT_EQ(store_->finish(success(grant, {{"accuracy", 0.9}})).error().code, ErrorCode::kAborted);
  EXPECT_EQ(store_->finish(failure(grant, kLapsed)).error().code, ErrorCode::kAborted);
  const Json expected = {{"accuracy", 0.5}};
  EXPECT_EQ(store_->trial(study, 0).value().measurement, expected);
}

TEST_P(StudyStoreSuite, ResultOfALapsedLeaseIsRefused) {
  const std::string study = new_study();
  const WorkKey key = new_trial(study, 1);
  const LeaseGrant old = leased(key);
  ASSERT_TRUE(store_->release(key, old.token, kLapsed, 3).has_value());
  // Waiting again, with the same token still noted.
  EXPECT_EQ(store_->finish(success(old, {{"accuracy", 0.1}})).error().code, ErrorCode::kAborted);
  EXPECT_EQ(store_->trial(study, 0).value().state, TrialState::kWaiting);
  const LeaseGrant current = leased(key);
  EXPECT_EQ(store_->finish(success(old, {{"accuracy", 0.2}})).error().code, ErrorCode::kAborted);
  EXPECT_EQ(store_->trial(study, 0).value().state, TrialState::kRunning);
  ASSERT_TRUE(store_->finish(success(current, {{"accuracy", 0.3}})).has_value());
  EXPECT_EQ(store_->finish(success(old, {{"accuracy", 0.3}})).error().code, ErrorCode::kAborted);
  const Json expected = {{"accuracy", 0.3}};
  EXPECT_EQ(store_->trial(study, 0).value().measurement, expected);
  EXPECT_EQ(store_->release(key, old.token, kLapsed, 3).error().code, ErrorCode::kAborted);
}

TEST_P(StudyStoreSuite, AThousandStaleResultsChangeNothing) {
  const std::string study = new_study();
  const WorkKey key = new_trial(study, 1);
  const LeaseGrant old = leased(key);
  ASSERT_TRUE(store_->release(key, old.token, kLapsed, 3).has_value());
  const LeaseGrant current = leased(key);
  for (int n = 0; n < 1000; ++n) {
    WorkOutcome outcome = success(old, {{"accuracy", n}});
    outcome.token = n % 2 == 0 ? old.token : current.token + n;
    ASSERT_EQ(store_->finish(outcome).error().code, ErrorCode::kAborted);
  }
  EXPECT_EQ(store_->trial(study, 0).value().state, TrialState::kRunning);
  EXPECT_TRUE(store_->finish(success(current, {{"accuracy", 1}})).has_value());
}

TEST_P(StudyStoreSuite, OutcomeOfUnknownWorkIsNotFound) {
  const std::string study = new_study();
  EXPECT_EQ(store_->finish({{study, WorkKind::kTrial, 3}, 1, {}, {}, false}).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(store_->release({study, WorkKind::kTrial, 3}, 1, kLapsed, 3).error().code,
            ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, WorkThatLapsesWaitsAgainAndFailsAfterItsLastAttempt) {
  const std::string study = new_study();
  const WorkKey key = new_trial(study, 1);
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const LeaseGrant grant = leased(key);
    EXPECT_EQ(grant.attempt, attempt);
    EXPECT_EQ(store_->release(key, grant.token, kLapsed, 3).value(),
              attempt < 3 ? TrialState::kWaiting : TrialState::kFailed);
  }
  const Trial trial = store_->trial(study, 0).value();
  EXPECT_EQ(trial.state, TrialState::kFailed);
  EXPECT_EQ(trial.error, kLapsed);
  EXPECT_EQ(trial.attempts, 3);
  EXPECT_NE(trial.finished_at, "");
}

TEST_P(StudyStoreSuite, RestartPutsRunningWorkBackInLine) {
  const std::string study = new_study();
  const LeaseGrant once = leased(new_trial(study, 1));
  const WorkKey often = new_trial(study, 2);
  for (int n = 0; n < 2; ++n) {
    ASSERT_TRUE(store_->release(often, leased(often).token, kLapsed, 3).has_value());
  }
  (void)leased(often);
  const LeaseGrant done = leased(new_trial(study, 3));
  ASSERT_TRUE(store_->finish(success(done, {{"accuracy", 1}})).has_value());
  reopen();
  EXPECT_EQ(store_->requeue_running(3).value(), 2);
  EXPECT_EQ(store_->trial(study, 0).value().state, TrialState::kWaiting);
  EXPECT_EQ(store_->trial(study, 1).value().state, TrialState::kFailed);
  EXPECT_EQ(store_->trial(study, 2).value().state, TrialState::kComplete);
  EXPECT_EQ(store_->finish(success(once, {{"accuracy", 1}})).error().code, ErrorCode::kAborted);
  EXPECT_EQ(store_->requeue_running(3).value(), 0);
}

// Reading.

TEST_P(StudyStoreSuite, VerificationShowsInTheTrial) {
  const std::string study = new_study();
  const LeaseGrant grant = leased(new_trial(study, 1));
  ASSERT_TRUE(store_->finish(success(grant, {{"accuracy", 0.5}})).has_value());
  EXPECT_TRUE(store_->trial(study, 0).value().verification.is_null());
  NewWork verify;
  verify.kind = WorkKind::kVerify;
  ASSERT_TRUE(store_->enqueue(study, {verify}).has_value());
  const LeaseGrant verified = leased({study, WorkKind::kVerify, 0});
  EXPECT_TRUE(store_->trial(study, 0).value().verification.is_null());
  const Json result = {{"accuracy", 0.49}};
  ASSERT_TRUE(store_->finish(success(verified, result)).has_value());
  EXPECT_EQ(store_->trial(study, 0).value().verification, result);
  EXPECT_EQ(store_->trials(study, 0, 10).value().at(0).verification, result);
}

TEST_P(StudyStoreSuite, TrialsAreReadInPieces) {
  const std::string study = new_study();
  for (int n = 0; n < 7; ++n) (void)new_trial(study, n);
  std::vector<std::int64_t> numbers;
  for (std::int64_t first = 0;;) {
    const auto page = store_->trials(study, first, 3).value();
    if (page.empty()) break;
    for (const Trial& trial : page) numbers.push_back(trial.number);
    first = page.back().number + 1;
  }
  EXPECT_EQ(numbers, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(store_->trial(study, 7).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->trial("st_x", 0).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->trials("st_x", 0, 3).error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, OtherWorkIsReadWithItsResult) {
  const std::string study = new_study();
  NewWork exported;
  exported.kind = WorkKind::kExport;
  exported.number = 2;
  exported.candidate = {{"layers", Json::object()}};
  ASSERT_TRUE(store_->enqueue(study, {exported}).has_value());
  const WorkKey key{study, WorkKind::kExport, 2};
  EXPECT_EQ(store_->work(key).value().state, TrialState::kWaiting);
  const Json result = {{"file", "sha256:12"}, {"bytes", 99}};
  ASSERT_TRUE(store_->finish(success(leased(key), result)).has_value());
  const WorkRecord work = store_->work(key).value();
  EXPECT_EQ(work.key, key);
  EXPECT_EQ(work.state, TrialState::kComplete);
  EXPECT_EQ(work.candidate, exported.candidate);
  EXPECT_EQ(work.result, result);
  EXPECT_EQ(work.attempts, 1);
  EXPECT_EQ(store_->work({study, WorkKind::kExport, 3}).error().code, ErrorCode::kNotFound);
}

// Log, documents, uploads.

TEST_P(StudyStoreSuite, EachChangeOfStateIsAnEvent) {
  const std::string study = new_study();
  const WorkKey key = new_trial(study, 1);
  ASSERT_TRUE(store_->release(key, leased(key).token, kLapsed, 3).has_value());
  ASSERT_TRUE(store_->finish(success(leased(key), {{"accuracy", 1}})).has_value());
  ASSERT_TRUE(store_->set_study_state(study, StudyState::kRunning, StudyState::kComplete, "done")
                  .has_value());
  std::vector<std::string> seen;
  std::int64_t last = 0;
  for (const Event& event : store_->events(study, 0, 100).value()) {
    EXPECT_GT(event.id, last);
    EXPECT_EQ(event.at, "2019-12-20T00:00:00.000Z");
    last = event.id;
    seen.push_back(event.type + " " + event.data.at("state").get<std::string>());
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"state running", "trial waiting", "trial running",
                                            "trial waiting", "trial running", "trial complete",
                                            "state complete"}));
}

TEST_P(StudyStoreSuite, LogGrowsAndIsReadFromAnyPoint) {
  const std::string a = new_study("a");
  const std::string b = new_study("b");
  const std::int64_t first = store_->log(a, "log", {{"text", "<script>"}}).value();
  const std::int64_t second = store_->log(b, "log", {{"text", "b"}}).value();
  reopen();
  const std::int64_t third = store_->log(a, "front", {{"size", 3}}).value();
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  const auto after = store_->events(a, first, 10).value();
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after[0].id, third);
  EXPECT_EQ(after[0].type, "front");
  EXPECT_EQ(store_->events(a, 0, 1).value().size(), 1U);
  EXPECT_EQ(store_->log("st_x", "log", {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->events("st_x", 0, 1).error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, DocumentsAreReplacedByName) {
  const std::string study = new_study();
  EXPECT_FALSE(store_->document(study, "front").value().has_value());
  ASSERT_TRUE(store_->put_document(study, "front", {{"v", 1}}).has_value());
  ASSERT_TRUE(store_->put_document(study, "front", {{"v", 2}}).has_value());
  reopen();
  const Json expected = {{"v", 2}};
  EXPECT_EQ(store_->document(study, "front").value(), expected);
  EXPECT_FALSE(store_->document(study, "model").value().has_value());
  EXPECT_EQ(store_->put_document("st_x", "front", {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->document("st_x", "front").error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, LooksAreSharedByAllStudiesAndReplacedByKey) {
  EXPECT_TRUE(store_->looks({"a"}).value().empty());
  ASSERT_TRUE(store_->keep_looks({{"a", {{"kl", 0.1}}}, {"b", {{"kl", 0.2}}}}).has_value());
  ASSERT_TRUE(store_->keep_looks({{"a", {{"kl", 0.3}}}}).has_value());
  ASSERT_TRUE(store_->keep_looks({}).has_value());
  reopen();
  const std::map<std::string, Json> expected = {{"a", {{"kl", 0.3}}}, {"b", {{"kl", 0.2}}}};
  EXPECT_EQ(store_->looks({"b", "a", "c", "a"}).value(), expected);
}

TEST_P(StudyStoreSuite, ProfilingIsWorkLikeOther) {
  const std::string study = new_study();
  NewWork part;
  part.kind = WorkKind::kProfile;
  part.number = 2;
  part.candidate = {{"damage", Json::array({Json::object()})}};
  ASSERT_EQ(store_->enqueue(study, {trial_work(1), part, part}).value(),
            (std::vector<std::int64_t>{0, 2, -1}));
  const WorkKey key{study, WorkKind::kProfile, 2};
  EXPECT_EQ(store_->waiting(study, 10).value().back(), key);
  const LeaseGrant grant = store_->lease(key, "worker").value();
  EXPECT_EQ(grant.candidate, part.candidate);
  reopen();
  ASSERT_EQ(store_->requeue_running(3).value(), 1);
  const LeaseGrant again = store_->lease(key, "worker").value();
  EXPECT_GT(again.token, grant.token);
  EXPECT_EQ(store_->finish(success(grant, {{"seconds", 1}})).error().code, ErrorCode::kAborted);
  ASSERT_TRUE(store_->finish(success(again, {{"seconds", 2}})).has_value());
  const WorkRecord record = store_->work(key).value();
  EXPECT_EQ(record.state, TrialState::kComplete);
  EXPECT_EQ(record.result.at("seconds"), 2);
  EXPECT_EQ(record.attempts, 2);
}

TEST_P(StudyStoreSuite, UploadsAreListedByKindOnce) {
  const std::string a = "sha256:" + std::string(64, 'a');
  const std::string b = "sha256:" + std::string(64, 'b');
  ASSERT_TRUE(store_->record_upload({a, "model", "first.onnx", 10, ""}).has_value());
  ASSERT_TRUE(store_->record_upload({a, "model", "again.onnx", 10, ""}).has_value());
  ASSERT_TRUE(store_->record_upload({a, "dataset", "", 10, ""}).has_value());
  ASSERT_TRUE(store_->record_upload({b, "model", "b.onnx", 20, ""}).has_value());
  const auto models = store_->uploads("model", "", 10).value();
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].name, "first.onnx");
  EXPECT_EQ(models[1].id, b);
  EXPECT_EQ(store_->uploads("model", a, 10).value().size(), 1U);
  EXPECT_EQ(store_->uploads("dataset", "", 10).value().size(), 1U);
  EXPECT_EQ(store_->uploads("model", "sha256:x", 10).error().code, ErrorCode::kNotFound);
}

TEST_P(StudyStoreSuite, EverythingIsThereAgainAfterARestart) {
  fill(*store_, 20);
  const Json before = dump(*store_);
  reopen();
  EXPECT_EQ(dump(*store_), before);
}

TEST_P(StudyStoreSuite, BackupHoldsEverythingAndNeverOverwrites) {
  fill(*store_, 20);
  const std::string path = folder_.file("backup.db");
  ASSERT_TRUE(store_->backup_to(path).has_value());
  EXPECT_EQ(store_->backup_to(path).error().code, ErrorCode::kAlreadyExists);
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_P(StudyStoreSuite, TextsOfAllKindsComeBackAsTheyWere) {
  const std::string nasty("a\0b\n\"'`;--<img src=x onerror=alert(1)>\xF0\x9F\x98\x80", 43);
  const auto made = store_->create_study({{"name", nasty}, {nasty, 1}}, nasty, nasty);
  ASSERT_TRUE(made.has_value());
  ASSERT_TRUE(store_->put_document(made->id, nasty, {{"t", nasty}}).has_value());
  NewWork work = trial_work(1);
  work.fingerprint = nasty;
  ASSERT_TRUE(store_->enqueue(made->id, {work}).has_value());
  const LeaseGrant grant = store_->lease({made->id, WorkKind::kTrial, 0}, nasty).value();
  ASSERT_TRUE(store_->finish(failure(grant, {ErrorCode::kInternal, nasty})).has_value());
  reopen();
  EXPECT_EQ(store_->study(made->id).value().definition.at("name"), nasty);
  EXPECT_EQ(store_->find_by_identity(nasty).value()->id, made->id);
  EXPECT_EQ(store_->document(made->id, nasty).value()->at("t"), nasty);
  EXPECT_EQ(store_->trial(made->id, 0).value().error->message, nasty);
}

}  // namespace
}  // namespace kerf::storage
