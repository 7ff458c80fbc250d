#include "workers/measure/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace kerf::measure {
namespace {

/// Pages that are resident, then given back.
void touch(std::size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  std::memset(pages, 1, bytes);
  ASSERT_EQ(munmap(pages, bytes), 0);
}

constexpr std::int64_t kMiB = 1 << 20;

TEST(PeakMemory, SeesWhatWasResidentForAMoment) {
  PeakMemory memory;
  memory.set_floor();
  touch(64 * kMiB);
  const auto peak = memory.peak_over_floor();
  ASSERT_TRUE(peak.has_value());
  EXPECT_GE(*peak, 63 * kMiB);
  EXPECT_LT(*peak, 80 * kMiB);
}

TEST(PeakMemory, ANewFloorForgetsTheOldPeak) {
  PeakMemory memory;
  touch(64 * kMiB);
  memory.set_floor();
  if (!memory.resets_peak()) GTEST_SKIP() << "/proc/self/clear_refs may not be written here";
  touch(8 * kMiB);
  const auto peak = memory.peak_over_floor();
  ASSERT_TRUE(peak.has_value());
  EXPECT_GE(*peak, 7 * kMiB);
  EXPECT_LT(*peak, 24 * kMiB);
}

}  // namespace
}  // namespace kerf::measure
