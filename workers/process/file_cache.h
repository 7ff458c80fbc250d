#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/sha256.h"

namespace kerf::process {

/// Files of a worker that doesn't share the server's disk, by their content's SHA-256:
/// DIR/<64 hex digits>. All workers of a host share one folder.
///
/// A file appears whole and checked, or not at all. The oldest files that nobody here needs go
/// where all together pass the limit.
class FileCache {
 public:
  /// Errors:   permission_denied or unavailable where the folder can't be made or written.
  [[nodiscard]] static Result<FileCache> open(const std::string& directory, std::uint64_t limit);

  /// $XDG_CACHE_HOME/kerf, else ~/.cache/kerf, else /tmp/kerf-cache-<uid>.
  [[nodiscard]] static std::string default_directory();

  /// The file's path where it is there; notes that it was used.
  [[nodiscard]] std::optional<std::string> find(const std::string& id) const;

  /// A file on its way in; gone again when it is destroyed before finish().
  class Incoming {
   public:
    Incoming(std::string id, std::uint64_t size, std::string directory);
    ~Incoming();
    Incoming(const Incoming&) = delete;
    Incoming& operator=(const Incoming&) = delete;

    [[nodiscard]] const std::string& id() const { return id_; }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
    [[nodiscard]] bool whole() const { return bytes_ == size_; }
    /// Errors:   invalid_argument (more than was said), resource_exhausted.
    [[nodiscard]] Result<void> write(std::uint64_t offset, std::string_view bytes);
    /// Errors:   data_loss where the content isn't what the id says.
    [[nodiscard]] Result<std::string> finish();

   private:
    std::string id_;
    std::uint64_t size_;
    std::string directory_;
    std::string temporary_;
    std::ofstream file_;
    Sha256 hash_;
    std::uint64_t bytes_ = 0;
  };
  [[nodiscard]] std::unique_ptr<Incoming> begin(const std::string& id, std::uint64_t size) const;

  /// Makes room: removes the files that were used longest ago, none of `needed`.
  void trim(const std::set<std::string>& needed) const;

 private:
  FileCache(std::string directory, std::uint64_t limit)
      : directory_(std::move(directory)), limit_(limit) {}

  std::string directory_;
  std::uint64_t limit_;
};

}  // namespace kerf::process
