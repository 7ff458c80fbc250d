#include "search/optuna/database.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace kerf::optuna {
namespace {

constexpr std::size_t kTrialsAMessage = 100;

Json wire(const DatabaseTrial& trial) {
  const bool complete = trial.state == TrialState::kComplete;
  return {{"state", std::string(to_string(trial.state))},
          {"params", trial.params},
          {"values", complete ? Json(trial.values) : Json()},
          {"constraints", trial.constraints},
          {"attributes", trial.attributes},
          {"started_at", trial.started_at},
          {"finished_at", trial.finished_at}};
}

// With nobody's file behind it: what can't be written is known before Python starts.
Result<void> try_to_write(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return invalid_argument(path + ": can't be written: " + std::strerror(errno));
  std::fclose(file);
  return {};
}

Result<void> write_whole(const std::string& path, const DatabaseStudy& study, std::span<const DatabaseTrial> trials,
                         const BridgeOptions& options) {
  Json directions = Json::array();
  for (const Direction direction : study.directions) directions.push_back(std::string(to_string(direction)));
  KERF_ASSIGN(BridgeProcess bridge, BridgeProcess::start(options));
  KERF_TRY(bridge.call({{"type", "export"},
                        {"path", path},
                        {"study", study.name},
                        {"directions", std::move(directions)},
                        {"metrics", study.metrics},
                        {"space", to_json(study.space)},
                        {"attributes", study.attributes}}));
  for (std::size_t begin = 0; begin < trials.size(); begin += kTrialsAMessage) {
    Json message = {{"type", "export_trials"}, {"trials", Json::array()}};
    for (const DatabaseTrial& trial : trials.subspan(begin, std::min(kTrialsAMessage, trials.size() - begin))) {
      message["trials"].push_back(wire(trial));
    }
    KERF_TRY(bridge.call(message));
  }
  KERF_TRY(bridge.call({{"type", "export_end"}}));
  return {};
}

}  // namespace

Result<void> write_database(const std::string& path, const DatabaseStudy& study,
                            std::span<const DatabaseTrial> trials, const BridgeOptions& options) {
  KERF_TRY(check(study.space));
  if (std::filesystem::exists(path)) {
    return Error{ErrorCode::kAlreadyExists, path + ": is there already; expected a new file"};
  }
  const std::string part = path + ".part";
  KERF_TRY(try_to_write(part));
  auto written = write_whole(std::filesystem::absolute(path).string(), study, trials, options);
  std::error_code none;
  std::filesystem::remove(part, none);
  return written;
}

}  // namespace kerf::optuna
