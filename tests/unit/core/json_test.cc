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
