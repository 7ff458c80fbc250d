#include "storage/sync_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

namespace kerf::storage {

Error file_error(std::string_view doing, const std::string& path, int number) {
  ErrorCode code = ErrorCode::kFailedPrecondition;
  switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EIO:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      code = ErrorCode::kResourceExhausted;
      break;
    case ENOENT:
    case ENOTDIR:
      code = ErrorCode::kNotFound;
      break;
    case EEXIST:
      code = ErrorCode::kAlreadyExists;
      break;
    default:
      break;
  }
  return {code, std::string(doing) + " " + path + ": " + std::system_category().message(number)};
}

Result<void> sync_path(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.open()) return file_error("cannot open", path, errno);
  if (fsync(file.get()) != 0) return file_error("cannot sync", path, errno);
  return {};
}

Result<void> sync_parent(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  return sync_path(parent.empty() ? "." : parent);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (number_ >= 0) close(number_);
    number_ = other.release();
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

int Descriptor::release() { return std::exchange(number_, -1); }

}  // namespace kerf::storage
