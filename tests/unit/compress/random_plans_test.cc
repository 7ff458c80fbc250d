#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/compress.h"
#include "workers/compress/export.h"
#include "workers/engine/executor.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Numbers;
using testing::Tensor;

/// A random network of convolutions (plain, depthwise, grouped), batch normalizations, sums,
/// concatenations and pools, then a Reshape, a LayerNormalization now and then, and matrices.
Graph random_network(std::uint32_t seed) {
  GraphBuilder b(seed);
  Numbers& dice = b.numbers;
  std::string x = b.input("x", {-1, 3, 8, 8});
  std::int64_t channels = 3;
  std::int64_t side = 8;
  std::vector<std::pair<std::string, std::int64_t>> earlier;  // of this size
  const int nodes = 3 + static_cast<int>(dice.below(6));
  for (int i = 0; i < nodes; ++i) {
    const std::string name = "n" + std::to_string(i);
    const auto choice = dice.below(8);
    if (choice == 0 && channels % 2 == 0) {
      x = b.conv(name, x, channels, channels, 3, 2);
    } else if (choice == 1) {
      x = b.conv(name, x, channels, channels, 3, channels);
    } else if (choice == 2 && !earlier.empty()) {
      const auto& [other, width] = earlier[static_cast<std::size_t>(dice.below(static_cast<std::int64_t>(earlier.size())))];
      if (width == channels) {
        x = b.op(name, "Add", {x, other});
      } else {
        x = b.concat(name, {x, other});
        channels += width;
      }
    } else if (choice == 3 && side > 2) {
      x = b.max_pool(name, x);
      side /= 2;
      earlier.clear();
    } else {
      const std::int64_t out = 2 * (1 + dice.below(5));
      x = b.conv(name, x, channels, out, dice.below(3) == 0 ? 1 : 3);
      channels = out;
      if (dice.below(2) == 0) {
        for (const char* part : {".gamma", ".beta", ".mean"}) b.constant(name + part, dice.tensor({out}));
        b.constant(name + ".variance", Tensor::f32({out}, std::vector<float>(static_cast<std::size_t>(out), 0.7F)));
        x = b.op(name + ".bn", "BatchNormalization",
                 {x, name + ".gamma", name + ".beta", name + ".mean", name + ".variance"});
      }
    }
    if (dice.below(3) != 0) x = b.relu(name + ".relu", x);
    earlier.emplace_back(x, channels);
  }
  b.constant("target", Tensor::s64({2}, {0, -1}));
  const std::int64_t width = channels * side * side;
  x = b.relu("hidden", b.gemm("fc1", b.op("rows", "Reshape", {x, "target"}), width, 10, dice.below(2) == 0));
  if (dice.below(2) == 0) {
    b.constant("scale", dice.tensor({10}));
    b.constant("shift", dice.tensor({10}));
    b.node("norm", "LayerNormalization", {x, "scale", "shift"}).attributes["axis"] = std::int64_t{-1};
    x = "norm";
  }
  if (dice.below(2) == 0) {
    b.node("mm", "MatMul", {x, b.constant("mm.w", dice.tensor({10, 10}))});
    x = b.relu("mm.relu", "mm");
  }
  b.gemm("fc2", x, 10, 4);
  return b.finish({"fc2"});
}

template <class T>
const T& any_of(Numbers& dice, const std::vector<T>& list) {
  return list[static_cast<std::size_t>(dice.below(static_cast<std::int64_t>(list.size())))];
}

