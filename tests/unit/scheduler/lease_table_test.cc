#include "scheduler/lease_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kerf::scheduler {
namespace {

using std::chrono::seconds;

class LeaseTableTest : public testing::Test {
 protected:
  WorkerInfo worker(const std::string& id) {
    WorkerInfo info;
    info.id = id;
    return info;
  }
  WorkKey key(std::int64_t number) { return {"s", WorkKind::kTrial, number}; }

  ManualClock clock;
  LeaseTable table{{seconds(20), seconds(100)}, clock};
};

TEST_F(LeaseTableTest, ALeaseLapsesWithoutHeartbeats) {
  table.join(worker("a"));
  table.grant(key(1), 7, "a");
  clock.advance(seconds(19));
  EXPECT_TRUE(table.expire().empty());
  clock.advance(seconds(1));
  const auto lapsed = table.expire();
  ASSERT_EQ(lapsed.size(), 1U);
  EXPECT_EQ(lapsed[0].lease.token, 7);
  EXPECT_EQ(lapsed[0].error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_TRUE(table.leases().empty());
}

TEST_F(LeaseTableTest, HeartbeatsExtendALease) {
  table.join(worker("a"));
  table.grant(key(1), 7, "a");
  for (int i = 1; i <= 5; ++i) {
    clock.advance(seconds(15));
    EXPECT_TRUE(table.heartbeat(key(1), 7, "a", {i, "latency", 0.5}).has_value());
    EXPECT_TRUE(table.expire().empty());
  }
}

TEST_F(LeaseTableTest, HeartbeatsWithoutProgressDoNot) {
  table.join(worker("a"));
  table.grant(key(1), 7, "a");
  for (int i = 0; i < 9; ++i) {
    clock.advance(seconds(10));
    ASSERT_TRUE(table.heartbeat(key(1), 7, "a", {1, "compress", 0.5}).has_value());
    ASSERT_TRUE(table.expire().empty()) << i;
  }
  clock.advance(seconds(10));
  ASSERT_TRUE(table.heartbeat(key(1), 7, "a", {1, "compress", 0.5}).has_value());
  EXPECT_TRUE(table.expire().empty());  // progress was told at 10 s
  clock.advance(seconds(10));
  const auto lapsed = table.expire();
  ASSERT_EQ(lapsed.size(), 1U);
  EXPECT_THAT(lapsed[0].error.message, testing::StartsWith("no progress"));
}

TEST_F(LeaseTableTest, AnOldTokenIsNotHeard) {
  table.join(worker("a"));
  table.grant(key(1), 7, "a");
  table.grant(key(1), 9, "b");
  EXPECT_EQ(table.heartbeat(key(1), 7, "a", {}).error().code, ErrorCode::kAborted);
  EXPECT_FALSE(table.finish(key(1), 7).has_value());
  EXPECT_TRUE(table.finish(key(1), 9).has_value());
  EXPECT_EQ(table.heartbeat(key(1), 9, "b", {}).error().code, ErrorCode::kAborted);
}

TEST_F(LeaseTableTest, AWorkerThatLeavesLosesItsLeasesAfterTheGrace) {
  table.join(worker("a"));
  table.join(worker("b"));
  table.grant(key(1), 7, "a");
  table.grant(key(2), 8, "b");
  table.leave("a", seconds(5));
  EXPECT_TRUE(table.expire().empty());
  clock.advance(seconds(5));
  const auto lapsed = table.expire();
  ASSERT_EQ(lapsed.size(), 1U);
  EXPECT_EQ(lapsed[0].lease.key, key(1));
  EXPECT_EQ(lapsed[0].error.code, ErrorCode::kUnavailable);
}

TEST_F(LeaseTableTest, AWorkerThatComesBackInTimeGoesOnWithItsLease) {
  table.join(worker("a"));
  table.grant(key(1), 7, "a");
  table.leave("a", seconds(5));
  clock.advance(seconds(3));
  table.join(worker("a2"));
  ASSERT_TRUE(table.heartbeat(key(1), 7, "a2", {1, "accuracy", 0.1}).has_value());
  clock.advance(seconds(10));
  EXPECT_TRUE(table.expire().empty());
  EXPECT_EQ(table.leases_of_worker("a2").size(), 1U);
}

TEST_F(LeaseTableTest, WallClockJumpsChangeNothing) {
  table.join(worker("a"));
  table.grant(key(1), 7, "a");
  clock.jump_wall(std::chrono::hours(24 * 3650));
  EXPECT_TRUE(table.expire().empty());
  clock.jump_wall(-std::chrono::hours(2 * 24 * 3650));
  EXPECT_TRUE(table.expire().empty());
}

TEST_F(LeaseTableTest, NextExpiryIsTheNearestDeadline) {
  EXPECT_FALSE(table.next_expiry().has_value());
  table.grant(key(1), 1, "a");
  clock.advance(seconds(5));
  table.grant(key(2), 2, "a");
  EXPECT_EQ(*table.next_expiry(), clock.steady_now() + seconds(15));
}

}  // namespace
}  // namespace kerf::scheduler
