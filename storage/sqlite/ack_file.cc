#include "storage/sqlite/ack_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace kerf::storage {
namespace {

struct Record {
  std::array<char, 8> magic;
  std::uint64_t count;
  std::uint64_t check;
};
static_assert(sizeof(Record) == 24);

constexpr std::array<char, 8> kMagic = {'K', 'R', 'F', 'A', 'C', 'K', '0', '1'};

std::uint64_t check_of(std::uint64_t count) {
  return (count ^ 0x6B65726641434B21ULL) * 0x9E3779B97F4A7C15ULL;
}

}  // namespace

Result<AckFile> AckFile::open(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.open()) return file_error("cannot open", path, errno);
  Record record{};
  const bool whole = pread(file.get(), &record, sizeof record, 0) == sizeof record;
  const bool ours = whole && record.magic == kMagic && record.check == check_of(record.count);
  return AckFile(std::move(file), ours ? record.count : 0);
}

void AckFile::write(std::uint64_t count) {
  const Record record{kMagic, count, check_of(count)};
  [[maybe_unused]] const ssize_t written = pwrite(file_.get(), &record, sizeof record, 0);
  count_ = count;
}

}  // namespace kerf::storage
