#include "scheduler/window.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>

namespace kerf::scheduler {
namespace {

using namespace std::chrono;

Clock::WallTime at(int y, unsigned m, unsigned d, int hour, int minute) {
  return Clock::WallTime(sys_days(year(y) / m / d).time_since_epoch() + hours(hour) +
                         minutes(minute));
}

std::int64_t unix_seconds(Clock::WallTime time) {
  return duration_cast<seconds>(time.time_since_epoch()).count();
}

WindowCheck window(const std::string& start, const std::string& stop, const std::string& zone) {
  auto made = WindowCheck::make({start, stop, zone});
  EXPECT_TRUE(made.has_value());
  return *made;
}

TEST(Window, OpensAtItsStartAndClosesAtItsStop) {
  const WindowCheck check = window("09:30", "17:00", "UTC");
  EXPECT_FALSE(check.open(at(2026, 5, 4, 9, 29)));
  EXPECT_TRUE(check.open(at(2026, 5, 4, 9, 30)));
  EXPECT_TRUE(check.open(at(2026, 5, 4, 16, 59)));
  EXPECT_FALSE(check.open(at(2026, 5, 4, 17, 0)));
}

TEST(Window, GoesOverMidnight) {
  const WindowCheck check = window("22:00", "06:00", "UTC");
  EXPECT_TRUE(check.open(at(2026, 5, 4, 23, 0)));
  EXPECT_TRUE(check.open(at(2026, 5, 5, 5, 59)));
  EXPECT_FALSE(check.open(at(2026, 5, 5, 6, 0)));
  EXPECT_FALSE(check.open(at(2026, 5, 5, 21, 59)));
}

TEST(Window, EqualTimesAreTheWholeDay) {
  const WindowCheck check = window("06:00", "06:00", "UTC");
  EXPECT_TRUE(check.open(at(2026, 5, 5, 6, 0)));
  EXPECT_TRUE(check.open(at(2026, 5, 5, 5, 59)));
}

TEST(Window, FollowsDaylightSavingOfItsZone) {
  const WindowCheck check = window("22:00", "06:00", "Europe/Berlin");
  EXPECT_TRUE(check.open(at(2026, 1, 10, 21, 0)));    // 22:00 CET
  EXPECT_FALSE(check.open(at(2026, 1, 10, 20, 59)));
  EXPECT_TRUE(check.open(at(2026, 7, 10, 20, 0)));    // 22:00 CEST
  EXPECT_FALSE(check.open(at(2026, 7, 10, 19, 59)));
}

TEST(Window, KnowsRulesBeyondTheZoneFilesTable) {
  const WindowCheck check = window("22:00", "06:00", "Europe/Berlin");
  EXPECT_TRUE(check.open(at(2090, 1, 10, 21, 0)));
  EXPECT_FALSE(check.open(at(2090, 1, 10, 20, 59)));
  EXPECT_TRUE(check.open(at(2090, 7, 10, 20, 0)));
  EXPECT_FALSE(check.open(at(2090, 7, 10, 19, 59)));
}

TEST(Window, AnUnknownZoneIsRefused) {
  for (const char* name : {"Mars/Olympus", "", "/etc/passwd", "../../../etc/passwd", "Europe",
                           "Europe/Berlin\n", "tzdata.zi"}) {
    const auto made = WindowCheck::make({"22:00", "06:00", name});
    ASSERT_FALSE(made.has_value()) << name;
    EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(TimeZone, DamagedZoneFilesAreRefusedNotRead) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("kerf-zones-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::ifstream real("/usr/share/zoneinfo/Europe/Berlin", std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(real)), {});
  ASSERT_GT(content.size(), 100U);
  for (std::size_t size = 0; size < content.size(); size += 7) {
    std::ofstream(folder / "Cut", std::ios::binary) << content.substr(0, size);
    const auto zone = TimeZone::load("Cut", folder.string());
    if (zone.has_value()) (void)zone->offset_at(1'000'000'000);
  }
  for (std::size_t at_byte = 0; at_byte < 60; ++at_byte) {
    std::string bent = content;
    bent[at_byte] = static_cast<char>(bent[at_byte] ^ 0xFF);
    std::ofstream(folder / "Bent", std::ios::binary) << bent;
    const auto zone = TimeZone::load("Bent", folder.string());
    if (zone.has_value()) (void)zone->offset_at(1'000'000'000);
  }
  std::filesystem::remove_all(folder);
}

// The C library reads the same files by its own code.
TEST(TimeZone, AgreesWithTheCLibraryOverACentury) {
  const char* before = std::getenv("TZ");
  const std::string kept = before != nullptr ? before : "";
  for (const char* name : {"Europe/Berlin", "America/New_York", "Asia/Kolkata",
                           "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Auckland",
                           "Africa/Casablanca", "Asia/Tehran", "Europe/Dublin"}) {
    const auto zone = TimeZone::load(name);
    ASSERT_TRUE(zone.has_value()) << name;
    setenv("TZ", name, 1);
    tzset();
    int different = 0;
    for (std::int64_t t = unix_seconds(at(1972, 1, 1, 0, 0)); t < unix_seconds(at(2070, 1, 1, 0, 0));
         t += 3600 * 7 + 61) {
      const std::time_t time = t;
      std::tm parts{};
      localtime_r(&time, &parts);
      if (zone->offset_at(t) != parts.tm_gmtoff) ++different;
    }
    EXPECT_EQ(different, 0) << name;
  }
  if (before != nullptr) {
    setenv("TZ", kept.c_str(), 1);
  } else {
    unsetenv("TZ");
  }
  tzset();
}

}  // namespace
}  // namespace kerf::scheduler
