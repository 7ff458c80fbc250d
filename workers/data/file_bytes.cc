#include "workers/data/file_bytes.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace kerf::data {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

Error open_error(const std::string& path, int code) {
  if (code == ENOENT || code == ENOTDIR) return not_found(path + ": no such file");
  return invalid_argument(path + ": can't be read (" +
                          std::generic_category().message(code) + ")");
}

Result<std::string> read_descriptor(int fd, const std::string& path, std::uint64_t most) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return open_error(path, errno);
  if (!S_ISREG(status.st_mode)) return invalid_argument(path + ": expected a file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > most) {
    return invalid_argument(path + ": " + std::to_string(size) + " bytes; expected at most " +
                            std::to_string(most));
  }
  std::string out(static_cast<std::size_t>(size), '\0');
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = read(fd, out.data() + done, out.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return open_error(path, errno);
    if (got == 0) break;  // it shrank meanwhile
    done += static_cast<std::size_t>(got);
  }
  out.resize(done);
  return out;
}

}  // namespace

Result<std::string> read_text(const std::string& path, std::uint64_t most) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return open_error(path, errno);
  return read_descriptor(file.get(), path, most);
}

Result<std::string> read_beneath(const std::string& folder, const std::string& name,
                                 std::uint64_t most) {
  const std::string shown = folder + "/" + name;
  const std::filesystem::path relative(name);
  bool leaves = name.empty() || relative.is_absolute();
  for (const auto& part : relative) leaves = leaves || part == "..";
  if (leaves || name.find('\0') != std::string::npos) {
    return invalid_argument(folder + ": '" + name + "' leaves the folder; expected a file in it");
  }
  const Descriptor root(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0) return open_error(folder, errno);
  struct open_how how {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  int fd = static_cast<int>(syscall(SYS_openat2, root.get(), name.c_str(), &how, sizeof how));
  if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
    // A kernel or a sandbox without openat2: resolve the links ourselves.
    std::error_code failed;
    const auto base = std::filesystem::canonical(folder, failed);
    const auto target = failed ? base : std::filesystem::canonical(base / relative, failed);
    if (failed) return open_error(shown, failed.value());
    const auto inside = target.lexically_relative(base);
    if (inside.empty() || *inside.begin() == "..") {
      return invalid_argument(folder + ": '" + name + "' leaves the folder; expected a file in it");
    }
    fd = open(target.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  }
  const Descriptor file(fd);
  if (file.get() < 0 && errno == EXDEV) {
    return invalid_argument(folder + ": '" + name + "' leaves the folder; expected a file in it");
  }
  if (file.get() < 0) return open_error(shown, errno);
  return read_descriptor(file.get(), shown, most);
}

}  // namespace kerf::data
