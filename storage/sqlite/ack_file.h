#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/result.h"
#include "storage/sync_file.h"

namespace kerf::storage {

/// How many transactions were acknowledged, in a file of its own beside the database.
///
/// SQLite takes a damaged frame for the end of the WAL and drops what follows without a word. The
/// count says whether acknowledged transactions are missing after that. It is written after each
/// commit and never synced: a killed process doesn't lose it, and after a power cut it may be too
/// low, which only makes it say less.
///
/// Bytes:    "KRFACK01", u64 count, u64 check (count xor a constant, times an odd one), all
///           little-endian. A file that doesn't match counts as 0.
class AckFile {
 public:
  [[nodiscard]] static Result<AckFile> open(const std::string& path);

  [[nodiscard]] std::uint64_t count() const { return count_; }
  /// Never fails: a count that can't be written is too low, which is allowed.
  void write(std::uint64_t count);

 private:
  AckFile(Descriptor file, std::uint64_t count) : file_(std::move(file)), count_(count) {}

  Descriptor file_;
  std::uint64_t count_ = 0;
};

}  // namespace kerf::storage
