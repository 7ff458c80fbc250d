#pragma once

#include <string>

#include "core/json.h"
#include "core/result.h"
#include "storage/study_store.h"

namespace kerf::cli {

/// A study as `kerf run --json` prints it: {study, state, trials: […], front: [{trial, candidate,
/// metrics, verification}], hypervolume, reference, objectives: [{metric}], baseline:
/// {metrics}}.
///
/// Errors:   not_found; those of the store.
[[nodiscard]] Result<Json> study_report(storage::StudyStore& store, const std::string& id);

/// The front alone: {study, front, hypervolume, reference, objectives, nearest_miss}.
[[nodiscard]] Result<Json> front_report(storage::StudyStore& store, const std::string& id);

/// The front as a table for people.
[[nodiscard]] std::string front_table(const Json& report);

}  // namespace kerf::cli
