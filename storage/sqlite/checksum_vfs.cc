#include "storage/sqlite/checksum_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

namespace kerf::storage {
namespace {

using Page = std::array<std::byte, kPageSize>;

/// What SQLite holds as its file: ours, followed in memory by the file of the VFS below.
struct CheckedFile {
  sqlite3_file base;
};

sqlite3_file* below(sqlite3_file* file) {
  return reinterpret_cast<sqlite3_file*>(reinterpret_cast<CheckedFile*>(file) + 1);
}

sqlite3_vfs* below(sqlite3_vfs* vfs) { return static_cast<sqlite3_vfs*>(vfs->pAppData); }

bool page_is_valid(const Page& page, std::uint64_t index) {
  std::uint64_t stored = 0;
  std::memcpy(&stored, page.data() + kPageSize - kPageReserved, sizeof stored);
  if (stored == page_checksum(page, index)) return true;
  return std::all_of(page.begin(), page.end(), [](std::byte b) { return b == std::byte{0}; });
}

int checked_read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) {
  const int code = below(file)->pMethods->xRead(below(file), out, amount, offset);
  if (code != SQLITE_OK) return code;
  // Two looks into the header that SQLite takes before it knows (or reads anew) the first page; what
  // they say is checked when that page is read, and a WAL may hold a newer one.
  if ((offset == 0 && amount == 100) || (offset == 24 && amount == 16)) return SQLITE_OK;
  const auto first = static_cast<std::uint64_t>(offset) / kPageSize;
  const auto last = (static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(amount) - 1) /
                    kPageSize;
  Page page;
  for (std::uint64_t index = first; index <= last; ++index) {
    const auto page_offset = static_cast<sqlite3_int64>(index * kPageSize);
    if (amount == static_cast<int>(kPageSize) && page_offset == offset) {
      std::memcpy(page.data(), out, kPageSize);
    } else {
      const int again = below(file)->pMethods->xRead(below(file), page.data(), kPageSize, page_offset);
      if (again != SQLITE_OK) return again;
    }
    if (!page_is_valid(page, index)) {
      sqlite3_log(SQLITE_IOERR_DATA, "page %lld doesn't match its checksum",
                  static_cast<long long>(index + 1));
      return SQLITE_IOERR_DATA;
    }
  }
  return SQLITE_OK;
}

int checked_write(sqlite3_file* file, const void* data, int amount, sqlite3_int64 offset) {
  if (amount != static_cast<int>(kPageSize) || offset % static_cast<int>(kPageSize) != 0) {
    return SQLITE_IOERR_WRITE;
  }
  Page page;
  std::memcpy(page.data(), data, kPageSize);
  const std::uint64_t checksum = page_checksum(page, static_cast<std::uint64_t>(offset) / kPageSize);
  std::memcpy(page.data() + kPageSize - kPageReserved, &checksum, sizeof checksum);
  return below(file)->pMethods->xWrite(below(file), page.data(), amount, offset);
}

int forward_close(sqlite3_file* file) { return below(file)->pMethods->xClose(below(file)); }
int forward_truncate(sqlite3_file* file, sqlite3_int64 size) {
  return below(file)->pMethods->xTruncate(below(file), size);
}
int forward_sync(sqlite3_file* file, int flags) {
  return below(file)->pMethods->xSync(below(file), flags);
}
int forward_size(sqlite3_file* file, sqlite3_int64* size) {
  return below(file)->pMethods->xFileSize(below(file), size);
}
int forward_lock(sqlite3_file* file, int level) {
  return below(file)->pMethods->xLock(below(file), level);
}
int forward_unlock(sqlite3_file* file, int level) {
  return below(file)->pMethods->xUnlock(below(file), level);
}
int forward_check_lock(sqlite3_file* file, int* out) {
  return below(file)->pMethods->xCheckReservedLock(below(file), out);
}
int forward_control(sqlite3_file* file, int operation, void* argument) {
  return below(file)->pMethods->xFileControl(below(file), operation, argument);
}
int forward_sector_size(sqlite3_file* file) {
  return below(file)->pMethods->xSectorSize(below(file));
}
int forward_characteristics(sqlite3_file* file) {
  return below(file)->pMethods->xDeviceCharacteristics(below(file));
}
int forward_shm_map(sqlite3_file* file, int page, int size, int extend, void volatile** out) {
  return below(file)->pMethods->xShmMap(below(file), page, size, extend, out);
}
int forward_shm_lock(sqlite3_file* file, int offset, int n, int flags) {
  return below(file)->pMethods->xShmLock(below(file), offset, n, flags);
}
void forward_shm_barrier(sqlite3_file* file) { below(file)->pMethods->xShmBarrier(below(file)); }
int forward_shm_unmap(sqlite3_file* file, int remove) {
  return below(file)->pMethods->xShmUnmap(below(file), remove);
}

/// Version 2: shared memory for the WAL, but no memory-mapped reads, which would pass us by.
constexpr sqlite3_io_methods kMethods = {
    2,
    forward_close,
    checked_read,
    checked_write,
    forward_truncate,
    forward_sync,
    forward_size,
    forward_lock,
    forward_unlock,
    forward_check_lock,
    forward_control,
    forward_sector_size,
    forward_characteristics,
    forward_shm_map,
    forward_shm_lock,
    forward_shm_barrier,
    forward_shm_unmap,
    nullptr,
    nullptr,
};

int open_file(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  if ((flags & SQLITE_OPEN_MAIN_DB) == 0) {
    return below(vfs)->xOpen(below(vfs), name, file, flags, out_flags);
  }
  file->pMethods = nullptr;
  const int code = below(vfs)->xOpen(below(vfs), name, below(file), flags, out_flags);
  // SQLite closes a file whose methods are set even where opening failed.
  if (below(file)->pMethods != nullptr) file->pMethods = &kMethods;
  return code;
}

sqlite3_vfs* register_vfs() {
  static sqlite3_vfs vfs;
  sqlite3_vfs* root = sqlite3_vfs_find(nullptr);
  if (root == nullptr) throw std::runtime_error("SQLite has no file system of its own");
  vfs = *root;
  vfs.zName = "kerf-checksum";
  vfs.pNext = nullptr;
  vfs.pAppData = root;
  vfs.szOsFile = static_cast<int>(sizeof(CheckedFile)) + root->szOsFile;
  vfs.xOpen = open_file;
  // The others are passed the root's own object, which they may look into.
  vfs.xDelete = [](sqlite3_vfs* v, const char* name, int sync) {
    return below(v)->xDelete(below(v), name, sync);
  };
  vfs.xAccess = [](sqlite3_vfs* v, const char* name, int flags, int* out) {
    return below(v)->xAccess(below(v), name, flags, out);
  };
  vfs.xFullPathname = [](sqlite3_vfs* v, const char* name, int n, char* out) {
    return below(v)->xFullPathname(below(v), name, n, out);
  };
  vfs.xGetLastError = [](sqlite3_vfs* v, int n, char* out) {
    return below(v)->xGetLastError(below(v), n, out);
  };
  if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK) {
    throw std::runtime_error("SQLite refused our file system");
  }
  return &vfs;
}

}  // namespace

std::uint64_t page_checksum(std::span<const std::byte, kPageSize> page, std::uint64_t index) {
  std::uint64_t hash = index + 1;
  for (std::size_t at = 0; at < kPageSize - kPageReserved; at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, page.data() + at, sizeof word);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
    hash ^= hash >> 29U;
  }
  return hash;
}

const char* checksum_vfs() {
  static sqlite3_vfs* const vfs = register_vfs();
  return vfs->zName;
}

}  // namespace kerf::storage
