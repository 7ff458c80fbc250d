#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace kerf::storage {

inline constexpr std::uint64_t kMaxStoredFile = 2ULL << 30U;

/// Files by content: DIR/sha256/ab/<64 hex digits>, read-only, never changed. A file is there whole
/// or not at all; the same content lies there once.
///
/// Errors:   resource_exhausted where the disk is full (nothing is left behind).
/// Threads:  reentrant; several processes may use one directory.
class FileStore {
 public:
  /// One file on its way in. Destroyed before finish(), it leaves nothing behind.
  class Writer {
   public:
    Writer(Writer&&) noexcept;
    Writer& operator=(Writer&&) noexcept;
    ~Writer();

    /// Errors:   invalid_argument where the file would be longer than its limit; resource_exhausted.
    [[nodiscard]] Result<void> write(std::string_view bytes);
    [[nodiscard]] Result<void> write(std::span<const std::byte> bytes);

    [[nodiscard]] std::uint64_t bytes() const;

    /// Syncs, puts the file in its place and returns its id ("sha256:…"). Once only.
    [[nodiscard]] Result<std::string> finish();

   private:
    friend class FileStore;
    struct State;
    explicit Writer(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
  };

  /// Creates the directory where it doesn't exist; removes what writers that died have left.
  [[nodiscard]] static Result<FileStore> open(const std::string& directory);

  [[nodiscard]] Result<Writer> begin(std::uint64_t limit = kMaxStoredFile) const;

  /// Copies a file in and returns its id. Changing the file later doesn't change the store.
  ///
  /// Errors:   not_found; invalid_argument where it is longer than `limit` or no regular file.
  [[nodiscard]] Result<std::string> put_file(const std::string& path,
                                             std::uint64_t limit = kMaxStoredFile) const;

  [[nodiscard]] bool contains(std::string_view id) const;

  /// Errors:   invalid_argument where `id` is no id; not_found.
  [[nodiscard]] Result<std::string> path_of(std::string_view id) const;
  [[nodiscard]] Result<std::uint64_t> size(std::string_view id) const;

  /// Reads the whole file again. Errors: data_loss where its content isn't what its name says.
  [[nodiscard]] Result<void> verify(std::string_view id) const;

  /// Removes a file. Errors: not_found.
  [[nodiscard]] Result<void> remove(std::string_view id) const;

  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  explicit FileStore(std::string directory) : directory_(std::move(directory)) {}

  std::string directory_;
};

}  // namespace kerf::storage
