#include "core/study.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

constexpr const char* kFull = R"({
  "name": "digits nightly", "model": "model.onnx",
  "data": {"calibration": "calib.npz", "evaluation": "eval.npz", "test": "test.npz"},
  "preprocess": {"scale": 0.00392157, "mean": [0.5], "std": [0.5], "layout": "NCHW"},
  "objectives": [{"metric": "accuracy", "direction": "maximize"}, {"metric": "latency_p50_us"}],
  "constraints": [{"metric": "accuracy_drop", "max": 0.02}],
  "space": {"default": {"weight_bits": [4, 8, 32], "activation_bits": [8, 32],
                        "prune": {"structure": "channel", "ratios": [0, 0.25, 0.5]}},
            "layers": [{"match": "conv1*", "weight_bits": [8, 32]}], "ties": [["fc1", "fc2"]],
            "global": {"range": ["minmax", "mse"], "recovery": ["none", "bias_correction"]}},
  "search": {"sampler": "optuna-nsga2", "seed": 1},
  "budget": {"trials": 200, "seconds": 28800, "stagnation": 50, "gain": 0.001},
  "measure": {"threads": 1, "batch": 1},
  "hardware": {"labels": {"cpu": "zen4"}},
  "window": {"start": "22:00", "stop": "06:00", "timezone": "Europe/Berlin"}})";

TEST(Study, TheContractsExampleParsesAndComesBackEqual) {
  const auto study = StudyDefinition::parse(*parse_json(kFull));
  ASSERT_TRUE(study.has_value()) << study.error().message;
  EXPECT_EQ(study->space.all_layers.at("prune").size(), 3U);
  EXPECT_EQ(study->objectives.at(1).direction, Direction::kMinimize);
  const auto again = StudyDefinition::parse(study->to_json());
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(*again, *study);
  EXPECT_EQ(again->identity(), study->identity());
}

TEST(Study, ModelAndDataAreEnough) {
  const auto study = StudyDefinition::parse({{"model", "m.onnx"}, {"data", "d.npz"}});
  ASSERT_TRUE(study.has_value()) << study.error().message;
  EXPECT_EQ(study->objectives.size(), 3U);
  EXPECT_EQ(study->data.single, "d.npz");
  EXPECT_EQ(*StudyDefinition::parse(study->to_json()), *study);
}

TEST(Study, BudgetAndNameDoNotChangeTheIdentityButTheSeedDoes) {
  const Json base = {{"model", "m.onnx"}, {"data", "d.npz"}};
  const auto identity = [&](const Json& more) {
    Json document = base;
    document.update(more);
    return StudyDefinition::parse(document)->identity();
  };
  EXPECT_EQ(identity({{"name", "x"}, {"budget", {{"trials", 3}}}}), identity(Json::object()));
  EXPECT_NE(identity({{"search", {{"seed", 2}}}}), identity(Json::object()));
}

TEST(Study, UnknownKeysAndBadValuesSayWhereAndWhatWasExpected) {
  const auto refusal = [](const char* text) {
    const auto study = StudyDefinition::parse(*parse_json(text));
    EXPECT_FALSE(study.has_value()) << text;
    return study.has_value() ? std::string() : study.error().message;
  };
  EXPECT_EQ(refusal(R"({"model": "m", "data": "d", "objectves": []})"),
            "study: unknown key \"objectves\"; did you mean \"objectives\"?");
  EXPECT_NE(refusal(R"({"data": "d"})").find("\"model\""), std::string::npos);
  EXPECT_NE(refusal(R"({"model": "m", "data": "d", "space": {"default": {"weight_bits": [9]}}})")
                .find("weight_bits: 9"), std::string::npos);
  EXPECT_NE(refusal(R"({"model": "m", "data": "d", "space": {"default": {"prune": {"structure": "channel", "ratios": [1.0]}}}})")
                .find("ratio: 1.0"), std::string::npos);
  EXPECT_NE(refusal(R"({"model": "m", "data": "d", "objectives": [{"metric": "speed"}]})")
                .find("\"speed\""), std::string::npos);
  EXPECT_NE(refusal(R"({"model": "m", "data": "d", "budget": {"trials": 0}})"), "");
  EXPECT_EQ(refusal(R"({"model": "m", "data": "d", "constraints": [{"metric": "agreement", "min": 0.9, "max": 0.5}]})"),
            "study.constraints[0].max: 0.5; expected at least \"min\", 0.9");
}

TEST(Study, WithoutACalibrationSetTheDefaultSpaceNeedsNone) {
  const auto space = [](const char* data) {
    return StudyDefinition::parse({{"model", "m"}, {"data", Json::parse(data)}})->space;
  };
  const SpaceDefinition without = space(R"({"evaluation": "e.npz"})");
  EXPECT_FALSE(without.all_layers.contains("activation_bits"));
  EXPECT_FALSE(without.global.contains("recovery"));
  EXPECT_TRUE(without.all_layers.contains("weight_bits"));
  for (const char* data : {R"("d.npz")", R"({"evaluation": "e.npz", "calibration": "c.npz"})"}) {
    EXPECT_TRUE(space(data).all_layers.contains("activation_bits"));
    EXPECT_TRUE(space(data).global.contains("recovery"));
  }
}

TEST(Study, PatternsMatchLikeTheShell) {
  EXPECT_TRUE(matches("conv1*", "conv1.a"));
  EXPECT_TRUE(matches("*.conv?", "block1.conv2"));
  EXPECT_FALSE(matches("conv", "conv1"));
  EXPECT_TRUE(matches("*", ""));
}

}  // namespace
}  // namespace kerf
