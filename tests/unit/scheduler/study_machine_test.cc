#include "scheduler/study_machine.h"

#include <gtest/gtest.h>

namespace kerf::scheduler {
namespace {

using Kind = Step::Kind;

class StudyMachineTest : public testing::Test {
 protected:
  // To the point where the sampler was made.
  static void bring_to_search(StudyMachine& machine) {
    machine.inspect_queued();
    machine.inspect_finished(std::nullopt);
    machine.trial_queued(0);
    machine.trial_leased(0);
    machine.trial_finished(0, TrialState::kRunning, TrialState::kComplete, std::nullopt);
    machine.hypervolume_is(0);
    ASSERT_EQ(machine.next({1, true}).kind, Kind::kPrepare);
    machine.prepared(std::nullopt);
  }
  static void run_trial(StudyMachine& machine, std::int64_t number,
                        TrialState state = TrialState::kComplete) {
    machine.trial_leased(number);
    std::optional<Error> error;
    if (state == TrialState::kFailed) error = invalid_argument("no");
    machine.trial_finished(number, TrialState::kRunning, state, error);
  }
  static void answer(StudyMachine& machine, std::int64_t first, std::int64_t count,
                     bool exhausted = false) {
    for (std::int64_t i = 0; i < count; ++i) machine.trial_queued(first + i);
    machine.asked(exhausted, std::nullopt);
  }
};

TEST_F(StudyMachineTest, InspectsThenMeasuresTheBaselineThenSearches) {
  StudyMachine machine({10, 0, 0}, false);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kInspect);
  machine.inspect_queued();
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  machine.inspect_finished(std::nullopt);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kBaseline);
  machine.trial_queued(0);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  run_trial(machine, 0);
  EXPECT_EQ(machine.phase(), Phase::kSearch);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kPrepare);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  machine.prepared(std::nullopt);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kAsk);
}

TEST_F(StudyMachineTest, LooksAtTheSpaceBeforeTheSearchAndPaysForItInTrials) {
  StudyMachine machine({12, 0, 0}, false);
  machine.want_profile(true);
  machine.inspect_queued();
  machine.inspect_finished(std::nullopt);
  machine.trial_queued(0);
  run_trial(machine, 0);
  EXPECT_EQ(machine.phase(), Phase::kProfile);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kProfile);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kProfile) << "until it was done";
  machine.profile_waits(true);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  machine.profile_waits(false);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kProfile) << "the parts are there: make it";
  machine.profile_finished(4);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kPrepare);
  machine.prepared(std::nullopt);
  const Step step = machine.next({30, true});
  ASSERT_EQ(step.kind, Kind::kAsk);
  EXPECT_EQ(step.count, 7) << "12 trials, of which the baseline is one and the profile four";
  answer(machine, 1, 7);
  for (int number = 1; number <= 7; ++number) run_trial(machine, number);
  const Step end = machine.next({1, true});
  EXPECT_EQ(end.kind, Kind::kComplete);
  EXPECT_EQ(end.reason, "budget.trials");
}

TEST_F(StudyMachineTest, AShortStudyTakesNoProfile) {
  StudyMachine machine({StudyMachine::kFewestToProfile - 1, 0, 0}, false);
  machine.want_profile(true);
  machine.inspect_queued();
  machine.inspect_finished(std::nullopt);
  machine.trial_queued(0);
  run_trial(machine, 0);
  EXPECT_EQ(machine.phase(), Phase::kSearch);
}

TEST_F(StudyMachineTest, AProfileThatWasTakenBeforeARestartIsNotTakenAgain) {
  StudyMachine machine({12, 0, 0}, false);
  machine.want_profile(true);
  machine.profile_finished(3);
  machine.inspect_queued();
  machine.inspect_finished(std::nullopt);
  machine.trial_queued(0);
  run_trial(machine, 0);
  EXPECT_EQ(machine.phase(), Phase::kSearch);
  EXPECT_EQ(machine.charged(), 3);
}

TEST_F(StudyMachineTest, WhereTheTimeIsSpentLooksAreNotWaitedFor) {
  StudyMachine machine({12, 10, 0}, false);
  machine.want_profile(true);
  machine.inspect_queued();
  machine.inspect_finished(std::nullopt);
  machine.trial_queued(0);
  run_trial(machine, 0);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kProfile);
  machine.profile_waits(true);
  machine.add_active(11);
  const Step end = machine.next({1, true});
  EXPECT_EQ(end.kind, Kind::kComplete);
  EXPECT_EQ(end.reason, "budget.seconds");
}

