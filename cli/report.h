#pragma once

#include <string>

#include "core/json.h"
#include "core/result.h"
#include "storage/study_store.h"

namespace kerf::cli {

/// A study as `kerf run --json` prints it: {study, state, trials: […], front: [{trial, candidate,
/// metrics, verification, holds, broken}], tied: [{trial, with, candidate, metrics}], hypervolume,
/// reference, objectives: [{metric, direction}], baseline: {metrics}, profile: as profile_report()}.
///
/// holds:    whether the test split gave what the evaluation split promised; absent before it was
///           measured there. `broken` says which metrics didn't (search/promise.h).
/// nearest_miss: only where no trial is feasible: {trial, violation, missed: [{metric, value, max or
///           min}], candidate, metrics}; violation: the sum of what its bounds are broken by, each as
///           a share of its bound.
/// tied:     trials that members beat by less than the noise (search/front.h).
///
/// Errors:   not_found; those of the store.
[[nodiscard]] Result<Json> study_report(storage::StudyStore& store, const std::string& id);

/// The front alone: {study, front, tied, hypervolume, reference, objectives, nearest_miss}.
[[nodiscard]] Result<Json> front_report(storage::StudyStore& store, const std::string& id);

/// What the sampler's looks cost: {seconds, probes, reused, unknown, labelled, unasked, statistics_seconds, trial_seconds,
/// charged_trials}; null where none are taken, or not all yet.
[[nodiscard]] Result<Json> profile_report(storage::StudyStore& store, const std::string& id);

/// The front as a table for people.
[[nodiscard]] std::string front_table(const Json& report);

}  // namespace kerf::cli
