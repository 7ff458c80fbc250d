#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "storage/study_store.h"

namespace kerf::storage {

struct SqliteStoreOptions {
  /// Random bits for ids. Empty = the system's; a seeded one makes a simulation repeat itself.
  std::function<std::uint64_t()> random;
};

/// Opens the store in the file `path`, creating it and its folder where they don't exist, and
/// bringing an older schema up to date. Holds the lock of the folder (data_lock.h) while it lives.
/// ":memory:" keeps everything in memory, without a lock: for simulations.
///
/// The file is an SQLite database in WAL mode whose pages carry checksums (checksum_vfs.h). Beside
/// it lies `path`-ack: how many transactions were acknowledged, so that a lost or cut WAL is noticed.
/// SIGXFSZ is ignored from then on: a file that may not grow is an error here, not a death.
///
/// Errors:   failed_precondition where another process holds the folder (its pid is named), the
///           file is some other database, or a newer kerf wrote it; data_loss where it is damaged,
///           naming the file and the way back; resource_exhausted where the disk is full.
/// Threads:  the store belongs to one thread at a time. `clock` must outlive it.
[[nodiscard]] Result<std::unique_ptr<StudyStore>> open_sqlite_store(
    const std::string& path, const Clock& clock, SqliteStoreOptions options = {});

/// Copies the database `from`, which another process may be using, to `to`: read-only, complete,
/// checked, and renamed into place at the end.
///
/// Errors:   not_found, data_loss (of `from`), resource_exhausted, already_exists (`to` is there).
[[nodiscard]] Result<void> backup_sqlite_store(const std::string& from, const std::string& to);

/// Puts the backup `from` in the place of the database `to`, under the folder's lock. What was
/// there before is kept as `to`.before-restore-N.
///
/// Errors:   not_found; data_loss where the backup itself is damaged (nothing is changed then);
///           failed_precondition where the folder is in use; resource_exhausted.
[[nodiscard]] Result<void> restore_sqlite_store(const std::string& from, const std::string& to);

}  // namespace kerf::storage
