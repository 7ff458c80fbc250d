#include "workers/process/file_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

namespace kerf::process {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporary = "incoming-";

std::string name_of(const std::string& id) { return id.substr(id.find(':') + 1); }

}  // namespace

std::string FileCache::default_directory() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::string(cache) + "/kerf";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::string(home) + "/.cache/kerf";
  }
  return "/tmp/kerf-cache-" + std::to_string(geteuid());
}

Result<FileCache> FileCache::open(const std::string& directory, std::uint64_t limit) {
  std::error_code failed;
  fs::create_directories(directory, failed);
  if (failed) return Error{ErrorCode::kUnavailable, directory + ": " + failed.message()};
  struct stat info {};
  if (lstat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) ||
      info.st_uid != geteuid() || (info.st_mode & 0022U) != 0) {
    return Error{ErrorCode::kPermissionDenied,
                 directory + ": expected a folder of ours that nobody else may write to"};
  }
  if (access(directory.c_str(), W_OK) != 0) {
    return Error{ErrorCode::kPermissionDenied, directory + ": can't be written to"};
  }
  return FileCache(directory, limit);
}

std::optional<std::string> FileCache::find(const std::string& id) const {
  if (!is_file_id(id)) return std::nullopt;
  const std::string path = directory_ + "/" + name_of(id);
  // Its time of change says when it was used last.
  if (utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
  return path;
}

FileCache::Incoming::Incoming(std::string id, std::uint64_t size, std::string directory)
    : id_(std::move(id)), size_(size), directory_(std::move(directory)) {
  std::string pattern = directory_ + "/" + std::string(kTemporary) + "XXXXXX";
  const int fd = mkostemp(pattern.data(), O_CLOEXEC);
  if (fd < 0) return;
  ::close(fd);
  temporary_ = pattern;
  file_.open(temporary_, std::ios::binary | std::ios::trunc);
}

FileCache::Incoming::~Incoming() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> FileCache::Incoming::write(std::uint64_t offset, std::string_view bytes) {
  if (offset != bytes_ || bytes.size() > size_ - bytes_) {
    return invalid_argument("file " + id_ + ": a piece that doesn't fit");
  }
  file_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file_) return Error{ErrorCode::kResourceExhausted, directory_ + ": can't be written to"};
  hash_.update(bytes);
  bytes_ += bytes.size();
  return {};
}

Result<std::string> FileCache::Incoming::finish() {
  file_.close();
  if (!file_) return Error{ErrorCode::kResourceExhausted, directory_ + ": can't be written to"};
  if (const std::string found = "sha256:" + hash_.hex(); found != id_) {
    return Error{ErrorCode::kDataLoss, "file " + id_ + " arrived as " + found};
  }
  const std::string path = directory_ + "/" + name_of(id_);
  (void)::chmod(temporary_.c_str(), 0400);
  if (::rename(temporary_.c_str(), path.c_str()) != 0) {
    return Error{ErrorCode::kUnavailable, path + ": can't be put in its place"};
  }
  temporary_.clear();
  return path;
}

std::unique_ptr<FileCache::Incoming> FileCache::begin(const std::string& id,
                                                      std::uint64_t size) const {
  return std::make_unique<Incoming>(id, size, directory_);
}

void FileCache::trim(const std::set<std::string>& needed) const {
  struct Entry {
    fs::file_time_type used;
    std::uint64_t size;
    fs::path path;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(directory_, failed)) {
    std::error_code gone;
    const std::uint64_t size = entry.file_size(gone);
    const auto used = entry.last_write_time(gone);
    if (gone) continue;
    total += size;
    const std::string name = entry.path().filename().string();
    const bool abandoned = name.starts_with(kTemporary) &&
                           fs::file_time_type::clock::now() - used > std::chrono::hours(24);
    if (abandoned || (is_file_id("sha256:" + name) && !needed.contains("sha256:" + name))) {
      entries.push_back({used, size, entry.path()});
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= limit_) return;
    fs::remove(entry.path, failed);
    total -= entry.size;
  }
}

}  // namespace kerf::process
