#include "core/plan.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

CompressionPlan plan_of(const char* text) {
  auto plan = CompressionPlan::parse(*parse_json(text));
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return *plan;
}

std::string refusal(const char* text) {
  const auto plan = CompressionPlan::parse(*parse_json(text));
  EXPECT_FALSE(plan.has_value()) << text;
  return plan.has_value() ? "" : plan.error().message;
}

TEST(Plan, OwnKeysWinOverStarWhichWinsOverGlobal) {
  const auto plan = plan_of(R"({"global": {"range": "entropy", "granularity": "tensor"},
      "layers": {"*": {"weight_bits": 8, "activation_bits": 8, "range": "mse"},
                 "fc": {"weight_bits": 4}}})");
  EXPECT_EQ(plan.layer("conv").range, "mse");
  EXPECT_EQ(plan.layer("conv").granularity, "tensor");
  EXPECT_EQ(plan.layer("fc").range, "entropy");
  EXPECT_EQ(plan.layer("fc").weight_bits, 4);
  EXPECT_EQ(plan.layer("fc").activation_bits, 32);
  EXPECT_EQ(plan.layer("fc").weight_range, "entropy");
  EXPECT_TRUE(plan.names("fc"));
  EXPECT_FALSE(plan.names("conv"));
}

TEST(Plan, RatioOfOneIsRefusedWithItsPlace) {
  EXPECT_EQ(refusal(R"({"layers": {"c": {"prune": {"structure": "channel", "ratio": 1.0}}}})"),
            "plan.layers.c.prune.ratio: 1.0; expected a number from 0 to below 1");
  EXPECT_NE(refusal(R"({"layers": {"c": {"prune": {"ratio": -0.1}}}})"), "");
  EXPECT_NE(refusal(R"({"layers": {"c": {"prune": {"structure": "4:2"}}}})"), "");
}

TEST(Plan, FloatWeightsWithByteActivationsAreRefused) {
  EXPECT_NE(refusal(R"({"layers": {"c": {"activation_bits": 8}}})").find("activation_bits 8"),
            std::string::npos);
  EXPECT_EQ(plan_of(R"({"global": {"activation_bits": 8}, "layers": {"c": {"weight_bits": 8}}})")
                .layer("other").activation_bits, 32);
}

TEST(Plan, CanonicalTextIsTheSameForTheSamePlan) {
  EXPECT_EQ(plan_of("{}").canonical(), "{}");
  EXPECT_TRUE(plan_of(R"({"layers": {"a": {"weight_bits": 32}, "b": {}}})").is_baseline());
  EXPECT_EQ(plan_of(R"({"global": {"range": "mse", "recovery": "bias_correction"}})").is_baseline(),
            false);
  EXPECT_EQ(plan_of(R"({"global": {"range": "mse"}})").canonical(), "{}");
  EXPECT_EQ(plan_of(R"({"layers": {"a": {"weight_bits": 8, "prune": {"ratio": 0}}}})").canonical(),
            plan_of(R"({"layers": {"a": {"weight_bits": 8, "symmetric": true}}})").canonical());
  EXPECT_NE(plan_of(R"({"layers": {"a": {"weight_bits": 8}}})").canonical(),
            plan_of(R"({"layers": {"a": {"weight_bits": 7}}})").canonical());
}

TEST(Plan, ARankIsAShareOrAnEnergy) {
  const auto plan = plan_of(R"({"layers": {"a": {"rank": {"energy": 0.95, "form": "tucker"}}}})");
  EXPECT_EQ(plan.layer("a").rank.energy, 0.95);
  EXPECT_TRUE(plan.layer("a").rank.factorizes());
  EXPECT_FALSE(plan.is_baseline());
  EXPECT_NE(plan.canonical(), plan_of(R"({"layers": {"a": {"rank": {"energy": 0.9, "form": "tucker"}}}})").canonical());
  EXPECT_NE(plan.canonical(), plan_of(R"({"layers": {"a": {"rank": {"share": 0.95, "form": "tucker"}}}})").canonical());
  EXPECT_NE(refusal(R"({"layers": {"a": {"rank": {"energy": 0.9, "share": 0.5}}}})").find("both"), std::string::npos);
  for (const char* energy : {"0", "1", "-0.5", "\"most\""}) {
    const std::string text = std::string(R"({"layers": {"a": {"rank": {"energy": )") + energy + "}}}}";
    EXPECT_NE(refusal(text.c_str()).find("plan.layers.a.rank.energy"), std::string::npos) << text;
  }
}

TEST(Plan, WeightsHaveNoMovingAverage) {
  const auto plan = plan_of(R"({"global": {"range": "moving_average"}, "layers": {"a": {"weight_bits": 8}}})");
  EXPECT_EQ(plan.layer("a").range, "moving_average");
  EXPECT_EQ(plan.layer("a").weight_range, "minmax");
  EXPECT_NE(refusal(R"({"layers": {"a": {"weight_range": "moving_average"}}})"), "");
}

TEST(Plan, NothingRecoversAfterDistillation) {
  EXPECT_NE(refusal(R"({"global": {"recovery": ["distill", "reconstruct"]}})").find("\"reconstruct\" after \"distill\""),
            std::string::npos);
  EXPECT_EQ(plan_of(R"({"global": {"recovery": ["reconstruct", "distill"]}})").recovery().size(), 2U);
}

TEST(Plan, JsonComesBackEqual) {
  const auto plan = plan_of(R"({"global": {"recovery": ["bias_correction", "distill"],
      "distill": {"seconds": 5}, "prune": 0.3, "equalize": true},
      "layers": {"a": {"weight_bits": "ternary", "rank": 0.5, "codebook": 16}, "*": {"weight_bits": 8}}})");
  const auto again = CompressionPlan::parse(plan.to_json());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->to_json(), plan.to_json());
  EXPECT_EQ(again->canonical(), plan.canonical());
  EXPECT_EQ(again->layer("a").weight_bits, kTernaryBits);
}

TEST(Plan, TheSeedOfDistillationIsWrittenOnlyWhereItIsAnotherThanTheDefault) {
  const auto plan = plan_of(R"({"global": {"recovery": "distill", "distill": {"epochs": 3, "seed": 7}}})");
  EXPECT_EQ(plan.distill().seed, 7);
  EXPECT_EQ(CompressionPlan::parse(plan.to_json())->distill().seed, 7);
  const auto usual = plan_of(R"({"global": {"recovery": "distill", "distill": {"epochs": 3, "seed": 1}}})");
  EXPECT_EQ(usual.canonical(), plan_of(R"({"global": {"recovery": "distill", "distill": {"epochs": 3}}})").canonical());
  EXPECT_EQ(usual.canonical().find("seed"), std::string::npos);
  EXPECT_NE(refusal(R"({"global": {"distill": {"seed": -1}}})").find("plan.global.distill.seed: -1"), std::string::npos);
}

}  // namespace
}  // namespace kerf
