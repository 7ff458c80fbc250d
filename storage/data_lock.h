#pragma once

#include <string>
#include <utility>

#include "core/result.h"
#include "storage/sync_file.h"

namespace kerf::storage {

/// The right to write in a data directory: flock(2) on DIR/lock. The kernel frees it when the
/// process ends, however it ends. The holder's pid stands in the file for people to read.
class DataLock {
 public:
  /// Creates the directory (0700) where it doesn't exist.
  ///
  /// Errors:   failed_precondition naming the holder's pid; resource_exhausted.
  [[nodiscard]] static Result<DataLock> take(const std::string& directory);

 private:
  explicit DataLock(Descriptor file) : file_(std::move(file)) {}

  Descriptor file_;
};

}  // namespace kerf::storage
