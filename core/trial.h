#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace kerf {

/// A trial is waiting or running until it has exactly one terminal state.
enum class TrialState { kWaiting, kRunning, kComplete, kPruned, kFailed };

[[nodiscard]] std::string_view to_string(TrialState state);
[[nodiscard]] std::optional<TrialState> trial_state_from_string(std::string_view text);
[[nodiscard]] inline bool is_terminal(TrialState state) {
  return state != TrialState::kWaiting && state != TrialState::kRunning;
}

/// One candidate and its outcome, as the store holds it.
struct Trial {
  std::int64_t number = 0;            ///< From 0, in the order of proposals; 0 is the baseline.
  TrialState state = TrialState::kWaiting;
  Json candidate;                     ///< A CompressionPlan.
  std::vector<int> choices;           ///< The sampler's coordinates, one index a dimension.
  Json measurement;                   ///< A Measurement where complete, its beginning where pruned, else null.
  Json verification;                  ///< A Measurement on the test split, or null.
  std::int64_t attempts = 0;
  std::optional<Error> error;
  std::string started_at;             ///< RFC 3339, UTC; empty until it is leased.
  std::string finished_at;

  /// As the API and `kerf run` print it: {number, state, candidate, choices, metrics, hardware, attempts,
  /// error, …}. Of a pruned one `metrics` are those of the samples that it saw, and `reason` says why it
  /// was stopped.
  [[nodiscard]] Json to_json() const;
};

}  // namespace kerf
