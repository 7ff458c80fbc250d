#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "core/study.h"

namespace kerf::scheduler {

/// A time zone's offsets from UTC, read from the system's zone files (TZif, RFC 8536), with the
/// rule at their end for what lies beyond their table.
///
/// Threads:  const, hence shareable; reads no environment and changes no process-wide state.
class TimeZone {
 public:
  /// Errors:   invalid_argument for a name that is no zone's ("Europe/Berlin", "UTC").
  [[nodiscard]] static Result<TimeZone> load(const std::string& name,
                                             const std::string& folder = "/usr/share/zoneinfo");

  /// Seconds east of UTC at a time in seconds since 1970.
  [[nodiscard]] std::int64_t offset_at(std::int64_t unix_seconds) const;

 private:
  /// A day and time at which daylight saving starts or ends: the `week`-th (5 = last) `weekday`
  /// (0 = Sunday) of `month`, `seconds` after its local midnight; month 0: day `day` of the year.
  struct RuleDate {
    int month = 0;
    int week = 0;
    int weekday = 0;
    int day = 0;
    bool leap_counts = false;  ///< `day` counts 29 February (n, from 0) or not (Jn, from 1).
    std::int64_t seconds = 7200;
  };
  struct Rule {
    std::int64_t standard = 0;
    std::int64_t daylight = 0;
    bool has_daylight = false;
    RuleDate starts;
    RuleDate ends;
  };

  [[nodiscard]] static Result<Rule> parse_rule(std::string_view text);
  [[nodiscard]] static std::int64_t local_second(const RuleDate& date, std::int64_t year);
  [[nodiscard]] std::int64_t offset_by_rule(std::int64_t unix_seconds) const;

  std::vector<std::int64_t> transitions_;  // ascending
  std::vector<std::int64_t> offsets_;      // offsets_[i] applies from transitions_[i] on
  std::int64_t first_offset_ = 0;
  Rule rule_;
};

/// Whether a study may run at this wall time. A window whose stop is not after its start goes over
/// midnight; equal times are the whole day.
class WindowCheck {
 public:
  /// Errors:   invalid_argument for an unknown time zone.
  [[nodiscard]] static Result<WindowCheck> make(const Window& window,
                                                const std::string& zone_folder = "/usr/share/zoneinfo");

  [[nodiscard]] bool open(Clock::WallTime now) const;

 private:
  TimeZone zone_;
  std::int64_t start_ = 0;  // seconds after local midnight
  std::int64_t stop_ = 0;
};

}  // namespace kerf::scheduler
