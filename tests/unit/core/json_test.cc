#include "core/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

TEST(Json, ErrorNamesLineAndColumn) {
  const auto parsed = parse_json("{\n  \"a\": 1,\n  \"b\": }\n");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_NE(parsed.error().message.find("line 3"), std::string::npos) << parsed.error().message;
}

TEST(Json, ErrorShowsWhatStoodThere) {
  const auto nan = parse_json(R"({"loss": NaN})");
  ASSERT_FALSE(nan.has_value());
  EXPECT_NE(nan.error().message.find("line 1, column 10: "), std::string::npos) << nan.error().message;
  EXPECT_NE(nan.error().message.find("invalid literal; last read: '\"loss\": N'"), std::string::npos) << nan.error().message;
  const auto large = parse_json("[1" + std::string(5000, '0') + "]");
  ASSERT_FALSE(large.has_value());
  EXPECT_LT(large.error().message.size(), 200U);
  EXPECT_NE(large.error().message.find("number overflow"), std::string::npos) << large.error().message;
  EXPECT_EQ(large.error().message.find("exception"), std::string::npos) << large.error().message;
}

TEST(Json, DepthSizeAndDuplicateKeysHaveLimits) {
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']')).has_value());
  EXPECT_FALSE(parse_json(std::string(65, '[') + std::string(65, ']')).has_value());
  EXPECT_FALSE(parse_json(std::string(100'000, '[')).has_value());
  EXPECT_FALSE(parse_json("[1,2,3]", {.bytes = 4}).has_value());
  const auto twice = parse_json(R"({"a": 1, "a": 2})");
  ASSERT_FALSE(twice.has_value());
  EXPECT_NE(twice.error().message.find("\"a\" stands twice"), std::string::npos);
}

TEST(Json, UnknownKeyNamesTheNearestKnownOne) {
  const auto result = check_keys({{"weigth_bits", 8}}, "plan.layers.conv1",
                                 {"weight_bits", "activation_bits"});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().message,
            "plan.layers.conv1: unknown key \"weigth_bits\"; did you mean \"weight_bits\"?");
}

}  // namespace
}  // namespace kerf
