#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "core/clock.h"

namespace kerf::cli {

/// Where a study stands, for people who wait.
struct ProgressState {
  std::int64_t done = 0;        ///< Trials with a terminal state.
  std::int64_t target = 0;      ///< budget.trials.
  std::int64_t failed = 0;
  std::int64_t front_size = 0;
  double hypervolume = 0;
  std::string phase;            ///< "inspect", "search", "verify", …
};

/// One line on stderr that shows trials done, front size, hypervolume and time left: rewritten in
/// place on a terminal, printed when something changed (at most every few seconds) elsewhere.
class ProgressLine {
 public:
  /// `enabled` = false prints nothing.
  ProgressLine(const Clock& clock, bool enabled);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const ProgressState& state);
  /// Ends the line, so that what follows starts on a new one.
  void finish();

  /// The text of a state, `elapsed` after the first finished trial of this run at `first_done`.
  [[nodiscard]] static std::string text(const ProgressState& state,
                                        std::optional<std::chrono::seconds> left);

 private:
  [[nodiscard]] std::optional<std::chrono::seconds> time_left(const ProgressState& state) const;

  const Clock& clock_;
  bool enabled_;
  bool terminal_;
  bool open_ = false;
  std::string last_;
  std::optional<Clock::SteadyTime> last_shown_;
  std::optional<Clock::SteadyTime> first_seen_;
  std::int64_t first_done_ = 0;
};

}  // namespace kerf::cli
