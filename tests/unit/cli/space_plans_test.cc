// A study's space and the compression that its plans meet live in rooms that don't know each other; this
// holds them together: what a space offers, a layer can do.
#include <gtest/gtest.h>

#include <set>

#include "core/study.h"
#include "search/random.h"
#include "search/space.h"
#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/measure/inspect.h"

namespace kerf {
namespace {

using compress::testing::GraphBuilder;
using compress::testing::Numbers;

/// Every kind of layer: plain, depthwise, grouped and transposed convolutions, matrices of each op,
/// one of a single channel, two that share their weights.
compress::PreparedModel model_of_all_kinds() {
  GraphBuilder b(5);
  auto x = b.relu("r1", b.conv("conv", b.input("x", {-1, 3, 8, 8}), 3, 8));
  x = b.relu("r2", b.conv("depthwise", x, 8, 8, 3, 8));
  x = b.op("sum", "Add", {b.conv("grouped", x, 8, 8, 3, 2), x});
  auto& up = b.node("up", "ConvTranspose", {x, b.constant("up.weight", b.numbers.tensor({8, 4, 2, 2})),
                                            b.constant("up.bias", b.numbers.tensor({4}))});
  up.attributes["kernel_shape"] = std::vector<std::int64_t>{2, 2};
  up.attributes["strides"] = std::vector<std::int64_t>{2, 2};
  x = b.max_pool("pool", b.max_pool("pool0", "up"));
  x = b.relu("r3", b.conv("one", x, 4, 1, 1));
  x = b.relu("r4", b.gemm("fc1", b.flatten("rows", x), 16, 12));
  b.node("twin1", "MatMul", {x, b.constant("shared", b.numbers.tensor({12, 12}))});
  b.node("twin2", "MatMul", {b.relu("r5", "twin1"), "shared"});
  b.gemm("fc2", "twin2", 12, 4, false);
  auto model = compress::prepare(b.finish({"fc2"}));
  EXPECT_TRUE(model.has_value()) << (model.has_value() ? "" : model.error().message);
  return std::move(*model);
}

search::SearchSpace space_of(const ModelInfo& info, const std::string& space) {
  const auto study = StudyDefinition::parse(*parse_json(R"({"model": "m.onnx", "data": "d.npz", "space": )" + space + "}"));
  EXPECT_TRUE(study.has_value()) << (study.has_value() ? "" : study.error().message);
  auto built = search::SearchSpace::build(study->space, info);
  EXPECT_TRUE(built.has_value()) << (built.has_value() ? "" : built.error().message);
  return std::move(*built);
}

/// Each key of a plan as a list, where a layer chooses; then each as a list of `global`.
const std::vector<std::string> kSpaces = {
    R"({"default": {"weight_bits": [32, 16, 8, 4, 2, "ternary", 1], "activation_bits": [32, 16, 8, 1],
                    "activation_range": ["static", "dynamic"], "granularity": ["channel", "tensor", "group:4"],
                    "symmetric": [true, false], "rounding": ["nearest", "adaptive"],
                    "prune": [{"structure": "channel", "ratios": [0, 0.3], "score": "l2"},
                              {"structure": "channel", "ratio": 0.5, "score": "mean_output"},
                              {"structure": "channel", "ratio": 0.4, "score": "bn"},
                              {"structure": "unstructured", "ratio": 0.5, "score": "wanda"}, {"structure": "2:4"}],
                    "rank": [1, 0.5, {"share": 0.4, "form": "spatial", "data_aware": true},
                             {"energy": 0.8, "form": "tucker"}, {"energy": 0.9}],
                    "codebook": [0, 4, {"entries": 8, "init": "density"}]},
        "global": {"recovery": ["none", "bias_correction", "reconstruct", "batch_norm", ["reconstruct", "bias_correction"], "distill"],
                   "distill": [{"epochs": 1}, {"epochs": 1, "optimizer": "sgd"}]}})",
    R"({"default": {"weight_bits": [32, 8, 3, 1], "activation_bits": [32, 8],
                    "weight_range": ["minmax", "percentile", "mse"]},
        "global": {"range": ["minmax", "moving_average", "percentile", "entropy", "mse"],
                   "rounding": ["nearest", "adaptive"], "granularity": ["channel", "tensor", "group:4"],
                   "activation_range": ["static", "dynamic"], "symmetric": [true, false], "equalize": [false, true],
                   "prune": [0, 0.25, 0.5], "rank": [1, 0.5, {"energy": 0.9}], "codebook": [0, 8],
                   "recovery": ["none", "bias_correction"]}})",
    R"({"global": {"weight_bits": [32, 16, 8, 4, "ternary", 1], "activation_bits": [32, 16, 8, 1],
                   "prune": [{"structure": "channel", "ratio": 0.25}, {"structure": "unstructured", "ratio": 0.5}],
                   "recovery": ["none", "reconstruct"]}})"};

TEST(SpacePlans, EveryPointOfASpaceOfEveryKeyIsAPlanThatTheModelCanDo) {
  const compress::PreparedModel model = model_of_all_kinds();
  const auto info = measure::inspect(model);
  ASSERT_TRUE(info.has_value()) << info.error().message;
  compress::Calibration calibration(model, {Numbers(6).tensor({12, 3, 8, 8})}, 1);
  for (std::size_t s = 0; s < kSpaces.size(); ++s) {
    const search::SearchSpace space = space_of(*info, kSpaces[s]);
    search::Rng dice({static_cast<std::int64_t>(s), 77});
    std::set<std::string> executed;
    for (int round = 0; round < 120; ++round) {
      search::Choices choices;
      for (const auto& spec : space.specs()) choices.push_back(static_cast<int>(dice.below(spec.choices)));
      const auto plan = space.plan(choices);
      ASSERT_TRUE(plan.has_value()) << plan.error().message;
      const auto out = compress::compress(model, *plan, &calibration);
      ASSERT_TRUE(out.has_value()) << canonical_text(plan->to_json()) << ": " << out.error().message;
      for (const auto& layer : out->layers) executed.insert(layer.executes_as);
    }
    EXPECT_GE(executed.size(), 4U) << "the space must reach more than f32: " << kSpaces[s];
  }
}

TEST(SpacePlans, WhatTheModelCannotBeTrainedForIsDroppedAndNeverTried) {
  GraphBuilder b(9);
  const auto x = b.op("odd", "Erf", {b.gemm("fc1", b.input("x", {-1, 6}), 6, 5)});
  b.gemm("fc2", b.op("top", "Round", {x}), 5, 3);
  const auto model = compress::prepare(b.finish({"fc2"}));
  ASSERT_TRUE(model.has_value());
  const auto info = measure::inspect(*model);
  ASSERT_TRUE(info.has_value());
  ASSERT_NE(info->distill_refused_because.find("Round"), std::string::npos) << info->distill_refused_because;
  const auto again = ModelInfo::parse(info->to_json());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->distill_refused_because, info->distill_refused_because);
  const search::SearchSpace space =
      space_of(*info, R"({"default": {"weight_bits": [8]}, "global": {"recovery": ["none", "distill", "bias_correction"]}})");
  ASSERT_EQ(space.dimensions().size(), 1U);
  EXPECT_EQ(space.dimensions()[0].spec.choices, 2);
  const auto only = StudyDefinition::parse(
      *parse_json(R"({"model": "m", "data": "d", "space": {"global": {"recovery": ["distill"]}}})"));
  ASSERT_TRUE(only.has_value());
  const auto refused = search::SearchSpace::build(only->space, *info);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("study.space.global.recovery"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace kerf
