// DynamicQuantizeLinear: the range of what comes, in integer kernels.
#include <algorithm>
#include <cmath>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

struct DynamicParts {
  std::string integers, scale, zero, real;
};

DynamicParts dynamic(Builder& b, const std::string& value) {
  DynamicParts out;
  out.integers = b.node("DynamicQuantizeLinear", {value}, {}, 3);
  const auto& outputs = b.graph.nodes.back().outputs;
  out.scale = outputs[1];
  out.zero = outputs[2];
  out.real = b.node("DequantizeLinear", {out.integers, out.scale, out.zero});
  return out;
}

std::string weights_of(Builder& b, Random& random, const Shape& shape) {
  std::vector<float> scales;
  for (std::int64_t i = 0; i < shape[0]; ++i) scales.push_back(0.01F + 0.001F * static_cast<float>(i));
  return b.integer_weights(random.bytes(DType::kS8, shape, -127, 127), scales, 0);
}

/// conv (padded: a padded zero is the zero point) → relu → gemm, each behind a range of its own.
Graph two_layers(Random& random) {
  Builder b;
  const std::string x = dynamic(b, b.input({1, 8, 7, 7})).real;
  const std::string conv = b.node("Conv", {x, weights_of(b, random, {16, 8, 3, 3}), b.constant(random.f32({16}))},
                                  {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}});
  const std::string flat = b.node("Flatten", {b.node("Relu", {conv})});
  b.output(b.node("Gemm", {dynamic(b, flat).real, weights_of(b, random, {5, 784}), b.constant(random.f32({5}))},
                  {{"transB", std::int64_t{1}}}));
  return b.graph;
}

TEST(DynamicRange, LayersRunInIntegersWithTheRangeOfWhatComes) {
  Random random(71);
  for (const int threads : {1, 2}) {
    const Graph graph = two_layers(random);
    for (const float deviation : {1e-3F, 1.0F, 1e4F}) {
      for (const float mean : {0.0F, 2.0F, -2.0F}) {
        const Ran ran = expect_like_reference(graph, {random.f32({1, 8, 7, 7}, deviation, mean * deviation)}, 1e-2F, threads);
        int layers = 0;
        for (const StepInfo& step : ran.steps) {
          if (!step.is_layer) continue;
          EXPECT_EQ(step.executes_as, full_bytes()) << step.kernel;
          ++layers;
        }
        EXPECT_EQ(layers, 2);
      }
    }
  }
}

TEST(DynamicRange, WhoCannotUseTheBytesReadsNumbers) {
  Random random(72);
  Builder b;
  const std::string x = b.input({1, 6, 5, 5});
  const DynamicParts parts = dynamic(b, x);
  const std::string conv = b.node("Conv", {parts.real, weights_of(b, random, {6, 6, 1, 1})});
  b.output(b.node("Add", {conv, parts.real}));
  b.output(b.node("Conv", {parts.real, b.constant(random.f32({2, 6, 3, 3}))}));  // f32 weights
  const Ran ran = expect_like_reference(b.graph, {random.f32({1, 6, 5, 5})}, 1e-4F);
  EXPECT_TRUE(std::any_of(ran.steps.begin(), ran.steps.end(), [](const StepInfo& s) { return s.is_layer && s.executes_as == full_bytes(); }));
  EXPECT_TRUE(std::any_of(ran.steps.begin(), ran.steps.end(), [](const StepInfo& s) { return s.is_layer && s.executes_as == "f32"; }));
}

TEST(DynamicRange, IntegersScaleAndZeroPointAreValuesLikeOthers) {
  Builder b;
  const DynamicParts parts = dynamic(b, b.input({6}));
  b.graph.outputs.push_back({parts.integers, DType::kU8, {}});
  b.graph.outputs.push_back({parts.scale, DType::kF32, {}});
  b.graph.outputs.push_back({parts.zero, DType::kU8, {}});
  // The example of ONNX's documentation.
  const Ran ran = execute(b.graph, {Tensor::f32({6}, {0, 2, -3, -2.5F, 1.34F, 0.5F})});
  EXPECT_EQ(ran.outputs[0].to_integers(), (std::vector<std::int64_t>{153, 255, 0, 26, 221, 179}));
  EXPECT_NEAR(ran.outputs[1].to_floats()[0], 5.0F / 255, 1e-7);
  EXPECT_EQ(ran.outputs[2].to_integers(), std::vector<std::int64_t>{153});
}

TEST(DynamicRange, ZerosAndDenormalsGiveNumbers) {
  Builder b;
  b.output(dynamic(b, b.input({4})).real);
  for (const std::vector<float>& values : {std::vector<float>{0, 0, 0, 0}, std::vector<float>{1e-44F, -1e-44F, 0, 1e-42F},
                                           std::vector<float>{3, 3, 3, 3}, std::vector<float>{-5, -5, -5, -5}}) {
    const Ran ran = execute(b.graph, {Tensor::f32({4}, values)});
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(ran.outputs[0].to_floats()[i], values[i], std::fabs(values[i]) * 0.004F + 1e-37F);
    }
  }
}

}  // namespace
}  // namespace kerf::engine::testing
