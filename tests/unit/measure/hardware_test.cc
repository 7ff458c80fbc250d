#include "workers/measure/hardware.h"

#include <gtest/gtest.h>

#include "workers/measure/latency.h"

namespace kerf::measure {
namespace {

TEST(Hardware, NamesTheCpu) {
  EXPECT_EQ(cpu_model("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU @ 2 GHz\n"),
            "Some CPU @ 2 GHz");
  EXPECT_EQ(cpu_model("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"),
            "ARM 0x41 part 0xd0c");
  EXPECT_EQ(cpu_model(""), "unknown");
}

TEST(Hardware, FingerprintIsCompleteAndStable) {
  const HardwareFingerprint one = hardware_fingerprint(2);
  EXPECT_FALSE(one.cpu_model.empty());
  EXPECT_FALSE(one.isa.empty());
  EXPECT_FALSE(one.onednn_version.empty());
  EXPECT_FALSE(one.kernel.empty());
  EXPECT_EQ(one.threads, 2);
  EXPECT_EQ(one, hardware_fingerprint(2));
  EXPECT_EQ(one.id(), hardware_fingerprint(1).id()) << "threads don't make it other hardware";
}

TEST(Hardware, FewerCoresAreOtherHardware) {
  const HardwareFingerprint whole = hardware_fingerprint(1);
  if (whole.cores < 2) GTEST_SKIP() << "one core only";
  const PinnedThread pin(1);
  EXPECT_EQ(hardware_fingerprint(1).cores, 1);
  EXPECT_NE(hardware_fingerprint(1).id(), whole.id());
}

}  // namespace
}  // namespace kerf::measure
