#include "cli/report.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "cli/front_pick.h"

namespace kerf::cli {
namespace {

using testing::HasSubstr;

TEST(FrontTable, WithoutAFeasibleTrialSaysWhichIsNearestAndWhatItMisses) {
  const Json report = {{"front", Json::array()},
                       {"objectives", {{{"metric", "accuracy"}}}},
                       {"nearest_miss",
                        {{"trial", 7},
                         {"violation", 0.6},
                         {"missed",
                          {{{"metric", "accuracy_drop"}, {"value", 0.03}, {"max", 0.02}},
                           {{"metric", "agreement"}, {"value", 0.9}, {"min", 0.95}}}}}}};
  EXPECT_EQ(front_table(report),
            "no feasible trial; the nearest is trial 7, accuracy_drop 3.00 % > 2.00 %, agreement 90.00 % < 95.00 %\n");
  EXPECT_EQ(front_table({{"front", Json::array()}, {"objectives", Json::array()}}), "no feasible trial\n");
}

TEST(FrontPick, TheNearestMemberIsThatOfTheSmallestSharesWhateverTheUnits) {
  const auto member = [](int trial, double drop, double latency) {
    return Json{{"trial", trial}, {"metrics", {{"accuracy_drop", drop}, {"latency_p50_us", latency}}}};
  };
  // 0 allowed of the drop: its own size says nothing, a share of 1 counts as it is.
  const Json report = {{"front", {member(1, 0.10, 1000), member(2, 0.02, 1050), member(3, 0.0, 1400)}}};
  const auto picked = pick_member(report, {{"accuracy_drop", 0, true}, {"latency_p50_us", 1000, true}}, "accuracy");
  ASSERT_FALSE(picked.has_value());
  EXPECT_THAT(picked.error().message, HasSubstr("the nearest is trial 2"));
}

}  // namespace
}  // namespace kerf::cli
