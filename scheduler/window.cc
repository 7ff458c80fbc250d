#include "scheduler/window.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

namespace kerf::scheduler {
namespace {

constexpr std::int64_t kDay = 86400;

// Proleptic Gregorian days since 1970-01-01, by std::chrono's calendar.
std::int64_t days_of(std::int64_t year, int month, int day) {
  using namespace std::chrono;
  return sys_days(std::chrono::year(static_cast<int>(year)) / month / day).time_since_epoch().count();
}

std::int64_t year_of(std::int64_t unix_seconds) {
  using namespace std::chrono;
  const sys_days day = floor<days>(sys_seconds(seconds(unix_seconds)));
  return static_cast<int>(year_month_day(day).year());
}

class Bytes {
 public:
  explicit Bytes(std::string_view data) : data_(data) {}

  [[nodiscard]] bool has(std::size_t count) const { return data_.size() - at_ >= count; }
  void skip(std::size_t count) { at_ += count; }
  std::int64_t big_endian(std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      value = value << 8U | static_cast<unsigned char>(data_[at_ + i]);
    }
    at_ += count;
    if (count == 4) return static_cast<std::int32_t>(static_cast<std::uint32_t>(value));
    return static_cast<std::int64_t>(value);
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(data_[at_++]); }
  [[nodiscard]] std::string_view rest() const { return data_.substr(at_); }

 private:
  std::string_view data_;
  std::size_t at_ = 0;
};

struct Counts {
  std::size_t utc_flags, standard_flags, leaps, times, types, chars;

  [[nodiscard]] std::size_t block_size(std::size_t time_size) const {
    return times * (time_size + 1) + types * 6 + chars + leaps * (time_size + 4) + standard_flags +
           utc_flags;
  }
};

constexpr std::size_t kHeader = 44;

bool read_header(Bytes& in, Counts& counts) {
  if (!in.has(kHeader) || in.rest().substr(0, 4) != "TZif") return false;
  in.skip(20);
  const auto count = [&] { return static_cast<std::size_t>(in.big_endian(4)); };
  counts = {count(), count(), count(), count(), count(), count()};
  for (const std::size_t one : {counts.utc_flags, counts.standard_flags, counts.leaps, counts.times,
                                counts.types, counts.chars}) {
    if (one > 65536) return false;
  }
  return counts.types > 0;
}

// A cursor over the text of a POSIX TZ rule.
class RuleText {
 public:
  explicit RuleText(std::string_view text) : text_(text) {}

