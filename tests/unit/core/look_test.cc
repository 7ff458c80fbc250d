#include "core/look.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

Json plan(const char* text) { return *parse_json(text); }

TEST(Look, ARequestIsTheSameAfterItsWayAsJson) {
  LookRequest request;
  request.damage = {plan(R"({"layers": {"a": {"weight_bits": 4}}})")};
  request.cost = {Json::object()};
  request.labels = {plan(R"({"layers": {"b": {"weight_bits": 4}}})"), plan(R"({"layers": {"c": {"weight_bits": 2}}})")};
  request.beside = plan(R"({"layers": {"*": {"weight_bits": 8, "activation_bits": 8}}})");
  request.samples = 7;
  request.label_samples = 99;
  request.timed = false;
  request.seconds = 2.5;
  const auto back = LookRequest::parse(*parse_json(canonical_text(request.to_json())));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->damage, request.damage);
  EXPECT_EQ(back->cost, request.cost);
  EXPECT_EQ(back->labels, request.labels);
  EXPECT_EQ(back->beside, request.beside);
  EXPECT_EQ(back->samples, 7);
  EXPECT_EQ(back->label_samples, 99);
  EXPECT_FALSE(back->timed);
  EXPECT_EQ(back->seconds, 2.5);
}

TEST(Look, ARequestOfBeforeHasNoLooksAtLabels) {
  const auto old = LookRequest::parse(plan(R"({"damage": [{}], "cost": [], "samples": 16})"));
  ASSERT_TRUE(old.has_value()) << old.error().message;
  EXPECT_TRUE(old->labels.empty());
  EXPECT_FALSE(LookRequest::parse(plan(R"({"damage": [], "cost": [], "samples": 16, "labels": 3})")).has_value());
}

TEST(Look, AResultIsTheSameAfterItsWayAsJson) {
  LookResult result;
  result.damage.resize(1);
  result.damage[0].look = DamageLook{0.25, 0.5, 0.125, 0.0625, 100, 200};
  result.labels.resize(3);
  result.labels[0].look = LabelLook{0.03125, -0.015625, 0.0078125, 500};
  result.labels[1].error = "layer 'x' isn't there";
  result.seconds = 1.5;
  result.statistics_seconds = 0.5;
  const auto back = LookResult::parse(*parse_json(canonical_text(result.to_json())));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->to_json(), result.to_json());
  ASSERT_EQ(back->labels.size(), 3U);
  ASSERT_TRUE(back->labels[0].look.has_value());
  EXPECT_EQ(back->labels[0].look->kl, 0.03125);
  EXPECT_EQ(back->labels[0].look->lean, -0.015625);
  EXPECT_EQ(back->labels[0].look->error, 0.0078125);
  EXPECT_EQ(back->labels[0].look->samples, 500);
  EXPECT_FALSE(back->labels[1].look.has_value());
  EXPECT_EQ(back->labels[1].error, "layer 'x' isn't there");
  EXPECT_FALSE(back->labels[2].look.has_value());
  EXPECT_TRUE(back->labels[2].error.empty());
}

TEST(Look, AResultOfBeforeHasNoLooksAtLabels) {
  const auto old = LookResult::parse(plan(R"({"damage": [null], "cost": [], "seconds": 1})"));
  ASSERT_TRUE(old.has_value()) << old.error().message;
  EXPECT_TRUE(old->labels.empty());
}

TEST(Look, ALookAtLabelsSaysAllItKnows) {
  EXPECT_FALSE(LabelLook::parse(plan(R"({"kl": 0, "lean": 0, "standard_error": 0})")).has_value());
  EXPECT_FALSE(LabelLook::parse(plan(R"({"kl": 0, "lean": "x", "standard_error": 0, "samples": 5})")).has_value());
  EXPECT_FALSE(LookResult::parse(plan(R"({"damage": [], "cost": [], "labels": {}, "seconds": 1})")).has_value());
}

}  // namespace
}  // namespace kerf
