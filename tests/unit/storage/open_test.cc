#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "storage/data_lock.h"
#include "storage/sqlite/sqlite_store.h"
#include "store_fixture.h"

namespace kerf::storage {
namespace {

class OpenTest : public ::testing::Test {
 protected:
  [[nodiscard]] Error refused() const {
    const auto store = open_sqlite_store(path_, clock_);
    EXPECT_FALSE(store.has_value());
    return store.has_value() ? Error{} : store.error();
  }
  void raw(const std::string& sql) const {
    sqlite3* handle = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &handle), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(handle);
    sqlite3_close(handle);
  }

  /// The first value of an answer, read by SQLite as everybody has it.
  [[nodiscard]] std::string ask(const std::string& sql) const {
    sqlite3* handle = nullptr;
    EXPECT_EQ(sqlite3_open_v2(path_.c_str(), &handle, SQLITE_OPEN_READONLY, "unix"), SQLITE_OK);
    std::string answer;
    sqlite3_exec(
        handle, sql.c_str(),
        [](void* out, int, char** values, char**) {
          *static_cast<std::string*>(out) += values[0] == nullptr ? "null" : values[0];
          return 0;
        },
        &answer, nullptr);
    sqlite3_close(handle);
    return answer;
  }

  TemporaryDirectory folder_;
  ManualClock clock_;
  std::string path_ = folder_.file("kerf.db");
};

TEST_F(OpenTest, MakesTheFolderAndTheFile) {
  const std::string deep = folder_.file("a/b/kerf.db");
  EXPECT_TRUE(open_sqlite_store(deep, clock_).has_value());
  EXPECT_TRUE(std::filesystem::exists(deep));
}

TEST_F(OpenTest, SecondOpenerIsRefusedAndToldWhoHoldsIt) {
  const auto store = open_or_die(path_, clock_);
  const Error error = refused();
  EXPECT_EQ(error.code, ErrorCode::kFailedPrecondition);
  EXPECT_NE(error.message.find("process " + std::to_string(getpid())), std::string::npos)
      << error.message;
}

TEST_F(OpenTest, AnotherProcessIsRefusedUntilTheFirstIsGone) {
  auto store = open_or_die(path_, clock_);
  const auto try_open = [&]() -> std::string {
    const auto second = open_sqlite_store(path_, clock_);
    return second.has_value() ? "" : std::string(to_string(second.error().code));
  };
  EXPECT_EQ(in_child(try_open), "failed_precondition");
  store.reset();
  EXPECT_EQ(in_child(try_open), "");
}

TEST_F(OpenTest, LockOfADeadProcessIsFree) {
  const std::string said = in_child([&]() -> std::string {
    auto store = open_or_die(path_, clock_);
    raise(SIGKILL);
    return "survived";
  });
  EXPECT_NE(said.find("signal 9"), std::string::npos);
  EXPECT_TRUE(open_sqlite_store(path_, clock_).has_value());
}

TEST_F(OpenTest, MemoryStoreWorksWithoutAnyFile) {
  const auto store = open_or_die(":memory:", clock_);
  fill(*store, 5);
  EXPECT_EQ(store->studies("", 10).value().size(), 1U);
}

TEST_F(OpenTest, SeededRandomnessGivesTheSameIds) {
  const auto ids = [&] {
    std::uint64_t state = 7;
    auto store = open_sqlite_store(":memory:", clock_, {[state]() mutable { return state *= 3; }});
    return store.value()->create_study({}, "i", "").value().id +
           store.value()->create_study({}, "i", "").value().id;
  };
  EXPECT_EQ(ids(), ids());
}

TEST_F(OpenTest, AnotherProgramsDatabaseIsLeftAlone) {
  raw("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  EXPECT_EQ(refused().code, ErrorCode::kFailedPrecondition);
  raw("SELECT x FROM t");
}

TEST_F(OpenTest, NewerSchemaIsRefusedWithItsNumber) {
  { auto store = open_or_die(path_, clock_); }
  // Only the header changes, and SQLite without the checksum VFS doesn't renew the page's checksum:
  // the file is written as the newer program would, through the same VFS.
  sqlite3* handle = nullptr;
  ASSERT_EQ(sqlite3_open_v2(path_.c_str(), &handle, SQLITE_OPEN_READWRITE, "kerf-checksum"),
            SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(handle, "PRAGMA user_version = 99", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(handle);
  const Error error = refused();
  EXPECT_EQ(error.code, ErrorCode::kFailedPrecondition);
  EXPECT_NE(error.message.find("schema 99"), std::string::npos) << error.message;
}

TEST_F(OpenTest, FileThatIsNoDatabaseIsNamedWithTheWayBack) {
  std::ofstream(path_) << std::string(10'000, 'x');
  const Error error = refused();
  EXPECT_EQ(error.code, ErrorCode::kDataLoss);
  EXPECT_NE(error.message.find(path_), std::string::npos);
  EXPECT_NE(error.message.find("kerf restore"), std::string::npos);
}

TEST_F(OpenTest, DatabaseThatVanishedIsNotBegunAnew) {
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 3);
  }
  std::filesystem::remove(path_);
  EXPECT_EQ(refused().code, ErrorCode::kDataLoss);
  std::ofstream(path_).close();
  EXPECT_EQ(refused().code, ErrorCode::kDataLoss);
  EXPECT_EQ(std::filesystem::file_size(path_), 0U);
}

TEST_F(OpenTest, FolderThatIsAFileIsRefused) {
  std::ofstream(folder_.file("plain")) << "x";
  const auto store = open_sqlite_store(folder_.file("plain/kerf.db"), clock_);
  ASSERT_FALSE(store.has_value());
}

TEST_F(OpenTest, LateOutcomeIsKeptForTheRecordOnce) {
  {
    auto store = open_or_die(path_, clock_);
    const std::string study = store->create_study({{"name", "a"}}, "i", "").value().id;
    ASSERT_TRUE(store->enqueue(study, {trial_work(0)}).has_value());
    const WorkKey key{study, WorkKind::kTrial, 0};
    const LeaseGrant old = store->lease(key, "w").value();
    ASSERT_TRUE(store->release(key, old.token, {ErrorCode::kDeadlineExceeded, "late"}, 3).has_value());
    for (int n = 0; n < 5; ++n) {
      EXPECT_FALSE(store->finish({key, old.token, {{"accuracy", 0.25}}, {}, false}).has_value());
      // A token that was never given.
      EXPECT_FALSE(store->finish({key, 12345 + n, {{"accuracy", 0.5}}, {}, false}).has_value());
    }
  }
  EXPECT_EQ(ask("SELECT group_concat(token || ' ' || result) FROM late_outcomes"),
            "1 {\"accuracy\":0.25}");
}

TEST_F(OpenTest, PlainSqliteCanReadTheFile) {
  {
    auto store = open_or_die(path_, clock_);
    fill(*store, 3);
  }
  EXPECT_EQ(ask("PRAGMA integrity_check"), "ok");
}

}  // namespace
}  // namespace kerf::storage
