#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/metric.h"
#include "core/result.h"
#include "core/trial.h"
#include "search/optuna/bridge_process.h"
#include "search/optuna/distributions.h"

namespace kerf::optuna {

/// A study as an Optuna database has it.
struct DatabaseStudy {
  std::string name;
  std::vector<Direction> directions;  ///< One an objective …
  std::vector<std::string> metrics;   ///< … with its name.
  SearchSpace space;
  Json attributes = Json::object();   ///< The study's user attributes.
};

/// A trial as an Optuna database has it.
struct DatabaseTrial {
  TrialState state = TrialState::kWaiting;
  std::map<std::string, Json> params;        ///< Of the space; may lack some.
  std::vector<double> values;                ///< One an objective where complete, else empty. Finite.
  std::map<std::string, double> constraints; ///< By name; g ≤ 0 is kept. Finite.
  Json attributes = Json::object();          ///< The trial's user attributes.
  std::string started_at;                    ///< RFC 3339; empty = it wasn't.
  std::string finished_at;
};

/// Writes a study into a new SQLite file that Optuna (`optuna.load_study`) and its dashboard read: with
/// the real Optuna, in its Python. The file appears when all of it is written; until then it is
/// `path`.part, of which nothing stays where the export fails.
///
/// Errors:   already_exists where `path` is; invalid_argument where it can't be written; as BridgeProcess.
[[nodiscard]] Result<void> write_database(const std::string& path, const DatabaseStudy& study,
                                          std::span<const DatabaseTrial> trials, const BridgeOptions& options = {});

}  // namespace kerf::optuna
