#include "cli/front_svg.h"

#include <gtest/gtest.h>

namespace kerf::cli {
namespace {

Json trial(int number, double accuracy, double latency) {
  return {{"number", number}, {"metrics", {{"accuracy", accuracy}, {"latency_p50_us", latency}}}};
}

std::size_t count(const std::string& text, const std::string& word) {
  std::size_t found = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

const Json kObjectives = {{{"metric", "accuracy"}}, {{"metric", "latency_p50_us"}}};

TEST(FrontSvg, EveryMeasuredTrialIsAPointAndTitlesAreEscaped) {
  const Json report = {{"trials", {trial(0, 0.9, 200), trial(1, 0.89, 100), {{"number", 2}, {"metrics", nullptr}}}},
                       {"front", {{{"trial", 0}}, {{"trial", 1}}}}};
  const std::string svg = front_svg(report, kObjectives, "<script>alert(1)</script>");
  EXPECT_EQ(count(svg, "<circle"), 2U);
  EXPECT_EQ(svg.find("<script>"), std::string::npos);
  EXPECT_NE(svg.find("&lt;script&gt;"), std::string::npos);
  EXPECT_NE(svg.find("f32 baseline"), std::string::npos);
}

TEST(FrontSvg, NoTrialAndOneTrialAreDrawnToo) {
  EXPECT_NE(front_svg(Json::object(), kObjectives, "x").find("</svg>"), std::string::npos);
  const std::string svg = front_svg({{"trials", {trial(0, 0.9, 200)}}, {"front", {{{"trial", 0}}}}}, kObjectives, "x");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(count(svg, "<circle"), 1U);
}

}  // namespace
}  // namespace kerf::cli
