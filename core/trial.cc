#include "core/trial.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace kerf {
namespace {

constexpr std::array<std::pair<TrialState, std::string_view>, 5> kStates = {{
    {TrialState::kWaiting, "waiting"},
    {TrialState::kRunning, "running"},
    {TrialState::kComplete, "complete"},
    {TrialState::kPruned, "pruned"},
    {TrialState::kFailed, "failed"},
}};

}  // namespace

std::string_view to_string(TrialState state) {
  for (const auto& [value, text] : kStates) {
    if (value == state) return text;
  }
  return "unknown";
}

std::optional<TrialState> trial_state_from_string(std::string_view text) {
  for (const auto& [value, name] : kStates) {
    if (name == text) return value;
  }
  return std::nullopt;
}

Json Trial::to_json() const {
  Json out = {{"number", number},
              {"state", std::string(to_string(state))},
              {"candidate", candidate},
              {"choices", choices},
              {"metrics", nullptr},
              {"hardware", nullptr},
              {"attempts", attempts},
              {"error", nullptr}};
  if (measurement.is_object()) {
    Json metrics = measurement;
    if (metrics.contains("hardware")) {
      out["hardware"] = metrics["hardware"];
      metrics.erase("hardware");
    }
    for (const char* key : {"layers", "phase_ms", "warnings", "reason"}) {
      if (!metrics.contains(key)) continue;
      out[key] = metrics[key];
      metrics.erase(key);
    }
    out["metrics"] = metrics;
  }
  if (verification.is_object()) out["verification"] = verification;
  if (error) {
    out["error"] = {{"code", std::string(kerf::to_string(error->code))}, {"message", error->message}};
  }
  if (!started_at.empty()) out["started_at"] = started_at;
  if (!finished_at.empty()) out["finished_at"] = finished_at;
  return out;
}

}  // namespace kerf
