#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace kerf::onnx {

/// A file mapped for reading. Move-only.
class MappedFile {
 public:
  /// Errors:   not_found; invalid_argument where it is no regular file, empty, or above max_bytes.
  [[nodiscard]] static Result<MappedFile> open(const std::string& path, std::uint64_t max_bytes);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::string_view bytes() const { return {data_, size_}; }

 private:
  MappedFile(const char* data, std::size_t size) : data_(data), size_(size) {}

  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The folder below which a model's external data may lie.
///
/// Files are opened with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS): the kernel itself refuses
/// "..", absolute paths and symbolic links at any place, also ones that change meanwhile.
class DataFolder {
 public:
  /// An empty path: no folder, everything is refused.
  DataFolder(std::string path, std::uint64_t max_bytes);
  DataFolder(const DataFolder&) = delete;
  DataFolder& operator=(const DataFolder&) = delete;
  ~DataFolder();

  /// The size of the file `location`.
  ///
  /// Errors:   invalid_argument naming the location and why it is refused.
  [[nodiscard]] Result<std::uint64_t> size(const std::string& location);

  /// Fills `to` with `count` bytes of `location` from `offset`. size() was asked before and the
  /// range lies within it.
  [[nodiscard]] Result<void> read(const std::string& location, std::uint64_t offset, std::byte* to,
                                  std::size_t count);

 private:
  [[nodiscard]] Result<void> open(const std::string& location);

  std::string path_;
  std::uint64_t left_;  ///< Bytes that may still be read.
  int folder_ = -1;
  int file_ = -1;  ///< The last file stays open: tensors of one file come one after the other.
  std::string open_location_;
};

/// Writes a file so that it is there completely or not at all: temporary file beside it, fsync,
/// rename, fsync of the folder.
///
/// Errors:   resource_exhausted for a full disk, else unavailable, naming path and cause.
[[nodiscard]] Result<void> write_whole_file(const std::string& path, std::string_view bytes);

}  // namespace kerf::onnx
