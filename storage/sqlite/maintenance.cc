// Opening, backing up and restoring: what happens to whole database files.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "storage/sqlite/checksum_vfs.h"
#include "storage/sqlite/migrations.h"
#include "storage/sqlite/store_impl.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic{"SQLite format 3\0", 16};
/// Restoring goes back in time, tokens mustn't: leases of the time that is lost stay stale.
constexpr std::int64_t kTokenGap = 1'000'000'000'000;

std::string folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

bool exists(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0;
}

/// A look at the first bytes before SQLite has one, which takes an empty file for a new database.
Result<void> check_header(const std::string& path, std::uint64_t acknowledged) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.open() && errno != ENOENT) return file_error("cannot open", path, errno);
  struct stat status {};
  if (file.open() && fstat(file.get(), &status) != 0) {
    return file_error("cannot read", path, errno);
  }
  if (file.open() && !S_ISREG(status.st_mode)) {
    return Error{ErrorCode::kFailedPrecondition, path + " is no regular file"};
  }
  if (!file.open() || status.st_size == 0) {
    if (acknowledged == 0) return {};
    return damaged(path, std::string(file.open() ? "it is empty" : "it is missing") + " after " +
                             std::to_string(acknowledged) + " transactions");
  }
  // A creation that was interrupted left a journal, from which SQLite undoes it.
  if (exists(path + "-journal")) return {};
  std::array<unsigned char, 100> header{};
  const ssize_t got = pread(file.get(), header.data(), header.size(), 0);
  if (got != static_cast<ssize_t>(header.size()) ||
      std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0) {
    return damaged(path, "it doesn't begin as a database does");
  }
  const std::uint32_t application = static_cast<std::uint32_t>(header[68]) << 24U |
                                    static_cast<std::uint32_t>(header[69]) << 16U |
                                    static_cast<std::uint32_t>(header[70]) << 8U | header[71];
  // Two signs, far from each other: one damaged byte doesn't make it somebody else's.
  if (application != static_cast<std::uint32_t>(kApplicationId) && header[20] != kPageReserved) {
    return Error{ErrorCode::kFailedPrecondition, path + " is another program's database"};
  }
  return {};
}

std::int64_t sequence_of(Database& database) {
  {
    Query schema(database, "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'");
    if (!schema.next() || schema.integer(0) == 0) return 0;
  }
  Query query(database, "SELECT value FROM meta WHERE name = 'sequence'");
  return query.next() ? query.integer(0) : 0;
}

/// Reads everything once and compares with what was acknowledged.
std::optional<Error> check_whole(Database& database, const std::string& path,
                                 std::uint64_t acknowledged) {
  if (const std::string found = database.quick_check(); found != "ok") return damaged(path, found);
  const auto sequence = static_cast<std::uint64_t>(sequence_of(database));
  if (sequence < acknowledged) {
    return damaged(path, std::to_string(acknowledged - sequence) +
                             " acknowledged transactions are missing at its end");
  }
  return std::nullopt;
}

/// The error of a failed open: the same words for all damage.
Error open_error(const std::string& path, const SqliteFailure& failure) {
  const Error error = failure.error();
  if (error.code == ErrorCode::kDataLoss) return damaged(path, error.message);
  return with_context(path, error);
}

/// A name beside `path` that is free.
std::string free_name(const std::string& path) {
  for (int n = 1;; ++n) {
    std::string name = path + ".before-restore-" + std::to_string(n);
    if (!exists(name) && !exists(name + "-wal")) return name;
  }
}

Result<void> rename_file(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT) return {};
  return file_error("cannot rename", from, errno);
}

}  // namespace

Result<std::unique_ptr<StudyStore>> open_sqlite_store(const std::string& path, const Clock& clock,
                                                      SqliteStoreOptions options) {
  std::optional<DataLock> lock;
  std::optional<AckFile> ack;
  if (path != ":memory:") {
    signal(SIGXFSZ, SIG_IGN);
    KERF_ASSIGN(lock, DataLock::take(folder_of(path)));
    KERF_ASSIGN(ack, AckFile::open(path + "-ack"));
    KERF_TRY(check_header(path, ack->count()));
  }
  try {
    Database database(path, OpenMode::kOwner);
    if (auto error = check_whole(database, path, ack ? ack->count() : 0)) return *error;
    if (auto error = migrate(database, path)) return *error;
    if (ack) ack->write(static_cast<std::uint64_t>(sequence_of(database)));
    database.set_checkpoint_on_close(true);
    return std::unique_ptr<StudyStore>(std::make_unique<SqliteStore>(
        path, clock, std::move(options), std::move(lock), std::move(ack), std::move(database)));
  } catch (const SqliteFailure& failure) {
    return open_error(path, failure);
  }
}

Result<void> backup_sqlite_store(const std::string& from, const std::string& to) {
  if (!exists(from)) return not_found(from + ": no such file");
  std::uint64_t acknowledged = 0;
  if (exists(from + "-ack")) {
    // Before the database, which may grow meanwhile: what it has is then never too little.
    KERF_ASSIGN(const AckFile ack, AckFile::open(from + "-ack"));
    acknowledged = ack.count();
  }
  try {
    Database database(from, OpenMode::kReader);
    if (auto error = check_whole(database, from, acknowledged)) return *error;
    if (sequence_of(database) == 0 && acknowledged == 0) {
      Query ours(database, "PRAGMA application_id");
      if (!ours.next() || ours.integer(0) != kApplicationId) {
        return Error{ErrorCode::kFailedPrecondition, from + " is not a database of kerf's"};
      }
    }
    if (auto error = copy_database(database, to)) return *error;
    return {};
  } catch (const SqliteFailure& failure) {
    return open_error(from, failure);
  }
}

Result<void> restore_sqlite_store(const std::string& from, const std::string& to) {
  if (!exists(from)) return not_found(from + ": no such file");
  KERF_ASSIGN(const DataLock lock, DataLock::take(folder_of(to)));
  KERF_TRY(check_header(from, 0));
  const std::string fresh = to + ".restoring";
  for (const char* suffix : {"", "-journal", "-wal", "-shm"}) unlink((fresh + suffix).c_str());
  try {
    {
      Database backup(from, OpenMode::kReader);
      if (auto error = check_whole(backup, from, 0)) return *error;
      if (auto error = copy_database(backup, fresh)) return *error;
    }
    Database copy(fresh, OpenMode::kCopy);
    if (auto error = migrate(copy, from)) return *error;
    Query(copy, "UPDATE meta SET value = value + ?1 WHERE name = 'token'", kTokenGap).run();
  } catch (const SqliteFailure& failure) {
    unlink(fresh.c_str());
    return open_error(from, failure);
  }
  KERF_TRY(sync_path(fresh));
  const std::string kept = free_name(to);
  KERF_TRY(rename_file(to, kept));
  KERF_TRY(rename_file(to + "-wal", kept + "-wal"));
  unlink((to + "-shm").c_str());
  unlink((to + "-journal").c_str());
  KERF_TRY(rename_file(fresh, to));
  // Last: until then a start after an interruption says that something is missing, instead of
  // beginning an empty database.
  unlink((to + "-ack").c_str());
  return sync_parent(to);
}

}  // namespace kerf::storage
