#include "api/request.h"

#include <gtest/gtest.h>

namespace kerf::api {
namespace {

TEST(Target, SegmentsAndParametersAreDecoded) {
  Request request;
  ASSERT_TRUE(parse_target("/v1/studies/a%20b?limit=5&cursor=x%3Dy", &request).has_value());
  EXPECT_EQ(request.path, (std::vector<std::string>{"v1", "studies", "a b"}));
  EXPECT_EQ(request.query.at("limit"), "5");
  EXPECT_EQ(request.query.at("cursor"), "x=y");
}

TEST(Target, WhatIsNoAbsolutePathIsRefused) {
  for (const char* bad : {"", "v1/studies", "http://x/", "/%zz", "/%", "/a b", "*"}) {
    Request request;
    EXPECT_FALSE(parse_target(bad, &request).has_value()) << bad;
  }
  Request request;
  EXPECT_FALSE(parse_target("/a%00b", &request).has_value());
}

TEST(Problem, SaysStatusTitleAndDetail) {
  const Response response = problem_response(not_found("no study \"x\""));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.content_type, "application/problem+json");
  const auto document = parse_json(response.body);
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ((*document)["code"], "not_found");
  EXPECT_EQ((*document)["detail"], "no study \"x\"");
}

}  // namespace
}  // namespace kerf::api
