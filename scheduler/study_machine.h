#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/study.h"
#include "core/trial.h"

namespace kerf::scheduler {

/// Where a study is on its way.
enum class Phase {
  kInspect,   ///< A runner looks at the model.
  kBaseline,  ///< Trial 0, the f32 model, is measured; all others are compared with it.
  kProfile,   ///< Cheap looks at each value of the space, where the sampler makes use of them.
  kSearch,    ///< Candidates are proposed and measured.
  kDrain,     ///< No more proposals; what is in line or in work ends.
  kVerify,    ///< The front's members are measured on the test split.
  kDone,
};

[[nodiscard]] std::string_view to_string(Phase phase);

/// What a study is to do next.
struct Step {
  enum class Kind {
    kNothing,
    kInspect,   ///< Put the inspection in line.
    kBaseline,  ///< Put trial 0 in line.
    kProfile,   ///< Put the looks in line, or make the profile of what they brought.
    kPrepare,   ///< Make the sampler and tell it the finished trials.
    kAsk,       ///< Ask the sampler for `count` candidates and put them in line.
    kDropWaiting,  ///< Close the trials that wait: no time is left for them.
    kVerify,    ///< Put the front's members in line for verification (maybe none).
    kComplete,  ///< The study is over, `reason` says why.
    kFail,      ///< The study can't go on, `error` says why.
  };
  Kind kind = Kind::kNothing;
  std::int64_t count = 0;
  std::string reason;
  Error error;
};

/// What the rest of the scheduler wants at this moment.
struct Demand {
  std::int64_t idle_workers = 0;  ///< That could take this study's work.
  bool window_open = true;
};

/// The decisions of one study: what is next, when it is over. No I/O, no clock: it is told what
/// happened and how long the study has been active.
///
/// Rules:
///   - Proposals are asked for a little ahead: as many as workers are idle, and one.
///   - budget.trials counts every trial that was put in line, the baseline included, and what the
///     profile took, in trials;
///     budget.seconds counts the time in which the study was running and its window open;
///     budget.stagnation counts finished trials since the hypervolume last grew; budget.gain ends a
///     study whose sampler says that two batches in a row promise less than that share of it.
///   - On trials, stagnation, gain and an exhausted space what is in line still runs. On seconds what is
///     in line is dropped and what is in work ends.
///   - A profile is wanted where the sampler uses one and there are trials enough for it to pay; one
///     that can't be had doesn't end the study.
///   - A baseline that fails ends the study with its error; so does an inspection, and a sampler
///     that can't be had. So do `kFailuresInRow` trials that fail one after the other with none
///     complete since the baseline.
///
/// Threads:  one at a time.
class StudyMachine {
 public:
  static constexpr std::int64_t kFailuresInRow = 20;
  static constexpr std::int64_t kMostAsked = 64;  ///< Candidates in one question.
  static constexpr std::int64_t kFewestToProfile = 10;  ///< budget.trials below which none is taken.

  StudyMachine(Budget budget, bool has_test_split) : budget_(budget), has_test_(has_test_split) {}

  // What is in the store when the study is loaded, and what happens later, in the same words.
  void inspect_queued() { inspect_queued_ = true; }
  void inspect_finished(std::optional<Error> error);
  void trial_queued(std::int64_t number);
  void trial_leased(std::int64_t number);
  void trial_returned(std::int64_t number);  ///< running -> waiting.
  /// From waiting or running to its terminal state.
  void trial_finished(std::int64_t number, TrialState from, TrialState state,
                      const std::optional<Error>& error);
  void hypervolume_is(double value);
  void want_profile(bool wanted) { profile_wanted_ = wanted; }  ///< Before the baseline has ended.
  void profile_waits(bool waits) { profile_waits_ = waits; }    ///< For looks in line or in work.
  /// It is there, or won't be; it counts as so many trials of the budget.
  void profile_finished(std::int64_t charged_trials);
  void prepared(std::optional<Error> error);  ///< The sampler is there and was told everything.
  /// The sampler answered; what it proposed was put in line by trial_queued() before.
  void stalled(bool value) { stalled_ = value; }  ///< As it was said to an earlier machine.
  void asked(bool exhausted, std::optional<Error> error, bool stalled = false);
  void verify_queued(std::int64_t open);  ///< All members are in line or done; `open` aren't done.
  void verify_finished() { --verify_open_; }
  void set_paused(bool paused) { paused_ = paused; }
  void set_budget(Budget budget);
  void add_active(double seconds) { active_seconds_ += seconds; }
  void fail(Error error);  ///< The study can't go on; the first error counts.
  void ended() { phase_ = Phase::kDone; }

  /// The next step; call again after it was done, until kNothing. A step that takes a while (kAsk,
  /// kPrepare) isn't given again before its answer came.
  [[nodiscard]] Step next(const Demand& demand);

  /// Whether waiting work may be handed out.
  [[nodiscard]] bool may_lease(bool window_open) const;

  /// Whether time counts against budget.seconds.
  [[nodiscard]] bool active(bool window_open) const {
    return !paused_ && window_open && phase_ != Phase::kDone;
  }

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] bool paused() const { return paused_; }
  [[nodiscard]] const Budget& budget() const { return budget_; }
  [[nodiscard]] double active_seconds() const { return active_seconds_; }
  [[nodiscard]] std::int64_t queued() const { return queued_; }
  [[nodiscard]] std::int64_t waiting() const { return waiting_; }
  [[nodiscard]] std::int64_t running() const { return running_; }
  [[nodiscard]] std::int64_t finished() const { return finished_; }
  [[nodiscard]] std::int64_t failed() const { return failed_; }
  [[nodiscard]] std::int64_t charged() const { return charged_; }  ///< Trials, for the profile.

 private:
  [[nodiscard]] std::string stop_reason() const;
  [[nodiscard]] bool out_of_time() const;
  [[nodiscard]] Step next_in_profile(const Demand& demand);
  [[nodiscard]] Step next_in_search(const Demand& demand);
  [[nodiscard]] Step next_in_drain();
  void search_failed(Error error);

  Budget budget_;
  bool has_test_;
  Phase phase_ = Phase::kInspect;
  bool paused_ = false;
  bool inspect_queued_ = false;
  bool profile_wanted_ = false;
  bool profile_waits_ = false;
  bool busy_ = false;      ///< A kPrepare or kAsk is under way.
  bool prepared_ = false;
  bool exhausted_ = false;
  bool stalled_ = false;   ///< The sampler expects too little.
  bool verify_planned_ = false;
  std::optional<Error> failure_;
  std::string reason_;
  std::int64_t charged_ = 0;
  std::int64_t queued_ = 0;
  std::int64_t waiting_ = 0;
  std::int64_t running_ = 0;
  std::int64_t finished_ = 0;
  std::int64_t failed_ = 0;  ///< Without those that weren't run.
  std::int64_t candidates_complete_ = 0;
  std::int64_t failures_in_row_ = 0;
  std::int64_t search_failures_ = 0;
  std::int64_t since_gain_ = 0;
  double best_hypervolume_ = -1;
  std::int64_t verify_open_ = 0;
  double active_seconds_ = 0;
};

}  // namespace kerf::scheduler
