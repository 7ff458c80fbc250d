#include "workers/measure/energy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace kerf::measure {
namespace {

/// A folder like /sys/class/powercap.
class EnergyTest : public testing::Test {
 protected:
  EnergyTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kerf-rapl-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    root_ = pattern;
  }
  ~EnergyTest() override { std::filesystem::remove_all(root_); }

  void zone(const std::string& name, const std::string& kind, long long energy) const {
    std::filesystem::create_directories(root_ / name);
    std::ofstream(root_ / name / "name") << kind << '\n';
    std::ofstream(root_ / name / "max_energy_range_uj") << 1000000 << '\n';
    set(name, energy);
  }
  void set(const std::string& name, long long energy) const {
    std::ofstream(root_ / name / "energy_uj") << energy << '\n';
  }

  std::filesystem::path root_;
};

TEST_F(EnergyTest, SumsPackagesAndLeavesTheirPartsOut) {
  zone("intel-rapl:0", "package-0", 100);
  zone("intel-rapl:0:0", "core", 100);
  zone("intel-rapl:1", "package-1", 500);
  zone("intel-rapl:2", "psys", 500);
  EnergyMeter meter(root_);
  ASSERT_TRUE(meter.readable());
  meter.start();
  set("intel-rapl:0", 350);
  set("intel-rapl:0:0", 99999);
  set("intel-rapl:1", 600);
  set("intel-rapl:2", 99999);
  EXPECT_EQ(meter.taken_uj(), 350);
}

TEST_F(EnergyTest, ACounterMayWrap) {
  zone("intel-rapl:0", "package-0", 999900);
  EnergyMeter meter(root_);
  meter.start();
  set("intel-rapl:0", 50);
  EXPECT_EQ(meter.taken_uj(), 150);
}

TEST_F(EnergyTest, WithoutCountersThereIsNoNumber) {
  EXPECT_FALSE(EnergyMeter(root_).readable());
  EXPECT_FALSE(EnergyMeter(root_ / "nowhere").taken_uj().has_value());
}

TEST_F(EnergyTest, AllPackagesOrNone) {
  zone("intel-rapl:0", "package-0", 1);
  zone("intel-rapl:1", "package-1", 1);
  std::ofstream(root_ / "intel-rapl:1" / "energy_uj") << "no number";
  EXPECT_FALSE(EnergyMeter(root_).readable());
}

}  // namespace
}  // namespace kerf::measure
