#include "workers/engine/lane_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <stdexcept>

namespace kerf::engine {
namespace {

TEST(LanePool, EveryLaneWorksOnceARun) {
  constexpr int kLanes = 3;
  LanePool pool(kLanes);
  std::array<int, kLanes> worked{};
  auto work = [&](int lane) { ++worked[static_cast<std::size_t>(lane)]; };
  constexpr int kRuns = 2000;
  for (int run = 1; run <= kRuns; ++run) {
    pool.run(work);
    // What the lanes wrote is seen when run() is back.
    ASSERT_EQ(std::accumulate(worked.begin(), worked.end(), 0), kLanes * run);
  }
  for (const int count : worked) EXPECT_EQ(count, kRuns);
}

TEST(LanePool, LanesThatSleptWakeUp) {
  LanePool pool(2);
  std::atomic<int> slow{0};
  // Lane 0 keeps the caller for longer than the other looks for work.
  auto work = [&](int lane) {
    if (lane != 0) return;
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(3);
    while (std::chrono::steady_clock::now() < until) ++slow;
  };
  for (int run = 0; run < 20; ++run) pool.run(work);
  EXPECT_GT(slow.load(), 0);
}

TEST(LanePool, WhatALaneThrowsReachesTheCallerAndThePoolGoesOn) {
  LanePool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    auto fails = [&](int lane) {
      if (lane == thrower) throw std::runtime_error("lane " + std::to_string(lane));
    };
    try {
      pool.run(fails);
      FAIL() << "nothing thrown by lane " << thrower;
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "lane " + std::to_string(thrower));
    }
  }
  std::atomic<int> worked{0};
  auto work = [&](int) { ++worked; };
  pool.run(work);
  EXPECT_EQ(worked.load(), 3);
}

TEST(LanePool, EndsWithoutHavingWorked) { const LanePool pool(4); }

}  // namespace
}  // namespace kerf::engine
