#include "workers/data/zip_archive.h"

#include <unistd.h>
#include <zip.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

namespace kerf::data {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20U;

std::uint64_t physical_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long size = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || size <= 0) return UINT64_MAX;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size);
}

std::string mebibytes(std::uint64_t bytes) { return std::to_string(bytes / kMiB) + " MiB"; }

Error open_error(const std::string& path, int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  if (code == ZIP_ER_NOENT) return not_found(path + ": no such file");
  if (code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS || code == ZIP_ER_EOF || code == ZIP_ER_SEEK) {
    return invalid_argument(path + ": not a zip archive, or a truncated one");
  }
  if (code == ZIP_ER_MEMORY) return {ErrorCode::kResourceExhausted, path + ": " + text};
  return invalid_argument(path + ": can't be read as a zip archive (" + text + ")");
}

struct FileCloser {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

}  // namespace

struct ZipArchive::Handle {
  zip_t* zip = nullptr;
  ~Handle() {
    if (zip != nullptr) zip_discard(zip);
  }
};

ZipArchive::ZipArchive(std::string path, std::unique_ptr<Handle> handle)
    : path_(std::move(path)), handle_(std::move(handle)) {}
ZipArchive::ZipArchive(ZipArchive&&) noexcept = default;
ZipArchive& ZipArchive::operator=(ZipArchive&&) noexcept = default;
ZipArchive::~ZipArchive() = default;

Result<ZipArchive> ZipArchive::open(const std::string& path, const ZipLimits& limits) {
  int code = 0;
  auto handle = std::make_unique<Handle>();
  handle->zip = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (handle->zip == nullptr) return open_error(path, code);
  std::error_code ignored;
  const std::uint64_t file_bytes = std::filesystem::file_size(path, ignored);
  ZipArchive archive(path, std::move(handle));
  zip_t* zip = archive.handle_->zip;
  const zip_int64_t count = zip_get_num_entries(zip, 0);
  if (count < 0 || static_cast<std::uint64_t>(count) > limits.members) {
    return invalid_argument(path + ": " + std::to_string(count) + " members; expected at most " +
                            std::to_string(limits.members));
  }
  const std::uint64_t most = std::min(limits.bytes, physical_memory());
  std::uint64_t total = 0;
  std::set<std::string> names;
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    if (zip_stat_index(zip, static_cast<zip_uint64_t>(i), 0, &stat) != 0 ||
        (stat.valid & ZIP_STAT_NAME) == 0 || (stat.valid & ZIP_STAT_SIZE) == 0) {
      return invalid_argument(path + ": member " + std::to_string(i) + " has no name or no size");
    }
    const std::string name = stat.name;
    if (!names.insert(name).second) return invalid_argument(path + ": holds '" + name + "' twice");
    if ((stat.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && stat.encryption_method != ZIP_EM_NONE) {
      return invalid_argument(path + ": '" + name + "' is encrypted; expected a plain archive");
    }
    if ((stat.valid & ZIP_STAT_COMP_METHOD) != 0 && stat.comp_method != ZIP_CM_STORE &&
        stat.comp_method != ZIP_CM_DEFLATE) {
      return invalid_argument(path + ": '" + name + "' is packed by method " +
                              std::to_string(stat.comp_method) + "; expected stored or deflated");
    }
    if (stat.size > most || total + stat.size > most) {
      return invalid_argument(path + ": '" + name + "' unpacks to " + mebibytes(stat.size) +
                              "; expected at most " + mebibytes(most) + " in all");
    }
    total += stat.size;
    const std::uint64_t packed = (stat.valid & ZIP_STAT_COMP_SIZE) != 0 ? stat.comp_size : 0;
    if (stat.size > limits.bomb_bytes && stat.size / limits.bomb_ratio > packed) {
      return invalid_argument(path + ": '" + name + "' claims to unpack " + std::to_string(packed) +
                              " bytes to " + mebibytes(stat.size) + "; expected at most " +
                              std::to_string(limits.bomb_ratio) + " times as much");
    }
    archive.members_.push_back({name, static_cast<std::uint64_t>(i), stat.size});
  }
  // Members may share packed bytes, so that each alone looks harmless.
  if (total > limits.bomb_bytes && total / limits.bomb_ratio > file_bytes) {
    return invalid_argument(path + ": claims to unpack " + std::to_string(file_bytes) +
                            " bytes to " + mebibytes(total) + "; expected at most " +
                            std::to_string(limits.bomb_ratio) + " times as much");
  }
  return archive;
}

