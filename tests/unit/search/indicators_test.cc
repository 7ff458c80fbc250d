#include "search/indicators.h"

#include <gmock/gmock.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/json.h"

namespace kerf::search {
namespace {

const std::vector<Direction> kBothMinimised = {Direction::kMinimize, Direction::kMinimize};

Json indicator_goldens() {
  auto document = read_json_file(KERF_SOURCE_DIR "/tests/golden/search/indicators.json");
  EXPECT_TRUE(document.has_value());
  return document.has_value() ? *document : Json();
}

TEST(IgdPlus, EqualsMoocoreToTwelveDigits) {
  const Json cases = indicator_goldens()["igd_plus"];
  ASSERT_GE(cases.size(), 6U);
  for (const Json& one : cases) {
    std::vector<Direction> directions;
    for (const Json& text : one["directions"]) directions.push_back(*direction_from_string(text.get<std::string>()));
    const double expected = one["igd_plus"].get<double>();
    EXPECT_NEAR(igd_plus(one["points"].get<std::vector<ObjectiveVector>>(),
                         one["reference"].get<std::vector<ObjectiveVector>>(), directions),
                expected, 1e-12 * std::max(1.0, expected));
  }
}

TEST(IgdPlus, IsZeroWhereEverythingIsReachedAndInfiniteWithoutPoints) {
  const std::vector<ObjectiveVector> reference = {{1, 2}, {2, 1}};
  const std::vector<ObjectiveVector> better = {{1, 1}};
  EXPECT_EQ(igd_plus(better, reference, kBothMinimised), 0);
  EXPECT_EQ(igd_plus({}, reference, kBothMinimised), std::numeric_limits<double>::infinity());
  EXPECT_THROW((void)igd_plus(better, {}, kBothMinimised), std::invalid_argument);
}

TEST(Attainment, EqualsMoocore) {
  const Json cases = indicator_goldens()["attainment"];
  ASSERT_GE(cases.size(), 8U);
  for (const Json& one : cases) {
    const auto runs = one["runs"].get<std::vector<std::vector<ObjectiveVector>>>();
    EXPECT_EQ(attainment_surface(runs, kBothMinimised, one["level"].get<std::size_t>()),
              one["surface"].get<std::vector<ObjectiveVector>>());
  }
}

TEST(Attainment, OfAllRunsIsEmptyWhereOneFoundNothing) {
  const std::vector<std::vector<ObjectiveVector>> runs = {{{1, 2}, {2, 1}}, {}};
  EXPECT_EQ(attainment_surface(runs, kBothMinimised, 1).size(), 2U);
  EXPECT_TRUE(attainment_surface(runs, kBothMinimised, 2).empty());
  EXPECT_THROW((void)attainment_surface(runs, kBothMinimised, 3), std::invalid_argument);
}

}  // namespace
}  // namespace kerf::search