  [[nodiscard]] bool done() const { return at_ == text_.size(); }
  [[nodiscard]] char peek() const { return done() ? '\0' : text_[at_]; }
  bool eat(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  bool name() {
    const std::size_t start = at_;
    if (eat('<')) {
      while (!done() && peek() != '>') ++at_;
      return eat('>');
    }
    while ((peek() >= 'a' && peek() <= 'z') || (peek() >= 'A' && peek() <= 'Z')) ++at_;
    return at_ - start >= 3;
  }
  bool number(int& value) {
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) return false;
    at_ = static_cast<std::size_t>(end - text_.data());
    return true;
  }
  // [+-]hh[:mm[:ss]]
  bool time(std::int64_t& seconds) {
    const bool minus = eat('-');
    if (!minus) eat('+');
    int part = 0;
    if (!number(part) || part > 167) return false;
    seconds = part * 3600;
    for (const int unit : {60, 1}) {
      if (!eat(':')) break;
      if (!number(part) || part > 59) return false;
      seconds += part * unit;
    }
    if (minus) seconds = -seconds;
    return true;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<TimeZone::Rule> TimeZone::parse_rule(std::string_view text) {
  const Error wrong = invalid_argument("time zone rule \"" + std::string(text.substr(0, 80)) +
                                       "\"; expected one of POSIX's form");
  Rule rule;
  RuleText in(text);
  std::int64_t west = 0;
  if (!in.name() || !in.time(west)) return wrong;
  rule.standard = -west;
  rule.daylight = rule.standard;
  if (in.done()) return rule;
  if (!in.name()) return wrong;
  rule.has_daylight = true;
  rule.daylight = rule.standard + 3600;
  if (in.peek() != ',') {
    if (!in.time(west)) return wrong;
    rule.daylight = -west;
  }
  for (RuleDate* date : {&rule.starts, &rule.ends}) {
    if (!in.eat(',')) return wrong;
    if (in.eat('M')) {
      if (!in.number(date->month) || !in.eat('.') || !in.number(date->week) || !in.eat('.') ||
          !in.number(date->weekday)) {
        return wrong;
      }
      if (date->month < 1 || date->month > 12 || date->week < 1 || date->week > 5 ||
          date->weekday > 6) {
        return wrong;
      }
    } else {
      date->leap_counts = !in.eat('J');
      if (!in.number(date->day) || date->day > 365) return wrong;
    }
    if (in.eat('/') && !in.time(date->seconds)) return wrong;
  }
  if (!in.done()) return wrong;
  return rule;
}

std::int64_t TimeZone::local_second(const RuleDate& date, std::int64_t year) {
  if (date.month == 0) {
    std::int64_t day = days_of(year, 1, 1) + date.day;
    if (!date.leap_counts) {
      const bool leap = std::chrono::year(static_cast<int>(year)).is_leap();
      day = days_of(year, 1, 1) + date.day - 1 + (leap && date.day > 59 ? 1 : 0);
    }
    return day * kDay + date.seconds;
  }
  const std::int64_t first = days_of(year, date.month, 1);
  const std::int64_t first_weekday = ((first + 4) % 7 + 7) % 7;  // 1970-01-01 was a Thursday
  std::int64_t day = first + (date.weekday - first_weekday + 7) % 7 + (date.week - 1) * 7;
  const std::int64_t next_month =
      date.month == 12 ? days_of(year + 1, 1, 1) : days_of(year, date.month + 1, 1);
  while (day >= next_month) day -= 7;
  return day * kDay + date.seconds;
}

Result<TimeZone> TimeZone::load(const std::string& name, const std::string& folder) {
  TimeZone zone;
  if (name == "UTC") return zone;
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '+' || c == '/';
  };
  const Error unknown = invalid_argument("time zone \"" + name.substr(0, 80) +
                                         "\" is not known; expected a name such as Europe/Berlin");
  if (name.empty() || name.size() > 64 || name.front() == '/' ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    return unknown;
  }
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(folder + "/" + name, ignored)) return unknown;
  std::ifstream file(folder + "/" + name, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  Bytes in(content);
  Counts counts{};
  if (!file || !read_header(in, counts)) return unknown;
  if (content[4] < '2' || !in.has(counts.block_size(4))) return unknown;
  in.skip(counts.block_size(4));  // the old block of 32-bit times; the 64-bit one follows
  if (!read_header(in, counts) || !in.has(counts.block_size(8))) return unknown;
  std::vector<std::uint8_t> types(counts.times);
  std::vector<std::int64_t> type_offsets(counts.types);
  for (std::size_t i = 0; i < counts.times; ++i) zone.transitions_.push_back(in.big_endian(8));
  for (std::uint8_t& type : types) type = in.byte();
  for (std::int64_t& offset : type_offsets) {
    offset = in.big_endian(4);
    in.skip(2);
  }
  for (const std::uint8_t type : types) {
    if (type >= counts.types) return unknown;
    zone.offsets_.push_back(type_offsets[type]);
  }
  if (!std::is_sorted(zone.transitions_.begin(), zone.transitions_.end())) return unknown;
  zone.first_offset_ = type_offsets[0];
  in.skip(counts.chars + counts.leaps * 12 + counts.standard_flags + counts.utc_flags);
  std::string_view footer = in.rest();
  if (footer.size() >= 2 && footer.front() == '\n') {
    footer.remove_prefix(1);
    footer = footer.substr(0, footer.find('\n'));
  } else {
    footer = {};
  }
  if (footer.empty()) {
    zone.rule_.standard = zone.offsets_.empty() ? zone.first_offset_ : zone.offsets_.back();
  } else {
    KERF_ASSIGN(zone.rule_, parse_rule(footer));
  }
  return zone;
}

std::int64_t TimeZone::offset_by_rule(std::int64_t unix_seconds) const {
  if (!rule_.has_daylight) return rule_.standard;
  const std::int64_t year = year_of(unix_seconds + rule_.standard);
  const std::int64_t starts = local_second(rule_.starts, year) - rule_.standard;
  const std::int64_t ends = local_second(rule_.ends, year) - rule_.daylight;
  const bool daylight = starts < ends ? unix_seconds >= starts && unix_seconds < ends
                                      : unix_seconds >= starts || unix_seconds < ends;
  return daylight ? rule_.daylight : rule_.standard;
}

std::int64_t TimeZone::offset_at(std::int64_t unix_seconds) const {
  if (transitions_.empty() || unix_seconds >= transitions_.back()) {
    return offset_by_rule(unix_seconds);
  }
  const auto next = std::upper_bound(transitions_.begin(), transitions_.end(), unix_seconds);
  if (next == transitions_.begin()) return first_offset_;
  return offsets_[static_cast<std::size_t>(next - transitions_.begin()) - 1];
}

Result<WindowCheck> WindowCheck::make(const Window& window, const std::string& zone_folder) {
  const auto seconds = [](const std::string& text) {
    return (text.at(0) - '0') * 36000 + (text.at(1) - '0') * 3600 + (text.at(3) - '0') * 600 +
           (text.at(4) - '0') * 60;
  };
  WindowCheck check;
  KERF_ASSIGN(check.zone_, TimeZone::load(window.timezone, zone_folder));
  check.start_ = seconds(window.start);
  check.stop_ = seconds(window.stop);
  return check;
}

bool WindowCheck::open(Clock::WallTime now) const {
  const std::int64_t unix_seconds =
      std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
  const std::int64_t local = unix_seconds + zone_.offset_at(unix_seconds);
  const std::int64_t second = (local % kDay + kDay) % kDay;
  if (start_ == stop_) return true;
  if (start_ < stop_) return second >= start_ && second < stop_;
  return second >= start_ || second < stop_;
}

}  // namespace kerf::scheduler