TEST_F(StudyMachineTest, ASamplerThatExpectsTooLittleEndsAStudyThatAskedForIt) {
  for (const double gain : {0.0, 0.001}) {
    Budget budget{100, 0, 0};
    budget.gain = gain;
    StudyMachine machine(budget, false);
    bring_to_search(machine);
    ASSERT_EQ(machine.next({0, true}).kind, Kind::kAsk);
    machine.trial_queued(1);
    machine.asked(false, std::nullopt, true);
    run_trial(machine, 1);
    const Step step = machine.next({0, true});
    if (gain > 0) {
      EXPECT_EQ(step.kind, Kind::kComplete);
      EXPECT_EQ(step.reason, "budget.gain");
    } else {
      EXPECT_EQ(step.kind, Kind::kAsk) << "nobody asked for it";
    }
  }
}

TEST_F(StudyMachineTest, AsksForIdleWorkersAndOneAhead) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  const Step step = machine.next({3, true});
  ASSERT_EQ(step.kind, Kind::kAsk);
  EXPECT_EQ(step.count, 4);
  EXPECT_EQ(machine.next({3, true}).kind, Kind::kNothing) << "one question at a time";
  answer(machine, 1, 4);
  EXPECT_EQ(machine.next({3, true}).kind, Kind::kNothing);
  for (int i = 1; i <= 4; ++i) machine.trial_leased(i);
  EXPECT_EQ(machine.next({0, true}).count, 1);
}

TEST_F(StudyMachineTest, TheBudgetOfTrialsCountsTheBaselineAndIsMetExactly) {
  StudyMachine machine({4, 0, 0}, false);
  bring_to_search(machine);
  Step step = machine.next({16, true});
  ASSERT_EQ(step.kind, Kind::kAsk);
  EXPECT_EQ(step.count, 3);
  answer(machine, 1, 3);
  EXPECT_EQ(machine.next({16, true}).kind, Kind::kNothing);
  EXPECT_EQ(machine.phase(), Phase::kDrain);
  for (int i = 1; i <= 3; ++i) run_trial(machine, i);
  step = machine.next({16, true});
  EXPECT_EQ(step.kind, Kind::kComplete);
  EXPECT_EQ(step.reason, "budget.trials");
}

TEST_F(StudyMachineTest, SpentTimeDropsWhatWaitsAndLetsWhatRunsEnd) {
  StudyMachine machine({100, 60, 0}, false);
  bring_to_search(machine);
  ASSERT_EQ(machine.next({1, true}).count, 2);
  answer(machine, 1, 2);
  machine.trial_leased(1);
  machine.add_active(61);
  EXPECT_EQ(machine.next({0, true}).kind, Kind::kDropWaiting);
  machine.trial_finished(2, TrialState::kWaiting, TrialState::kFailed,
                         Error{ErrorCode::kCancelled, "no time"});
  EXPECT_EQ(machine.next({0, true}).kind, Kind::kNothing) << "trial 1 still runs";
  machine.trial_finished(1, TrialState::kRunning, TrialState::kComplete, std::nullopt);
  const Step step = machine.next({1, true});
  EXPECT_EQ(step.kind, Kind::kComplete);
  EXPECT_EQ(step.reason, "budget.seconds");
  EXPECT_EQ(machine.failed(), 0) << "what wasn't run is no failure of the search";
}

TEST_F(StudyMachineTest, StagnationCountsTrialsWithoutGain) {
  StudyMachine machine({100, 0, 3}, false);
  bring_to_search(machine);
  std::int64_t number = 0;
  const auto one = [&](double hypervolume) {
    const Step step = machine.next({0, true});
    if (step.kind != Kind::kAsk) return step;
    answer(machine, ++number, 1);
    run_trial(machine, number);
    machine.hypervolume_is(hypervolume);
    return Step{};
  };
  (void)one(1.0);
  (void)one(1.0);
  (void)one(2.0);  // a gain: counted afresh
  (void)one(2.0);
  (void)one(1.5);
  EXPECT_EQ(machine.phase(), Phase::kSearch);
  (void)one(2.0);
  const Step step = machine.next({0, true});
  EXPECT_EQ(step.kind, Kind::kComplete);
  EXPECT_EQ(step.reason, "budget.stagnation");
}

TEST_F(StudyMachineTest, AnExhaustedSpaceEndsTheStudyAfterItsTrials) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  ASSERT_EQ(machine.next({3, true}).kind, Kind::kAsk);
  answer(machine, 1, 2, true);
  EXPECT_EQ(machine.next({3, true}).kind, Kind::kNothing);
  run_trial(machine, 1);
  run_trial(machine, 2);
  const Step step = machine.next({3, true});
  EXPECT_EQ(step.kind, Kind::kComplete);
  EXPECT_EQ(step.reason, "space exhausted");
}

