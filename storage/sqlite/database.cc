#include "storage/sqlite/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "storage/sqlite/checksum_vfs.h"
#include "storage/sync_file.h"

namespace kerf::storage {
namespace {

constexpr int kBusyTimeoutMs = 5000;

[[noreturn]] void fail(sqlite3* handle, int code) {
  if (handle == nullptr) throw SqliteFailure(code, sqlite3_errstr(code));
  throw SqliteFailure(sqlite3_extended_errcode(handle), sqlite3_errmsg(handle));
}

void check(sqlite3* handle, int code) {
  if (code != SQLITE_OK) fail(handle, code);
}

}  // namespace

Error SqliteFailure::error() const {
  ErrorCode code = ErrorCode::kInternal;
  switch (code_ & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      code = ErrorCode::kDataLoss;
      break;
    case SQLITE_IOERR:
      code = code_ == SQLITE_IOERR_DATA || code_ == SQLITE_IOERR_SHORT_READ ||
                     code_ == SQLITE_IOERR_READ || code_ == SQLITE_IOERR_CORRUPTFS
                 ? ErrorCode::kDataLoss
                 : ErrorCode::kResourceExhausted;
      break;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      code = ErrorCode::kResourceExhausted;
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      code = ErrorCode::kUnavailable;
      break;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      code = ErrorCode::kFailedPrecondition;
      break;
    default:
      break;
  }
  return {code, message_};
}

void Database::Close::operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
void Database::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Database::Database(const std::string& path, OpenMode mode) {
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  if (mode != OpenMode::kReader) flags |= SQLITE_OPEN_CREATE;
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, checksum_vfs());
  handle_.reset(handle);
  if (code != SQLITE_OK) fail(handle, code);
  check(handle, sqlite3_busy_timeout(handle, kBusyTimeoutMs));
  set_checkpoint_on_close(false);
  int reserved = static_cast<int>(kPageReserved);
  check(handle, sqlite3_file_control(handle, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved));
  execute("PRAGMA page_size = " + std::to_string(kPageSize));
  execute("PRAGMA trusted_schema = OFF");
  execute("PRAGMA cell_size_check = ON");
  execute("PRAGMA foreign_keys = ON");
  execute("PRAGMA synchronous = FULL");
  switch (mode) {
    case OpenMode::kOwner: {
      Query journal(*this, "PRAGMA journal_mode = WAL");
      if (!journal.next() || (journal.text(0) != "wal" && journal.text(0) != "memory")) {
        throw SqliteFailure(SQLITE_CANTOPEN, "the file system doesn't allow a write-ahead log");
      }
      break;
    }
    case OpenMode::kReader:
      execute("PRAGMA wal_autocheckpoint = 0");
      execute("PRAGMA query_only = ON");
      break;
    case OpenMode::kCopy:
      // A copy says in its header that it has a WAL, as its original does, until it is told.
      execute("PRAGMA journal_mode = DELETE");
      break;
  }
}

void Database::execute(const std::string& sql) {
  check(handle_.get(), sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr));
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(handle_.get()) == 0; }

std::int64_t Database::changes() const { return sqlite3_changes64(handle_.get()); }

std::string Database::quick_check() {
  Query query(*this, "PRAGMA quick_check(1)");
  return query.next() ? query.text(0) : "no answer";
}

void Database::set_checkpoint_on_close(bool on) {
  check(handle_.get(),
        sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on ? 0 : 1, nullptr));
}

sqlite3_stmt* Database::prepared(std::string_view sql) {
  if (const auto found = statements_.find(sql); found != statements_.end()) {
    return found->second.get();
  }
  sqlite3_stmt* statement = nullptr;
  check(handle_.get(), sqlite3_prepare_v3(handle_.get(), sql.data(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &statement, nullptr));
  return statements_.emplace(sql, statement).first->second.get();
}

Query::~Query() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

bool Query::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  fail(database_.handle(), code);
}

std::int64_t Query::run() {
  while (next()) {
  }
  return database_.changes();
}

std::int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }

double Query::real(int column) const { return sqlite3_column_double(statement_, column); }

std::string Query::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

void Query::bind(int index, std::int64_t value) {
  check(database_.handle(), sqlite3_bind_int64(statement_, index, value));
}

void Query::bind(int index, double value) {
  check(database_.handle(), sqlite3_bind_double(statement_, index, value));
}

void Query::bind(int index, std::string_view value) {
  check(database_.handle(),
        sqlite3_bind_text64(statement_, index, value.data() == nullptr ? "" : value.data(),
                            value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Query::bind(int index, const std::optional<std::string>& value) {
  if (value) {
    bind(index, std::string_view(*value));
  } else {
    check(database_.handle(), sqlite3_bind_null(statement_, index));
  }
}

std::optional<Error> copy_database(Database& from, const std::string& to) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(to, ignored))) {
    return Error{ErrorCode::kAlreadyExists, to + " exists already; a backup never overwrites"};
  }
  const std::string part = to + ".part-" + std::to_string(getpid());
  struct Remove {
    const std::string& path;
    ~Remove() {
      std::error_code code;
      fs::remove(path, code);
      fs::remove(path + "-journal", code);
    }
  } remove{part};
  fs::remove(part, ignored);
  {
    Database copy(part, OpenMode::kCopy);
    sqlite3_backup* backup = sqlite3_backup_init(copy.handle(), "main", from.handle(), "main");
    if (backup == nullptr) fail(copy.handle(), SQLITE_ERROR);
    const int code = sqlite3_backup_step(backup, -1);
    sqlite3_backup_finish(backup);
    if (code != SQLITE_DONE) throw SqliteFailure(code, sqlite3_errstr(code));
  }
  {
    Database copy(part, OpenMode::kCopy);
    if (const std::string found = copy.quick_check(); found != "ok") {
      return Error{ErrorCode::kDataLoss, part + ": " + found};
    }
  }
  if (auto synced = sync_path(part); !synced.has_value()) return synced.error();
  // link(2), unlike rename(2), fails where the name has been taken meanwhile.
  if (link(part.c_str(), to.c_str()) != 0) return file_error("cannot create", to, errno);
  if (auto synced = sync_parent(to); !synced.has_value()) return synced.error();
  return std::nullopt;
}

}  // namespace kerf::storage
