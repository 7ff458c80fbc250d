#include "storage/data_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

namespace kerf::storage {
namespace {

std::string holder(int descriptor) {
  std::array<char, 32> text{};
  const ssize_t length = pread(descriptor, text.data(), text.size() - 1, 0);
  std::string digits;
  for (ssize_t i = 0; i < length && text[static_cast<std::size_t>(i)] >= '0' &&
                      text[static_cast<std::size_t>(i)] <= '9';
       ++i) {
    digits += text[static_cast<std::size_t>(i)];
  }
  return digits.empty() ? "another process" : "process " + digits;
}

}  // namespace

Result<DataLock> DataLock::take(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code code;
  if (!fs::exists(directory, code)) {
    if (!fs::create_directories(directory, code) && code) {
      return file_error("cannot create", directory, code.value());
    }
    fs::permissions(directory, fs::perms::owner_all, code);
  }
  const std::string path = directory + "/lock";
  Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.open()) return file_error("cannot open", path, errno);
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return file_error("cannot lock", path, errno);
    return Error{ErrorCode::kFailedPrecondition,
                 directory + " is in use by " + holder(file.get()) +
                     " (it holds " + path + "); stop it or take another data directory"};
  }
  // For people only: that it can't be written (a full disk) doesn't make the lock less ours.
  const std::string pid = std::to_string(getpid()) + "\n";
  if (ftruncate(file.get(), 0) == 0) {
    [[maybe_unused]] const ssize_t written = pwrite(file.get(), pid.data(), pid.size(), 0);
  }
  return DataLock(std::move(file));
}

}  // namespace kerf::storage
