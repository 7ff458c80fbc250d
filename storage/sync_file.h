#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace kerf::storage {

/// What an errno of a file operation means: ENOSPC, EDQUOT, EFBIG and EIO are resource_exhausted,
/// ENOENT not_found, EEXIST already_exists, EACCES and EPERM and the like failed_precondition.
/// "<doing> <path>: <system's text>".
[[nodiscard]] Error file_error(std::string_view doing, const std::string& path, int number);

/// fsync(2) of a file or a directory.
[[nodiscard]] Result<void> sync_path(const std::string& path);

/// fsync(2) of the directory that `path` stands in: after it a new name survives a power cut.
[[nodiscard]] Result<void> sync_parent(const std::string& path);

/// A descriptor that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  [[nodiscard]] int get() const { return number_; }
  [[nodiscard]] bool open() const { return number_ >= 0; }
  [[nodiscard]] int release();

 private:
  int number_;
};

}  // namespace kerf::storage
