#include "workers/onnx/files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

namespace kerf::onnx {
namespace {

std::string reason(int code) { return std::strerror(code); }  // NOLINT(concurrency-mt-unsafe)

std::string folder_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path, std::uint64_t max_bytes) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int code = errno;
    if (code == ENOENT || code == ENOTDIR) return not_found("model '" + path + "': no such file");
    return invalid_argument("model '" + path + "': " + reason(code));
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return invalid_argument("model '" + path + "': not a regular file");
  }
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size == 0 || size > max_bytes) {
    ::close(fd);
    return invalid_argument("model '" + path + "': " +
                            (size == 0 ? std::string("the file is empty")
                                       : "has " + std::to_string(size) + " bytes, at most " +
                                             std::to_string(max_bytes) + " are read"));
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int code = errno;
  ::close(fd);
  if (data == MAP_FAILED) return invalid_argument("model '" + path + "': " + reason(code));
  ::madvise(data, size, MADV_SEQUENTIAL);
  return MappedFile(static_cast<const char*>(data), size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);  // NOLINT
}

DataFolder::DataFolder(std::string path, std::uint64_t max_bytes)
    : path_(std::move(path)), left_(max_bytes) {}

DataFolder::~DataFolder() {
  if (file_ >= 0) ::close(file_);
  if (folder_ >= 0) ::close(folder_);
}

Result<void> DataFolder::open(const std::string& location) {
  if (file_ >= 0 && location == open_location_) return {};
  if (file_ >= 0) ::close(std::exchange(file_, -1));
  const std::string what = "external data '" + location + "': ";
  if (path_.empty()) {
    return invalid_argument(what + "external data is not allowed here; save the model as one file");
  }
  if (location.empty() || location.find('\0') != std::string::npos) {
    return invalid_argument(what + "not a file name");
  }
  if (folder_ < 0) folder_ = ::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (folder_ < 0) return invalid_argument(what + "folder '" + path_ + "': " + reason(errno));
  struct open_how how {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  int fd = -1;
  // EAGAIN: something was renamed while the kernel resolved "..".
  for (int attempt = 0; attempt < 8; ++attempt) {
    fd = static_cast<int>(::syscall(SYS_openat2, folder_, location.c_str(), &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  if (fd < 0) {
    const int code = errno;
    if (code == EXDEV || code == ELOOP) {
      return invalid_argument(what +
                              "leads out of the model's own folder or through a symbolic "
                              "link, which is refused");
    }
    return invalid_argument(what + reason(code));
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return invalid_argument(what + "not a regular file");
  }
  file_ = fd;
  open_location_ = location;
  return {};
}

Result<std::uint64_t> DataFolder::size(const std::string& location) {
  KERF_TRY(open(location));
  struct stat info {};
  if (::fstat(file_, &info) != 0)
    return invalid_argument("external data '" + location + "': " + reason(errno));
  return static_cast<std::uint64_t>(info.st_size);
}

Result<void> DataFolder::read(const std::string& location, std::uint64_t offset, std::byte* to,
                              std::size_t count) {
  KERF_TRY(open(location));
  if (count > left_) {
    return invalid_argument("external data '" + location +
                            "': model and data together are larger than the limit");
  }
  left_ -= count;
  while (count > 0) {
    const ssize_t got =
        ::pread(file_, to, std::min<std::size_t>(count, 1U << 30U), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return invalid_argument("external data '" + location + "': " +
                              (got == 0 ? std::string("the file ends too early") : reason(errno)));
    }
    to += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
  return {};
}

Result<void> write_whole_file(const std::string& path, std::string_view bytes) {
  const auto failed = [&](int code, const char* step) {
    const bool full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    return Error{full ? ErrorCode::kResourceExhausted : ErrorCode::kUnavailable,
                 "writing '" + path + "': " + step + ": " + reason(code)};
  };
  // Created with the mode that the umask leaves: a sandboxed writer may not change modes later.
  const std::string temporary = path + ".part-" + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return failed(errno, "creating a file beside it");
  const auto give_up = [&](int code, const char* step) {
    ::close(fd);
    ::unlink(temporary.c_str());
    return failed(code, step);
  };
  const char* from = bytes.data();
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t done = ::write(fd, from, std::min<std::size_t>(left, 1U << 30U));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return give_up(done == 0 ? EIO : errno, "writing");
    from += done;
    left -= static_cast<std::size_t>(done);
  }
  if (::fsync(fd) != 0) return give_up(errno, "fsync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return give_up(errno, "renaming");
  ::close(fd);
  const int folder = ::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return failed(errno, "opening its folder");
  const int synced = ::fsync(folder);
  const int code = errno;
  ::close(folder);
  // Some file systems cannot sync a folder; the file itself is safe by then.
  if (synced != 0 && code != EINVAL && code != ENOTSUP) return failed(code, "fsync of its folder");
  return {};
}

}  // namespace kerf::onnx
