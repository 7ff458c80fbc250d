#include "storage/file_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <random>
#include <utility>

#include "core/sha256.h"
#include "storage/sync_file.h"

namespace kerf::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = 1U << 20U;
constexpr std::string_view kPrefix = "sha256:";

std::string place_of(const std::string& directory, std::string_view id) {
  const std::string_view hex = id.substr(kPrefix.size());
  std::string out = directory + "/sha256/";
  out += hex.substr(0, 2);
  out += '/';
  out += hex;
  return out;
}

Result<void> make_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return file_error("cannot create", path, errno);
}

std::string temporary_name() {
  static std::atomic<std::uint64_t> counter{0};
  static const unsigned salt = std::random_device()();
  return std::to_string(getpid()) + "-" + std::to_string(salt) + "-" + std::to_string(counter++);
}

/// Removes what writers have left that are no more: a living one holds a lock on its file.
void remove_abandoned(const std::string& temporary) {
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(temporary, code)) {
    const Descriptor file(open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (file.open() && flock(file.get(), LOCK_EX | LOCK_NB) == 0) unlink(entry.path().c_str());
  }
}

}  // namespace

struct FileStore::Writer::State {
  std::string directory;
  std::string path;
  Descriptor file;
  Sha256 hash;
  std::uint64_t bytes = 0;
  std::uint64_t limit = 0;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (file.open()) unlink(path.c_str());
  }
};

FileStore::Writer::Writer(std::unique_ptr<State> state) : state_(std::move(state)) {}
FileStore::Writer::Writer(Writer&&) noexcept = default;
FileStore::Writer& FileStore::Writer::operator=(Writer&&) noexcept = default;
FileStore::Writer::~Writer() = default;

std::uint64_t FileStore::Writer::bytes() const { return state_->bytes; }

Result<void> FileStore::Writer::write(std::span<const std::byte> bytes) {
  return write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Result<void> FileStore::Writer::write(std::string_view bytes) {
  if (bytes.size() > state_->limit - state_->bytes) {
    return invalid_argument("the file is longer than " + std::to_string(state_->limit) + " bytes");
  }
  state_->hash.update(bytes);
  state_->bytes += bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(state_->file.get(), bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return file_error("cannot write", state_->path, errno);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string> FileStore::Writer::finish() {
  State& state = *state_;
  const std::string id = std::string(kPrefix) + state.hash.hex();
  const std::string place = place_of(state.directory, id);
  const std::string folder = fs::path(place).parent_path().string();
  KERF_TRY(make_directory(folder));
  if (fchmod(state.file.get(), 0444) != 0 || fsync(state.file.get()) != 0) {
    return file_error("cannot sync", state.path, errno);
  }
  // Renaming over an equal file changes nothing, and mends one that was damaged.
  if (rename(state.path.c_str(), place.c_str()) != 0) {
    return file_error("cannot create", place, errno);
  }
  state.file = Descriptor();
  KERF_TRY(sync_path(folder));
  KERF_TRY(sync_parent(folder));
  return id;
}

Result<FileStore> FileStore::open(const std::string& directory) {
  std::error_code code;
  fs::create_directories(directory, code);
  if (code) return file_error("cannot create", directory, code.value());
  KERF_TRY(make_directory(directory + "/sha256"));
  KERF_TRY(make_directory(directory + "/tmp"));
  remove_abandoned(directory + "/tmp");
  return FileStore(directory);
}

Result<FileStore::Writer> FileStore::begin(std::uint64_t limit) const {
  auto state = std::make_unique<Writer::State>();
  state->directory = directory_;
  state->limit = limit;
  // Between creation and lock another process that starts may take the file for abandoned: then its
  // name is gone, and we try again.
  for (int attempt = 0; attempt < 16; ++attempt) {
    state->path = directory_ + "/tmp/" + temporary_name();
    Descriptor file(::open(state->path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.open()) return file_error("cannot create", state->path, errno);
    struct stat status {};
    if (flock(file.get(), LOCK_EX | LOCK_NB) == 0 && fstat(file.get(), &status) == 0 &&
        status.st_nlink == 1) {
      state->file = std::move(file);
      return Writer(std::move(state));
    }
  }
  return Error{ErrorCode::kUnavailable, directory_ + "/tmp: no file of our own could be had"};
}

Result<std::string> FileStore::put_file(const std::string& path, std::uint64_t limit) const {
  const Descriptor source(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!source.open()) return file_error("cannot open", path, errno);
  struct stat status {};
  if (fstat(source.get(), &status) != 0) return file_error("cannot read", path, errno);
  if (!S_ISREG(status.st_mode)) return invalid_argument(path + " is not a regular file");
  if (static_cast<std::uint64_t>(status.st_size) > limit) {
    return invalid_argument(path + " has " + std::to_string(status.st_size) + " bytes; at most " +
                            std::to_string(limit) + " are taken");
  }
  // What is there already needs no second copy: a resumed run puts the same files each time.
  KERF_ASSIGN(const std::string known, sha256_file(path));
  if (const std::string id = std::string(kPrefix) + known; contains(id)) {
    KERF_ASSIGN(const std::uint64_t bytes, size(id));
    if (bytes == static_cast<std::uint64_t>(status.st_size)) return id;
  }
  KERF_ASSIGN(Writer writer, begin(limit));
  std::string piece(kPiece, '\0');
  while (true) {
    const ssize_t got = read(source.get(), piece.data(), piece.size());
    if (got < 0) {
      if (errno == EINTR) continue;
      return file_error("cannot read", path, errno);
    }
    if (got == 0) break;
    KERF_TRY(writer.write(std::string_view(piece.data(), static_cast<std::size_t>(got))));
  }
  return writer.finish();
}

bool FileStore::contains(std::string_view id) const { return path_of(id).has_value(); }

Result<std::string> FileStore::path_of(std::string_view id) const {
  if (!is_file_id(id)) {
    return invalid_argument("\"" + std::string(id.substr(0, 80)) +
                            "\" is no file id; expected sha256: and 64 hex digits");
  }
  std::string place = place_of(directory_, id);
  struct stat status {};
  if (lstat(place.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return not_found("no file " + std::string(id) + " is stored");
  }
  return place;
}

Result<std::uint64_t> FileStore::size(std::string_view id) const {
  KERF_ASSIGN(const std::string place, path_of(id));
  struct stat status {};
  if (stat(place.c_str(), &status) != 0) return file_error("cannot read", place, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

Result<void> FileStore::verify(std::string_view id) const {
  KERF_ASSIGN(const std::string place, path_of(id));
  KERF_ASSIGN(const std::string hex, sha256_file(place));
  if (hex != id.substr(kPrefix.size())) {
    return Error{ErrorCode::kDataLoss, place + " is damaged: its content hashes to sha256:" + hex +
                                           "; upload the file again"};
  }
  return {};
}

Result<void> FileStore::remove(std::string_view id) const {
  KERF_ASSIGN(const std::string place, path_of(id));
  if (unlink(place.c_str()) != 0) return file_error("cannot remove", place, errno);
  return sync_parent(place);
}

}  // namespace kerf::storage
