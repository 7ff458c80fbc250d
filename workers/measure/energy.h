#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kerf::measure {

/// The packages' energy counters (RAPL), where they may be read. Never an estimate.
///
/// Units:    microjoules, of all packages together, everything that runs on them included.
/// Sandbox:  the constructor opens the files, everything later only uses descriptors.
class EnergyMeter {
 public:
  /// `root` is sysfs's folder; another one in tests.
  explicit EnergyMeter(const std::string& root = "/sys/class/powercap");
  ~EnergyMeter();
  EnergyMeter(const EnergyMeter&) = delete;
  EnergyMeter& operator=(const EnergyMeter&) = delete;

  [[nodiscard]] bool readable() const { return !packages_.empty(); }

  /// Marks now; the counters may wrap once until taken_uj().
  void start();

  /// Energy since start(). nullopt where it isn't readable.
  [[nodiscard]] std::optional<double> taken_uj() const;

 private:
  struct Package {
    int fd = -1;
    std::uint64_t range = 0;  // the counter's largest value
    std::uint64_t start = 0;
  };
  [[nodiscard]] static std::optional<std::uint64_t> read_counter(int fd);
  std::vector<Package> packages_;
};

}  // namespace kerf::measure
