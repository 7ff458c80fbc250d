#include "workers/measure/memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

namespace kerf::measure {
namespace {

/// The kibibytes behind a key of /proc/self/status, as bytes.
std::optional<std::int64_t> field(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  const std::size_t number = text.find_first_of("0123456789", at + key.size());
  if (number == std::string_view::npos) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + number, text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  constexpr std::int64_t kKibi = 1024;
  return value * kKibi;
}

}  // namespace

PeakMemory::PeakMemory()
    : status_fd_(open("/proc/self/status", O_RDONLY | O_CLOEXEC)),
      clear_fd_(open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)) {
  set_floor();
}

PeakMemory::~PeakMemory() {
  if (status_fd_ >= 0) close(status_fd_);
  if (clear_fd_ >= 0) close(clear_fd_);
}

void PeakMemory::set_floor() {
  malloc_trim(0);
  // "5" sets the peak back to what is resident now (proc(5)).
  resets_ = clear_fd_ >= 0 && pwrite(clear_fd_, "5", 1, 0) == 1;
  floor_ = read_status().value_or(Status{});
}

std::optional<PeakMemory::Status> PeakMemory::read_status() const {
  if (status_fd_ < 0) return std::nullopt;
  std::string text(8192, '\0');
  const ssize_t got = pread(status_fd_, text.data(), text.size(), 0);
  if (got <= 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(got));
  const auto resident = field(text, "VmRSS:");
  const auto peak = field(text, "VmHWM:");
  if (!resident || !peak) return std::nullopt;
  return Status{*resident, *peak};
}

std::optional<std::int64_t> PeakMemory::peak_over_floor() const {
  const auto now = read_status();
  if (!now) return std::nullopt;
  // A peak that was there before the floor says nothing about what came after.
  const std::int64_t peak = resets_ || now->peak > floor_.peak ? now->peak : now->resident;
  return std::max<std::int64_t>(0, peak - floor_.resident);
}

}  // namespace kerf::measure
