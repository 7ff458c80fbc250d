#include "cli/study_host.h"

#include <gtest/gtest.h>

namespace kerf::cli {
namespace {

TEST(Address, HostAndPortComeApart) {
  EXPECT_EQ(parse_address("127.0.0.1:8080")->port, 8080);
  EXPECT_EQ(parse_address("[::1]:0")->host, "::1");
  for (const char* bad : {"", "host", ":80", "host:", "host:70000", "host:8x"}) {
    EXPECT_FALSE(parse_address(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace kerf::cli
