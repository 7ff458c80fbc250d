#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "storage/sqlite/sqlite_store.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

class BackupTest : public ::testing::Test {
 protected:
  TemporaryDirectory folder_;
  ManualClock clock_;
  std::string path_ = folder_.file("data/kerf.db");
  std::string backup_ = folder_.file("kerf.backup");
};

TEST_F(BackupTest, RestoredBackupIsWhatWasBackedUp) {
  Json before;
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 30);
    before = dump(*store);
    ASSERT_TRUE(store->backup_to(backup_).has_value());
    (void)store->create_study({{"name", "later"}}, "later", "").value();
  }
  ASSERT_TRUE(restore_sqlite_store(backup_, path_).has_value());
  auto store = open_or_die(path_, clock_);
  EXPECT_EQ(dump(*store), before);
}

TEST_F(BackupTest, AnotherProcessCanBackUpWhileTheStoreIsInUse) {
  auto store = open_or_die(path_, clock_);
  const std::string study = fill(*store, 30);
  const Json before = dump(*store);
  const std::string said = in_child([&]() -> std::string {
    const auto done = backup_sqlite_store(path_, backup_);
    return done.has_value() ? "" : done.error().message;
  });
  EXPECT_EQ(said, "");
  EXPECT_TRUE(store->enqueue(study, {trial_work(1000)}).has_value());
  store.reset();
  ASSERT_TRUE(restore_sqlite_store(backup_, path_).has_value());
  EXPECT_EQ(dump(*open_or_die(path_, clock_)), before);
}

TEST_F(BackupTest, ClosedStoreCanBeBackedUp) {
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 3);
  }
  EXPECT_TRUE(backup_sqlite_store(path_, backup_).has_value());
  for (const char* suffix : {"-wal", "-shm", "-journal"}) EXPECT_FALSE(fs::exists(backup_ + suffix));
  EXPECT_EQ(backup_sqlite_store(path_, backup_).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(backup_sqlite_store(folder_.file("none"), backup_).error().code, ErrorCode::kNotFound);
}

TEST_F(BackupTest, TokensGoOnGrowingAfterARestore) {
  std::int64_t last = 0;
  std::string study;
  {
    auto store = open_or_die(path_, clock_);
    study = store->create_study({{"name", "a"}}, "i", "").value().id;
    ASSERT_TRUE(store->enqueue(study, {trial_work(0), trial_work(1)}).has_value());
    ASSERT_TRUE(store->backup_to(backup_).has_value());
    last = store->lease({study, WorkKind::kTrial, 0}, "w").value().token;
  }
  ASSERT_TRUE(restore_sqlite_store(backup_, path_).has_value());
  auto store = open_or_die(path_, clock_);
  EXPECT_GT(store->lease({study, WorkKind::kTrial, 1}, "w").value().token, last);
}

TEST_F(BackupTest, RestoreKeepsWhatWasThere) {
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 3);
    ASSERT_TRUE(store->backup_to(backup_).has_value());
  }
  ASSERT_TRUE(restore_sqlite_store(backup_, path_).has_value());
  ASSERT_TRUE(restore_sqlite_store(backup_, path_).has_value());
  EXPECT_TRUE(fs::exists(path_ + ".before-restore-1"));
  EXPECT_TRUE(fs::exists(path_ + ".before-restore-2"));
}

TEST_F(BackupTest, RestoreMendsADatabaseThatIsRefused) {
  Json before;
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 3);
    before = dump(*store);
    ASSERT_TRUE(store->backup_to(backup_).has_value());
  }
  std::ofstream(path_) << "not a database any more";
  ASSERT_EQ(open_sqlite_store(path_, clock_).error().code, ErrorCode::kDataLoss);
  ASSERT_TRUE(restore_sqlite_store(backup_, path_).has_value());
  EXPECT_EQ(dump(*open_or_die(path_, clock_)), before);
}

TEST_F(BackupTest, DamagedBackupIsRefusedAndChangesNothing) {
  Json before;
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 30);
    before = dump(*store);
    ASSERT_TRUE(store->backup_to(backup_).has_value());
  }
  const auto size = fs::file_size(backup_);
  std::fstream file(backup_, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(size / 2));
  file.put('\xA5').put('\x5A');
  file.close();
  const auto restored = restore_sqlite_store(backup_, path_);
  ASSERT_FALSE(restored.has_value());
  EXPECT_EQ(restored.error().code, ErrorCode::kDataLoss);
  EXPECT_EQ(dump(*open_or_die(path_, clock_)), before);
}

TEST_F(BackupTest, RestoreOverAStoreInUseIsRefused) {
  auto store = open_or_die(path_, clock_);
  fill(*store, 3);
  ASSERT_TRUE(store->backup_to(backup_).has_value());
  EXPECT_EQ(restore_sqlite_store(backup_, path_).error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(BackupTest, RestoreIntoAnEmptyFolderWorks) {
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 3);
    ASSERT_TRUE(store->backup_to(backup_).has_value());
  }
  const std::string other = folder_.file("elsewhere/kerf.db");
  ASSERT_TRUE(restore_sqlite_store(backup_, other).has_value());
  EXPECT_TRUE(open_sqlite_store(other, clock_).has_value());
}

}  // namespace
}  // namespace kerf::storage
