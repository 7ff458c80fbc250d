#include "workers/measure/host_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

namespace kerf::measure {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class HostLockTest : public testing::Test {
 protected:
  HostLockTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kerf-lock-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = pattern;
  }
  ~HostLockTest() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] HostLock open() const {
    auto lock = HostLock::open(folder_);
    if (!lock.has_value()) throw std::runtime_error(lock.error().message);
    return std::move(*lock);
  }

  std::string folder_;
};

WaitLimits at_once() {
  WaitLimits limits;
  limits.limit = milliseconds(0);
  return limits;
}

TEST_F(HostLockTest, SharedTurnsGoTogetherAndExcludeAnExclusiveOne) {
  HostLock a = open();
  HostLock b = open();
  HostLock c = open();
  auto first = a.shared();
  auto second = b.shared();
  ASSERT_TRUE(first.has_value() && second.has_value());
  const auto refused = c.exclusive(at_once());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(refused.error().message, HasSubstr(folder_));
  first->release();
  second->release();
  EXPECT_TRUE(c.exclusive(at_once()).has_value());
}

TEST_F(HostLockTest, AnExclusiveTurnExcludesEverybody) {
  HostLock a = open();
  HostLock b = open();
  {
    const auto turn = a.exclusive();
    ASSERT_TRUE(turn.has_value());
    EXPECT_TRUE(turn->held());
    EXPECT_FALSE(b.shared(at_once()).has_value());
    EXPECT_FALSE(b.exclusive(at_once()).has_value());
  }
  EXPECT_TRUE(b.shared(at_once()).has_value());
}

TEST_F(HostLockTest, WhoWaitedInVainLeavesNothingBehind) {
  HostLock a = open();
  HostLock b = open();
  HostLock c = open();
  const auto turn = a.shared();
  ASSERT_FALSE(b.exclusive(at_once()).has_value());
  EXPECT_FALSE(c.contended()) << "the turnstile is free again";
  EXPECT_TRUE(c.shared(at_once()).has_value());
}

TEST_F(HostLockTest, WaitingCanBeCancelled) {
  HostLock a = open();
  HostLock b = open();
  const auto turn = a.exclusive();
  WaitLimits limits;
  int asked = 0;
  limits.cancelled = [&] { return ++asked == 3; };
  const auto refused = b.shared(limits);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kCancelled);
}

TEST_F(HostLockTest, NewSharedTurnsQueueBehindAWaitingExclusiveOne) {
  HostLock reader = open();
  HostLock late = open();
  auto turn = reader.shared();
  ASSERT_TRUE(turn.has_value());
  std::atomic<bool> waiting = false;
  std::atomic<bool> entered = false;
  std::thread writer([&] {
    HostLock lock = open();
    WaitLimits limits;
    // Asked only while it waits for the readers, with the turnstile in its hands.
    limits.cancelled = [&] {
      waiting = true;
      waiting.notify_all();
      return false;
    };
    const auto own = lock.exclusive(limits);
    entered = own.has_value();
  });
  waiting.wait(false);
  EXPECT_TRUE(reader.contended());
  EXPECT_FALSE(late.shared(at_once()).has_value()) << "else readers could starve the writer for ever";
  EXPECT_FALSE(entered);
  turn->release();
  writer.join();
  EXPECT_TRUE(entered);
  EXPECT_TRUE(late.shared(at_once()).has_value());
}

