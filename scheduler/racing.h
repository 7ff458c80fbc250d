#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "core/json.h"
#include "core/racing.h"
#include "core/study.h"
#include "core/trial.h"

namespace kerf::scheduler {

/// What a study's candidates are raced against: its constraints, and its front as it is when a trial is
/// handed out.
///
/// Constraints on accuracy, accuracy_drop, agreement and top5 are limits. Members of the front are
/// rivals where exactly one objective is one of these and all objectives want what their metrics want
/// by nature. Nothing is raced before something feasible is known: a nearest miss has to be measured
/// to the end.
class Racing {
 public:
  /// `study`: with the objectives that its data allows. `baseline`: its measurement.
  Racing(const StudyDefinition& study, const Json& baseline);

  /// A complete trial.
  void learn(std::int64_t number, const Json& measurement);

  /// A pruned trial with the accuracy that follows from its difference to the baseline on the samples
  /// that it saw: those may have been easy or hard for both.
  [[nodiscard]] Trial paired(Trial trial) const;

  /// For the next lease. `front`: numbers of the members.
  [[nodiscard]] std::optional<RacingTerms> terms(std::span<const std::int64_t> front) const;

 private:
  [[nodiscard]] std::optional<RacingTerms::Rival> rival_of(std::int64_t number, const Json& measurement) const;

  RacingSettings settings_;
  std::optional<double> baseline_accuracy_;  // where candidates can be compared with it
  std::map<std::string, double> limits_;
  std::string quality_metric_;             // of the rivals; empty = no rivals
  StudyDefinition study_;
  std::map<std::int64_t, RacingTerms::Rival> rivals_;  // by number
};

}  // namespace kerf::scheduler
