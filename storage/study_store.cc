#include "storage/study_store.h"

#include <array>
#include <utility>

namespace kerf::storage {
namespace {

constexpr std::array<std::pair<StudyState, std::string_view>, 5> kStates = {{
    {StudyState::kRunning, "running"},
    {StudyState::kPaused, "paused"},
    {StudyState::kComplete, "complete"},
    {StudyState::kCancelled, "cancelled"},
    {StudyState::kFailed, "failed"},
}};

}  // namespace

std::string_view to_string(StudyState state) {
  for (const auto& [value, text] : kStates) {
    if (value == state) return text;
  }
  return "unknown";
}

std::optional<StudyState> study_state_from_string(std::string_view text) {
  for (const auto& [value, name] : kStates) {
    if (name == text) return value;
  }
  return std::nullopt;
}

}  // namespace kerf::storage