TEST_F(HostLockTest, AWriterGetsInBetweenReadersThatNeverPause) {
  // Two readers always overlap: without the turnstile the lock would never be free.
  std::atomic<bool> stop = false;
  std::atomic<int> pieces = 0;
  std::vector<std::thread> readers;
  std::mutex mutex;
  std::condition_variable changed;
  int holding = 0;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      HostLock lock = open();
      while (!stop) {
        auto turn = lock.shared();
        if (!turn.has_value()) return;
        std::unique_lock guard(mutex);
        ++holding;
        ++pieces;
        changed.notify_all();
        // Leave only once the other one is in as well, or the writer stands between.
        changed.wait_for(guard, milliseconds(20), [&] { return holding == 2 || stop; });
        --holding;
      }
    });
  }
  {
    std::unique_lock guard(mutex);
    changed.wait(guard, [&] { return pieces > 4; });
  }
  HostLock writer = open();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(writer.exclusive().has_value());
  stop = true;
  changed.notify_all();
  for (std::thread& reader : readers) reader.join();
}

TEST_F(HostLockTest, AKilledProcessGivesItsTurnBack) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto lock = HostLock::open(folder_);
    const auto turn = lock->exclusive();
    const char byte = turn.has_value() ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  HostLock lock = open();
  EXPECT_FALSE(lock.shared(at_once()).has_value()) << "the other process has it";
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(lock.exclusive(at_once()).has_value());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(HostLockTest, ASecondTurnOfOneLockIsABug) {
  HostLock lock = open();
  const auto turn = lock.shared();
  EXPECT_THROW((void)lock.shared(), std::logic_error);
}

TEST_F(HostLockTest, ATurnMoves) {
  HostLock a = open();
  HostLock b = open();
  auto turn = a.exclusive();
  ASSERT_TRUE(turn.has_value());
  HostLock::Turn mine = std::move(*turn);
  EXPECT_TRUE(mine.held());
  EXPECT_FALSE(turn->held());
  EXPECT_FALSE(b.shared(at_once()).has_value());
  mine = HostLock::Turn();
  EXPECT_TRUE(b.shared(at_once()).has_value());
}

TEST_F(HostLockTest, ALongWorkerLetsAWaitingMeasurementIn) {
  HostLock worker = open();
  SharedTurn turn(&worker, {}, milliseconds(0));
  ASSERT_TRUE(turn.next().has_value());
  std::atomic<bool> waiting = false;
  std::atomic<bool> measured = false;
  std::thread measurement([&] {
    HostLock lock = open();
    WaitLimits limits;
    limits.cancelled = [&] {
      waiting = true;
      waiting.notify_all();
      return false;
    };
    const auto own = lock.exclusive(limits);
    measured = own.has_value();
  });
  waiting.wait(false);
  ASSERT_TRUE(turn.next().has_value()) << "gives way, then takes its turn again";
  measurement.join();
  EXPECT_TRUE(measured);
  EXPECT_FALSE(worker.contended());
}

TEST_F(HostLockTest, SharedTurnWithoutALockIsFree) {
  SharedTurn turn(nullptr, {});
  EXPECT_TRUE(turn.next().has_value());
  EXPECT_EQ(turn.waited_ms(), 0);
}

TEST_F(HostLockTest, TheEnvironmentNamesTheFolder) {
  ASSERT_EQ(setenv("KERF_LOCK_DIR", (folder_ + "/of/mine").c_str(), 1), 0);
  const auto lock = HostLock::open();
  EXPECT_TRUE(lock.has_value());
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/of/mine/host.lock"));
  ASSERT_EQ(unsetenv("KERF_LOCK_DIR"), 0);
  EXPECT_EQ(HostLock::default_directory(), "/tmp/kerf-" + std::to_string(geteuid()));
}

TEST_F(HostLockTest, AFolderThatCannotBeMadeIsAnError) {
  const auto lock = HostLock::open("/proc/nothing/here");
  ASSERT_FALSE(lock.has_value());
  EXPECT_EQ(lock.error().code, ErrorCode::kUnavailable);
}

TEST_F(HostLockTest, ALinkInPlaceOfAFileIsRefused) {
  std::filesystem::create_symlink("/etc/passwd", folder_ + "/host.lock");
  EXPECT_FALSE(HostLock::open(folder_).has_value());
}

}  // namespace
}  // namespace kerf::measure
