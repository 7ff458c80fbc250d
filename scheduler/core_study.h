#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/measurement.h"
#include "core/model_info.h"
#include "scheduler/core.h"
#include "scheduler/racing.h"
#include "scheduler/window.h"
#include "search/front.h"

namespace kerf::scheduler {

/// What Core keeps in memory of a study in flight. Everything in it can be made again from the
/// store.
struct Core::Study {
  Study(storage::StudyRecord its_record, StudyDefinition its_definition, bool has_test)
      : record(std::move(its_record)),
        definition(std::move(its_definition)),
        machine(definition.budget, has_test) {}

  storage::StudyRecord record;
  StudyDefinition definition;  ///< With the objectives that the baseline's metrics allow.
  StudyMachine machine;
  std::optional<ModelInfo> model;
  std::optional<WindowCheck> window;
  bool window_open = true;
  std::string hardware_id;     ///< Of the baseline's worker; empty before.
  std::string measured_on;     ///< The same as its measurement says.

  std::optional<HardwareFingerprint> hardware;  ///< Of the baseline's measurement.
  double trial_seconds = 0;  ///< What a trial takes, as the baseline's phases say.

  std::set<std::int64_t> open_profile;  ///< Parts of the profile that haven't ended.
  search::Profile profile;              ///< Empty: none, or not yet.

  std::shared_ptr<Proposer> proposer;      ///< Used by one search job at a time.
  std::int64_t search_generation = 0;      ///< Answers of jobs of an earlier one are dropped.
  std::map<std::int64_t, KnownTrial> trials;
  /// Finished trials with their fingerprints: told to the proposer, and yet to be told.
  std::vector<std::pair<search::Observation, std::string>> history;
  std::vector<std::pair<search::Observation, std::string>> untold;
  /// Finished, but in flight for a proposer that was just made, until it has been asked once.
  std::optional<std::pair<search::Observation, std::string>> withheld;
  bool asked = false;    ///< The proposer, since it was made.
  bool repeats = false;  ///< Its first notes are what another one said before.
  /// A search job's answer on its way into the store: what it proposed, how it ended.
  std::vector<Proposal> proposals;
  std::optional<std::pair<bool, std::optional<Error>>> search_ended;
  search::PoorBatches poor;  ///< What that answer said of the gain to be expected.
  std::int64_t poor_kept = 0;  ///< Of them, what the store knows: 0, 1, 2 or more.

  std::vector<double> reference;
  std::optional<search::FrontTracker> front;
  bool front_changed = false;
  std::optional<Racing> racing;

  std::deque<WorkKey> line;    ///< Waiting work as last read from the store.
  bool line_stale = true;

  std::set<std::int64_t> open_verifications;

  Clock::Duration served{0};   ///< Worker time that ended leases took.
  double unsaved_seconds = 0;  ///< Active time that the store doesn't know yet.
  std::int64_t finished_here = 0;  ///< Trials since this process started, and the time they took.
  double seconds_here = 0;
};

}  // namespace kerf::scheduler
