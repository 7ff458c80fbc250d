#include "scheduler/study_machine.h"

#include <algorithm>
#include <array>
#include <utility>

namespace kerf::scheduler {
namespace {

constexpr std::array<std::pair<Phase, std::string_view>, 7> kPhases = {{
    {Phase::kInspect, "inspect"},
    {Phase::kBaseline, "baseline"},
    {Phase::kProfile, "profile"},
    {Phase::kSearch, "search"},
    {Phase::kDrain, "drain"},
    {Phase::kVerify, "verify"},
    {Phase::kDone, "done"},
}};

// A sampler that can't be had is made again this often in a row before the study fails.
constexpr std::int64_t kSearchAttempts = 3;

}  // namespace

std::string_view to_string(Phase phase) {
  for (const auto& [value, text] : kPhases) {
    if (value == phase) return text;
  }
  return "unknown";
}

void StudyMachine::inspect_finished(std::optional<Error> error) {
  inspect_queued_ = true;
  if (error) {
    fail(std::move(*error));
  } else if (phase_ == Phase::kInspect) {
    phase_ = Phase::kBaseline;
  }
}

void StudyMachine::trial_queued(std::int64_t) {
  ++queued_;
  ++waiting_;
}

void StudyMachine::trial_leased(std::int64_t) {
  --waiting_;
  ++running_;
}

void StudyMachine::trial_returned(std::int64_t) {
  ++waiting_;
  --running_;
}

void StudyMachine::trial_finished(std::int64_t number, TrialState from, TrialState state,
                                  const std::optional<Error>& error) {
  --(from == TrialState::kWaiting ? waiting_ : running_);
  ++finished_;
  if (number == 0) {
    if (state == TrialState::kComplete) {
      const bool profiles = profile_wanted_ && (budget_.trials == 0 || budget_.trials >= kFewestToProfile);
      phase_ = std::max(phase_, profiles ? Phase::kProfile : Phase::kSearch);
    } else {
      fail(with_context("baseline", error.value_or(internal_error("ended without a result"))));
    }
    return;
  }
  ++since_gain_;
  if (state == TrialState::kFailed) {
    const bool not_run = error && error->code == ErrorCode::kCancelled;
    failed_ += not_run ? 0 : 1;
    ++failures_in_row_;
    if (candidates_complete_ == 0 && failures_in_row_ >= kFailuresInRow && !not_run) {
      fail(with_context("the first " + std::to_string(failures_in_row_) + " candidates failed",
                        error.value_or(internal_error("no error was told"))));
    }
  } else {
    failures_in_row_ = 0;
    if (state == TrialState::kComplete) ++candidates_complete_;
  }
}

void StudyMachine::profile_finished(std::int64_t charged_trials) {
  profile_wanted_ = false;
  profile_waits_ = false;
  charged_ = charged_trials;
  if (phase_ == Phase::kProfile) phase_ = Phase::kSearch;
}

void StudyMachine::hypervolume_is(double value) {
  if (value > best_hypervolume_) {
    best_hypervolume_ = value;
    since_gain_ = 0;
  }
}

void StudyMachine::search_failed(Error error) {
  if (error.code == ErrorCode::kUnavailable && ++search_failures_ < kSearchAttempts) {
    prepared_ = false;
  } else {
    fail(with_context("search", std::move(error)));
  }
}

void StudyMachine::prepared(std::optional<Error> error) {
  busy_ = false;
  if (error) {
    search_failed(std::move(*error));
  } else {
    prepared_ = true;
  }
}

void StudyMachine::asked(bool exhausted, std::optional<Error> error, bool stalled) {
  busy_ = false;
  stalled_ = stalled;
  if (error) {
    search_failed(std::move(*error));
    return;
  }
  search_failures_ = 0;
  exhausted_ = exhausted_ || exhausted;
}

void StudyMachine::verify_queued(std::int64_t open) {
  verify_planned_ = true;
  verify_open_ = open;
}

void StudyMachine::set_budget(Budget budget) {
  budget_ = budget;
  if ((phase_ == Phase::kDrain || phase_ == Phase::kVerify) && stop_reason().empty() &&
      !exhausted_) {
    phase_ = Phase::kSearch;
    reason_.clear();
    verify_planned_ = false;
  }
}

void StudyMachine::fail(Error error) {
  if (!failure_) failure_ = std::move(error);
}

bool StudyMachine::out_of_time() const {
  return budget_.seconds > 0 && active_seconds_ >= budget_.seconds;
}

std::string StudyMachine::stop_reason() const {
  if (out_of_time()) return "budget.seconds";
  if (budget_.trials > 0 && queued_ + charged_ >= budget_.trials) return "budget.trials";
  if (budget_.stagnation > 0 && since_gain_ >= budget_.stagnation) return "budget.stagnation";
  if (budget_.gain > 0 && stalled_) return "budget.gain";
  return "";
}

Step StudyMachine::next(const Demand& demand) {
  Step step;
  if (phase_ == Phase::kDone) return step;
  if (failure_) {
    step.kind = Step::Kind::kFail;
    step.error = *failure_;
    return step;
  }
  if (paused_) return step;
  switch (phase_) {
    case Phase::kInspect:
      if (!inspect_queued_) step.kind = Step::Kind::kInspect;
      return step;
    case Phase::kBaseline:
      if (queued_ == 0) step.kind = Step::Kind::kBaseline;
      return step;
    case Phase::kProfile:
      return next_in_profile(demand);
    case Phase::kSearch:
      return next_in_search(demand);
    case Phase::kDrain:
      return next_in_drain();
    case Phase::kVerify:
      if (has_test_ && !verify_planned_) {
        step.kind = Step::Kind::kVerify;
      } else if (verify_open_ == 0) {
        step.kind = Step::Kind::kComplete;
        step.reason = reason_;
      }
      return step;
    case Phase::kDone:
      break;
  }
  return step;
}

// Where no time is left for a search, its profile isn't waited for.
Step StudyMachine::next_in_profile(const Demand& demand) {
  if (out_of_time()) {
    phase_ = Phase::kSearch;
    return next_in_search(demand);
  }
  Step step;
  if (!profile_waits_) step.kind = Step::Kind::kProfile;
  return step;
}

Step StudyMachine::next_in_search(const Demand& demand) {
  Step step;
  reason_ = stop_reason();
  if (reason_.empty() && exhausted_) reason_ = "space exhausted";
  if (!reason_.empty()) {
    phase_ = Phase::kDrain;
    return next_in_drain();
  }
  if (busy_ || !demand.window_open) return step;
  if (!prepared_) {
    busy_ = true;
    step.kind = Step::Kind::kPrepare;
    return step;
  }
  std::int64_t want = demand.idle_workers + 1 - waiting_;
  if (budget_.trials > 0) want = std::min(want, budget_.trials - charged_ - queued_);
  if (want <= 0) return step;
  busy_ = true;
  step.kind = Step::Kind::kAsk;
  step.count = std::min(want, kMostAsked);
  return step;
}

Step StudyMachine::next_in_drain() {
  Step step;
  if (out_of_time() && waiting_ > 0) {
    reason_ = "budget.seconds";
    step.kind = Step::Kind::kDropWaiting;
    return step;
  }
  if (waiting_ + running_ > 0 || busy_) return step;
  phase_ = Phase::kVerify;
  return next({});
}

bool StudyMachine::may_lease(bool window_open) const {
  return phase_ != Phase::kDone && !failure_ && !paused_ && window_open;
}

}  // namespace kerf::scheduler
