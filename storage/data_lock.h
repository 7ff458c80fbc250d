#pragma once

#include <string>

#include "core/result.h"

namespace kerf::storage {

/// The right to write in a data directory: flock(2) on DIR/lock. The kernel frees it when the
/// process ends, however it ends. The holder's pid stands in the file for people to read.
class DataLock {
 public:
  /// Creates the directory (0700) where it doesn't exist.
  ///
  /// Errors:   failed_precondition naming the holder's pid; resource_exhausted.
  [[nodiscard]] static Result<DataLock> take(const std::string& directory);

  DataLock(DataLock&& other) noexcept;
  DataLock& operator=(DataLock&& other) noexcept;
  ~DataLock();

 private:
  explicit DataLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_ = -1;
};

}  // namespace kerf::storage
