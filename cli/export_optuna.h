#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "search/optuna/database.h"

namespace kerf::cli {

/// What an export needs of a study, wherever it was read.
struct StudyPages {
  std::string id;
  Json definition;             ///< StudyDefinition::to_json().
  Json space;                  ///< [{name, values: [keys of a plan, …], …}]; null before the inspection.
  std::vector<Json> trials;    ///< Trial::to_json(), by number.
};

/// A study in Optuna's words.
struct OptunaPages {
  optuna::DatabaseStudy study;
  std::vector<optuna::DatabaseTrial> trials;
};

/// Parameters are the space's dimensions, with values such as "weight_bits=8 activation_bits=8".
/// Complete trials that lack an objective are failed ones. User attributes: plan, metrics, hardware,
/// verification, error, reason; of the study: its definition.
///
/// Errors:   those of StudyDefinition::parse.
[[nodiscard]] Result<OptunaPages> to_optuna(const StudyPages& pages);

}  // namespace kerf::cli
