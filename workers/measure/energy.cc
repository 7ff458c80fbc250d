#include "workers/measure/energy.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace kerf::measure {
namespace {

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

EnergyMeter::EnergyMeter(const std::string& root) {
  std::error_code failed;
  std::vector<std::filesystem::path> zones;
  for (const auto& entry : std::filesystem::directory_iterator(root, failed)) {
    const std::string name = entry.path().filename().string();
    // Packages only: "intel-rapl:0". Parts of one ("intel-rapl:0:1") would count twice.
    if (name.starts_with("intel-rapl:") && std::count(name.begin(), name.end(), ':') == 1 &&
        first_line(entry.path() / "name").starts_with("package")) {
      zones.push_back(entry.path());
    }
  }
  std::sort(zones.begin(), zones.end());
  for (const auto& zone : zones) {
    Package package;
    package.fd = open((zone / "energy_uj").c_str(), O_RDONLY | O_CLOEXEC);
    const std::string range = first_line(zone / "max_energy_range_uj");
    std::from_chars(range.data(), range.data() + range.size(), package.range);
    if (package.fd >= 0 && read_counter(package.fd)) {
      packages_.push_back(package);
      continue;
    }
    // All packages or none: a sum that leaves one out would mislead.
    if (package.fd >= 0) close(package.fd);
    for (const Package& other : packages_) close(other.fd);
    packages_.clear();
    break;
  }
}

EnergyMeter::~EnergyMeter() {
  for (const Package& package : packages_) close(package.fd);
}

std::optional<std::uint64_t> EnergyMeter::read_counter(int fd) {
  char text[32];
  const ssize_t got = pread(fd, text, sizeof text, 0);
  std::uint64_t value = 0;
  if (got <= 0 || std::from_chars(text, text + got, value).ec != std::errc()) return std::nullopt;
  return value;
}

void EnergyMeter::start() {
  for (Package& package : packages_) package.start = read_counter(package.fd).value_or(0);
}

std::optional<double> EnergyMeter::taken_uj() const {
  if (packages_.empty()) return std::nullopt;
  double sum = 0;
  for (const Package& package : packages_) {
    const auto now = read_counter(package.fd);
    if (!now) return std::nullopt;
    const bool wrapped = *now < package.start;
    if (wrapped && package.range == 0) return std::nullopt;
    sum += static_cast<double>(wrapped ? *now + package.range - package.start : *now - package.start);
  }
  return sum;
}

}  // namespace kerf::measure