const ZipArchive::Member* ZipArchive::find(const std::string& name) const {
  for (const Member& member : members_) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

Result<void> ZipArchive::read(
    const Member& member, std::size_t first_bytes,
    const std::function<Result<std::span<std::byte>>(std::span<const std::byte>)>& first) const {
  const std::unique_ptr<zip_file_t, FileCloser> file(
      zip_fopen_index(handle_->zip, member.index, 0));
  const std::string where = path_ + ": '" + member.name + "'";
  if (!file) {
    return invalid_argument(where + " can't be unpacked (" + zip_strerror(handle_->zip) + ")");
  }
  const auto damaged = [&] {
    return invalid_argument(where + " is truncated or damaged (" + zip_file_strerror(file.get()) +
                            ")");
  };
  const auto fill = [&](std::byte* to, std::uint64_t bytes) {
    std::uint64_t done = 0;
    while (done < bytes) {
      const zip_int64_t got = zip_fread(file.get(), to + done, bytes - done);
      if (got <= 0) return false;
      done += static_cast<std::uint64_t>(got);
    }
    return true;
  };
  std::vector<std::byte> start(static_cast<std::size_t>(
      std::min<std::uint64_t>(first_bytes, member.bytes)));
  if (!fill(start.data(), start.size())) return damaged();
  KERF_ASSIGN(const std::span<std::byte> rest, first(start));
  if (rest.size() != member.bytes - start.size()) {
    return internal_error(where + ": the rest has another size than its place");
  }
  if (!fill(rest.data(), rest.size())) return damaged();
  // Only the read past the end compares the checksum.
  std::byte past;
  if (zip_fread(file.get(), &past, 1) != 0) return damaged();
  return {};
}

Result<std::vector<std::byte>> ZipArchive::read(const Member& member) const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(member.bytes));
  KERF_TRY(read(member, 0, [&](std::span<const std::byte>) -> Result<std::span<std::byte>> {
    return std::span<std::byte>(bytes);
  }));
  return bytes;
}

Result<void> write_zip(const std::string& path, const std::vector<ZipEntry>& entries,
                       bool compressed) {
  int code = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  const auto failed = [&](const std::string& why) {
    if (zip != nullptr) zip_discard(zip);
    return Error{ErrorCode::kUnavailable, path + ": can't be written (" + why + ")"};
  };
  if (zip == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string why = zip_error_strerror(&error);
    zip_error_fini(&error);
    return failed(why);
  }
  for (const ZipEntry& entry : entries) {
    std::vector<zip_buffer_fragment_t> fragments;
    for (const auto piece : entry.pieces) {
      if (piece.empty()) continue;
      // libzip only reads them; its type isn't const because it may also own buffers.
      auto* data = reinterpret_cast<zip_uint8_t*>(const_cast<std::byte*>(piece.data()));
      fragments.push_back({data, piece.size()});
    }
    zip_source_t* source = zip_source_buffer_fragment(zip, fragments.data(), fragments.size(), 0);
    if (source == nullptr) return failed(zip_strerror(zip));
    const zip_int64_t index = zip_file_add(zip, entry.name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      return failed(zip_strerror(zip));
    }
    const auto at = static_cast<zip_uint64_t>(index);
    zip_set_file_compression(zip, at, compressed ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    zip_file_set_dostime(zip, at, 0, 0x21, 0);  // 1980-01-01 00:00, as NumPy writes it
  }
  if (zip_close(zip) != 0) return failed(zip_strerror(zip));
  return {};
}

}  // namespace kerf::data
