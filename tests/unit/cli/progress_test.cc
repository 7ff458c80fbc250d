#include "cli/progress.h"

#include <gtest/gtest.h>

namespace kerf::cli {
namespace {

TEST(Progress, LineShowsTrialsFrontHypervolumeAndTimeLeft) {
  const ProgressState state{12, 60, 1, 5, 0.01234, "search"};
  EXPECT_EQ(ProgressLine::text(state, std::chrono::seconds(125)),
            "search: 12/60 trials, front 5, hypervolume 0.01234, 1 failed, 2:05 left");
  EXPECT_EQ(ProgressLine::text({0, 60, 0, 0, 0, "inspect"}, std::nullopt),
            "inspect: 0/60 trials, front 0, hypervolume 0");
}

}  // namespace
}  // namespace kerf::cli
