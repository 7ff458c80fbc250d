#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"

namespace kerf::data {

/// What is unpacked at most.
struct ZipLimits {
  std::uint64_t bytes = 8ULL << 30U;       ///< All members together; never more than the machine has.
  std::size_t members = 1U << 20U;
  std::uint64_t bomb_ratio = 200;          ///< Largest expansion …
  std::uint64_t bomb_bytes = 64ULL << 20U; ///< … above this size.
};

/// A zip archive that somebody else made: sizes are checked before anything is unpacked, checksums
/// while it is.
///
/// Errors:   all messages start with the path: "eval.npz: …".
class ZipArchive {
 public:
  struct Member {
    std::string name;
    std::uint64_t index = 0;
    std::uint64_t bytes = 0;  ///< Unpacked, as declared; more is never read, less is an error.
  };

  /// Errors:   not_found; invalid_argument: not a zip archive, truncated, encrypted, packed in a
  ///           way that we don't know, a name twice, limits.
  [[nodiscard]] static Result<ZipArchive> open(const std::string& path, const ZipLimits& limits = {});

  ZipArchive(ZipArchive&&) noexcept;
  ZipArchive& operator=(ZipArchive&&) noexcept;
  ~ZipArchive();

  [[nodiscard]] const std::vector<Member>& members() const { return members_; }
  [[nodiscard]] const Member* find(const std::string& name) const;

  /// Unpacks a member: `first` gets its first bytes (at most `first_bytes`) and says where the rest
  /// goes; the rest must fit exactly.
  ///
  /// Errors:   invalid_argument: truncated or damaged; those of `first`.
  [[nodiscard]] Result<void> read(
      const Member& member, std::size_t first_bytes,
      const std::function<Result<std::span<std::byte>>(std::span<const std::byte>)>& first) const;

  /// A whole member.
  [[nodiscard]] Result<std::vector<std::byte>> read(const Member& member) const;

 private:
  struct Handle;
  explicit ZipArchive(std::string path, std::unique_ptr<Handle> handle);
  std::string path_;
  std::unique_ptr<Handle> handle_;
  std::vector<Member> members_;
};

/// Bytes to write as a member, one piece after the other.
struct ZipEntry {
  std::string name;
  std::vector<std::span<const std::byte>> pieces;
};

/// Writes an archive whole or not at all; the same entries give the same bytes.
///
/// Errors:   unavailable where the file can't be written.
[[nodiscard]] Result<void> write_zip(const std::string& path, const std::vector<ZipEntry>& entries,
                                     bool compressed);

}  // namespace kerf::data