/// A plan that names no layer, so that each does what it can.
std::string random_plan(Numbers& dice) {
  static const std::vector<std::string> prunes = {
      "", "", R"("prune": {"structure": "channel", "ratio": 0.3, "score": "l1"})",
      R"("prune": {"structure": "channel", "ratio": 0.6, "score": "bn"})",
      R"("prune": {"structure": "channel", "ratio": 0.3, "score": "apoz"})",
      R"("prune": {"structure": "channel", "ratio": 0.9, "score": "taylor"})",
      R"("prune": {"structure": "unstructured", "ratio": 0.5, "score": "wanda"})",
      R"("prune": {"structure": "unstructured", "ratio": 0.9, "score": "taylor"})",
      R"("prune": {"structure": "2:4", "score": "wanda"})", R"("prune": {"structure": "1:3"})"};
  static const std::vector<std::string> ranks = {
      "", "", R"("rank": 0.5)", R"("rank": {"share": 0.3, "form": "spatial", "data_aware": true})",
      R"("rank": {"share": 0.5, "form": "tucker", "data_aware": true})",
      R"("rank": {"share": 0.2, "form": "svd", "data_aware": true})"};
  static const std::vector<std::string> bits = {
      "", "", R"("weight_bits": 8, "activation_bits": 8)",
      R"("weight_bits": 4, "rounding": "adaptive", "weight_range": "mse")",
      R"("weight_bits": 3, "activation_bits": 8, "rounding": "adaptive")", R"("weight_bits": 16)",
      R"("codebook": 8)", R"("codebook": 16, "weight_bits": 8, "activation_bits": 8)", R"("weight_bits": "ternary")",
      R"("weight_bits": 1, "activation_bits": 8, "activation_range": "dynamic")",
      R"("weight_bits": 4, "granularity": "group:4", "symmetric": false, "rounding": "adaptive")"};
  static const std::vector<std::string> recoveries = {
      R"("none")", R"("bias_correction")", R"("reconstruct")", R"(["reconstruct", "bias_correction"])",
      R"("batch_norm")", R"(["reconstruct", "batch_norm"])"};
  std::string star;
  for (const auto* list : {&prunes, &ranks, &bits}) {
    const std::string& part = any_of(dice, *list);
    if (!part.empty()) star += (star.empty() ? "" : ", ") + part;
  }
  return R"({"global": {"equalize": )" + std::string(dice.below(2) == 0 ? "true" : "false") +
         R"(, "recovery": )" + any_of(dice, recoveries) + R"(}, "layers": {"*": {)" + star + "}}}";
}

TEST(RandomPlans, EveryMixOfTechniquesRunsOnEveryNetwork) {
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    const auto model = prepare(random_network(seed));
    ASSERT_TRUE(model.has_value()) << seed << ": " << model.error().message;
    Numbers dice(seed + 5000);
    const Tensor data = dice.tensor({dice.below(3) == 0 ? 1 : 24, 3, 8, 8});
    Calibration calibration(*model, {data}, 1);
    for (int round = 0; round < 4; ++round) {
      const std::string text = random_plan(dice);
      const auto plan = CompressionPlan::parse(*parse_json(text));
      ASSERT_TRUE(plan.has_value()) << text << ": " << plan.error().message;
      const auto out = compress(*model, *plan, &calibration);
      ASSERT_TRUE(out.has_value()) << "seed " << seed << ", " << text << ": " << out.error().message;
      ASSERT_TRUE(out->graph.check().has_value()) << text;
      const auto y = engine::run_all(out->graph, {data}, 1);
      ASSERT_TRUE(y.has_value()) << "seed " << seed << ", " << text << ": " << y.error().message;
      EXPECT_EQ((*y)[0].shape(), (graph::Shape{data.dim(0), 4}));
      for (const float value : (*y)[0].to_floats())
        ASSERT_TRUE(std::isfinite(value)) << "seed " << seed << ", " << text;
      EXPECT_TRUE(to_standard_onnx(*out, {}).has_value()) << text;
      // What a study remembers between candidates changes none of them.
      if (round == 3) {
        Calibration fresh(*model, {data}, 1);
        const auto again = compress(*model, *plan, &fresh);
        ASSERT_TRUE(again.has_value());
        for (const auto& [name, tensor] : out->graph.initializers)
          ASSERT_EQ(tensor.to_floats(), again->graph.initializers.at(name).to_floats())
              << "seed " << seed << ", " << text << ": " << name;
      }
    }
  }
}

}  // namespace
}  // namespace kerf::compress