TEST_F(StudyMachineTest, AFailedBaselineFailsTheStudyWithItsError) {
  StudyMachine machine({100, 0, 0}, false);
  machine.inspect_finished(std::nullopt);
  machine.trial_queued(0);
  run_trial(machine, 0, TrialState::kFailed);
  const Step step = machine.next({1, true});
  EXPECT_EQ(step.kind, Kind::kFail);
  EXPECT_EQ(step.error.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(step.error.message, "baseline: no");
}

TEST_F(StudyMachineTest, AFailedInspectionFailsTheStudy) {
  StudyMachine machine({100, 0, 0}, false);
  machine.inspect_finished(invalid_argument("not an ONNX model"));
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kFail);
}

TEST_F(StudyMachineTest, FailedCandidatesAreCountedAndDoNotEndAStudyThatHasOthers) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  std::int64_t number = 0;
  for (int i = 0; i < 60; ++i) {
    const Step step = machine.next({0, true});
    ASSERT_EQ(step.kind, Kind::kAsk) << i;
    answer(machine, ++number, 1);
    run_trial(machine, number, i == 5 ? TrialState::kComplete : TrialState::kFailed);
  }
  EXPECT_EQ(machine.failed(), 59);
}

TEST_F(StudyMachineTest, OnlyFailuresFromTheStartEndTheStudy) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  std::int64_t number = 0;
  Step step;
  while ((step = machine.next({0, true})).kind == Kind::kAsk) {
    answer(machine, ++number, 1);
    run_trial(machine, number, TrialState::kFailed);
  }
  EXPECT_EQ(number, StudyMachine::kFailuresInRow);
  EXPECT_EQ(step.kind, Kind::kFail);
}

TEST_F(StudyMachineTest, VerifiesTheFrontWhereThereIsATestSplit) {
  StudyMachine machine({2, 0, 0}, true);
  bring_to_search(machine);
  ASSERT_EQ(machine.next({1, true}).kind, Kind::kAsk);
  answer(machine, 1, 1);
  run_trial(machine, 1);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kVerify);
  machine.verify_queued(2);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  machine.verify_finished();
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  machine.verify_finished();
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kComplete);
}

TEST_F(StudyMachineTest, PausedItDoesNothing) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  machine.set_paused(true);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kNothing);
  EXPECT_FALSE(machine.may_lease(true));
  EXPECT_FALSE(machine.active(true));
  machine.set_paused(false);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kAsk);
}

TEST_F(StudyMachineTest, OutsideItsWindowNothingIsAskedOrLeased) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  EXPECT_EQ(machine.next({1, false}).kind, Kind::kNothing);
  EXPECT_FALSE(machine.may_lease(false));
  EXPECT_FALSE(machine.active(false));
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kAsk);
}

TEST_F(StudyMachineTest, ASamplerThatDiedIsMadeAgainThenGivenUp) {
  StudyMachine machine({100, 0, 0}, false);
  bring_to_search(machine);
  const Error gone{ErrorCode::kUnavailable, "its process died"};
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(machine.next({1, true}).kind, Kind::kAsk) << i;
    machine.asked(false, gone);
    ASSERT_EQ(machine.next({1, true}).kind, Kind::kPrepare) << i;
    machine.prepared(std::nullopt);
  }
  ASSERT_EQ(machine.next({1, true}).kind, Kind::kAsk);
  machine.asked(false, gone);
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kFail);
}

TEST_F(StudyMachineTest, AnUnknownSamplerFailsAtOnce) {
  StudyMachine machine({100, 0, 0}, false);
  machine.inspect_finished(std::nullopt);
  machine.trial_queued(0);
  run_trial(machine, 0);
  ASSERT_EQ(machine.next({1, true}).kind, Kind::kPrepare);
  machine.prepared(invalid_argument("no such sampler"));
  EXPECT_EQ(machine.next({1, true}).kind, Kind::kFail);
}

TEST_F(StudyMachineTest, ALargerBudgetGoesOnFromTheDrain) {
  StudyMachine machine({2, 0, 0}, false);
  bring_to_search(machine);
  ASSERT_EQ(machine.next({0, true}).kind, Kind::kAsk);
  answer(machine, 1, 1);
  EXPECT_EQ(machine.next({0, true}).kind, Kind::kNothing);
  EXPECT_EQ(machine.phase(), Phase::kDrain);
  machine.set_budget({5, 0, 0});
  machine.trial_leased(1);
  const Step step = machine.next({0, true});
  EXPECT_EQ(step.kind, Kind::kAsk);
  EXPECT_EQ(step.count, 1);
}

}  // namespace
}  // namespace kerf::scheduler
