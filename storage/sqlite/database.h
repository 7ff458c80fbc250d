#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace kerf::storage {

/// SQLite refused. Inside storage/sqlite only: the store turns it into an Error, or, where the
/// database is damaged, into a DamagedDatabase.
class SqliteFailure : public std::exception {
 public:
  SqliteFailure(int code, std::string message) : code_(code), message_(std::move(message)) {}

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  /// SQLite's extended result code.
  [[nodiscard]] int code() const { return code_; }
  /// data_loss for damage, resource_exhausted for a full disk or one that fails to write,
  /// unavailable for a lock that wasn't had in time, else internal. The message is SQLite's.
  [[nodiscard]] Error error() const;

 private:
  int code_;
  std::string message_;
};

enum class OpenMode {
  kOwner,   ///< Reads and writes; creates; the only one that may.
  kReader,  ///< Beside an owner: never writes, never checkpoints.
  kCopy,    ///< A new single file (rollback journal), to copy into.
};

/// One connection with prepared statements, cached by their text.
class Database {
 public:
  /// Opens through the checksum VFS and sets what every connection needs. Throws SqliteFailure.
  Database(const std::string& path, OpenMode mode);

  /// Runs SQL without results.
  void execute(const std::string& sql);

  [[nodiscard]] bool in_transaction() const;
  [[nodiscard]] std::int64_t changes() const;
  [[nodiscard]] sqlite3* handle() const { return handle_.get(); }

  /// "ok", or what PRAGMA quick_check found first. Reads every page.
  [[nodiscard]] std::string quick_check();

  /// A closing owner copies the WAL into the database. Off while it isn't known to be whole, so that
  /// files which were found damaged stay as they were found.
  void set_checkpoint_on_close(bool on);

 private:
  friend class Query;
  struct Close {
    void operator()(sqlite3* handle) const;
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  [[nodiscard]] sqlite3_stmt* prepared(std::string_view sql);

  std::unique_ptr<sqlite3, Close> handle_;
  std::map<std::string, std::unique_ptr<sqlite3_stmt, Finalize>, std::less<>> statements_;
};

/// One execution of a cached statement: bind, then next() until it says false. A text may be in use
/// once at a time.
class Query {
 public:
  template <class... Values>
  Query(Database& database, std::string_view sql, const Values&... values)
      : database_(database), statement_(database.prepared(sql)) {
    int index = 0;
    (bind(++index, values), ...);
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query();

  /// Whether there is a(nother) row.
  [[nodiscard]] bool next();
  /// Runs a statement that gives no rows; returns how many rows it changed.
  std::int64_t run();

  [[nodiscard]] std::int64_t integer(int column) const;
  [[nodiscard]] double real(int column) const;
  [[nodiscard]] std::string text(int column) const;
  [[nodiscard]] bool is_null(int column) const;

 private:
  void bind(int index, std::int64_t value);
  void bind(int index, int value) { bind(index, static_cast<std::int64_t>(value)); }
  void bind(int index, double value);
  void bind(int index, std::string_view value);
  void bind(int index, const std::string& value) { bind(index, std::string_view(value)); }
  void bind(int index, const char* value) { bind(index, std::string_view(value)); }
  void bind(int index, const std::optional<std::string>& value);

  Database& database_;
  sqlite3_stmt* statement_;
};

/// Copies everything that `from` sees to a new file `to` with SQLite's online backup, checks the
/// copy, syncs it and gives it its name at the end. Throws SqliteFailure.
///
/// Errors:   already_exists, resource_exhausted, data_loss.
[[nodiscard]] std::optional<Error> copy_database(Database& from, const std::string& to);

}  // namespace kerf::storage
