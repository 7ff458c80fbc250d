// ConvInteger and MatMulInteger: exact sums, and the layers that dynamic quantization writes with them.
#include <algorithm>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

Tensor zeros_of(Random& random, DType dtype, std::int64_t count) {
  return random.bytes(dtype, count == 0 ? Shape{} : Shape{count}, dtype == DType::kU8 ? 0 : -128, dtype == DType::kU8 ? 255 : 127);
}

Tensor all_bytes(Random& random, DType dtype, const Shape& shape) {
  return random.bytes(dtype, shape, dtype == DType::kU8 ? 0 : -128, dtype == DType::kU8 ? 255 : 127);
}

bool runs_plain(const Ran& ran) {
  return std::any_of(ran.steps.begin(), ran.steps.end(), [](const StepInfo& s) { return s.kernel == "kerf:reference"; });
}

TEST(ConvIntegerSums, AreExactForEveryTypeWindowAndZeroPoint) {
  Random random(91);
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE("round " + std::to_string(round) + ", seed " + std::to_string(random.seed()));
    const DType source = random.chance(0.5) ? DType::kU8 : DType::kS8;
    const DType weights = random.chance(0.5) ? DType::kU8 : DType::kS8;
    const std::int64_t groups = 1 + random.below(3);
    const std::int64_t in = groups * (1 + random.below(9));
    const std::int64_t out = groups * (1 + random.below(20));
    Shape shape{1 + random.below(2), in};
    Shape kernel{out, in / groups};
    Ints strides, dilations, pads, more;
    const std::int64_t spatial = 1 + random.below(3);
    for (std::int64_t d = 0; d < spatial; ++d) {
      shape.push_back(4 + random.below(6));
      kernel.push_back(1 + random.below(3));
      strides.push_back(1 + random.below(2));
      dilations.push_back(shape.back() > 6 ? 1 + random.below(2) : 1);
      pads.push_back(random.below(3));
      more.push_back(random.below(3));
    }
    pads.insert(pads.end(), more.begin(), more.end());
    Builder b;
    std::vector<Tensor> fed{all_bytes(random, source, shape)};
    std::vector<std::string> inputs{b.input(shape, source), b.constant(all_bytes(random, weights, kernel))};
    if (random.chance(0.8)) {
      // The source's zero point is a constant or comes while the model runs.
      const Tensor zero = zeros_of(random, source, 0);
      if (random.chance(0.5)) {
        inputs.push_back(b.constant(zero));
      } else {
        inputs.push_back(b.input({}, source));
        fed.push_back(zero);
      }
      if (random.chance(0.7)) inputs.push_back(b.constant(zeros_of(random, weights, random.chance(0.5) ? 0 : out)));
    }
    const std::string y = b.node("ConvInteger", inputs, {{"strides", strides}, {"dilations", dilations}, {"pads", pads}, {"group", groups}});
    b.graph.outputs.push_back({y, DType::kS32, {}});
    const Ran ran = expect_like_reference(b.graph, fed, 0.0F, 1 + round % 2);
    EXPECT_FALSE(runs_plain(ran));
    if (::testing::Test::HasFailure()) return;
  }
}

/// Without VNNI the library's sums pass through floats, which hold 24 bits.
void expect_sums(const Tensor& got, const Tensor& wanted) {
  if (has_vnni()) {
    EXPECT_EQ(got.to_integers(), wanted.to_integers());
    return;
  }
  const auto a = got.to_integers();
  const auto b = wanted.to_integers();
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_LE(std::abs(a[i] - b[i]), std::abs(b[i]) >> 22) << i;
}

TEST(ConvIntegerSums, BeyondWhatAFloatHolds) {
  Random random(92);
  for (const DType weights : {DType::kU8, DType::kS8}) {
    for (const DType source : {DType::kU8, DType::kS8}) {
      Builder b;
      // All near the ends of their types: sums of up to 2^27.
      const int high = 126;
      const std::string x = b.input({1, 512, 3, 3}, source);
      const std::string w = b.constant(random.bytes(weights, {16, 512, 3, 3}, high - 5, high));
      Tensor zero(source, {});
      zero.mutable_as<std::uint8_t>()[0] = 3;
      Tensor weights_zero(weights, {});
      weights_zero.mutable_as<std::uint8_t>()[0] = weights == DType::kU8 ? 5 : 0;
      const std::string y = b.node("ConvInteger", {x, w, b.constant(zero), b.constant(weights_zero)}, {{"pads", Ints{1, 1, 1, 1}}});
      const Tensor data = random.bytes(source, {1, 512, 3, 3}, source == DType::kU8 ? 245 : high - 9, source == DType::kU8 ? 255 : high);
      b.graph.outputs.push_back({y, DType::kS32, {}});
      const auto wanted = run_reference(b.graph, {data});
      ASSERT_TRUE(wanted.has_value());
      const Ran ran = execute(b.graph, {data});
      EXPECT_FALSE(runs_plain(ran));
      // As integers: floats would hide the last bits.
      expect_sums(ran.outputs[0], (*wanted)[0]);
      EXPECT_GT(*std::ranges::max_element((*wanted)[0].as<std::int32_t>()), 1 << 24);
    }
  }
}

TEST(MatMulIntegerSums, AreExactBeyondWhatAFloatHolds) {
  Random random(96);
  for (const DType weights : {DType::kU8, DType::kS8}) {
    for (const DType source : {DType::kU8, DType::kS8}) {
      for (const std::int64_t zeros : {0, 1, 24}) {
        Builder b;
        const int high = 126;
        std::vector<std::string> inputs{b.input({2, 3, 4096}, source), b.constant(random.bytes(weights, {4096, 24}, high - 5, high))};
        Tensor zero(source, {});
        zero.mutable_as<std::uint8_t>()[0] = 3;
        inputs.push_back(b.constant(zero));
        // None, one, or one a column, which differ.
        if (zeros > 0) inputs.push_back(b.constant(random.bytes(weights, zeros == 1 ? Shape{} : Shape{zeros}, 0, 9)));
        b.graph.outputs.push_back({b.node("MatMulInteger", inputs), DType::kS32, {}});
        const Tensor data = random.bytes(source, {2, 3, 4096}, source == DType::kU8 ? 245 : high - 9, source == DType::kU8 ? 255 : high);
        const auto wanted = run_reference(b.graph, {data});
        ASSERT_TRUE(wanted.has_value());
        const Ran ran = execute(b.graph, {data});
        EXPECT_FALSE(runs_plain(ran));
        expect_sums(ran.outputs[0], (*wanted)[0]);
        EXPECT_GT(*std::ranges::max_element((*wanted)[0].as<std::int32_t>()), 1 << 24);
      }
    }
  }
}

struct Dynamic {
  std::string integers, scale, zero;
};
Dynamic dynamic(Builder& b, const std::string& value) {
  Dynamic out;
  out.integers = b.node("DynamicQuantizeLinear", {value}, {}, 3);
  out.scale = b.graph.nodes.back().outputs[1];
  out.zero = b.graph.nodes.back().outputs[2];
  return out;
}

/// As ONNX Runtime's quantize_dynamic writes a layer.
std::string integer_layer(Builder& b, const std::string& op, const Dynamic& x, const Tensor& weights, const Tensor& scale, const Tensor& zero,
                          std::map<std::string, Attribute> attributes = {}) {
  const std::string sums = b.node(op, {x.integers, b.constant(weights), x.zero, b.constant(zero)}, std::move(attributes));
  const std::string real = b.node("Cast", {sums}, {{"to", std::int64_t{1}}});
  return b.node("Mul", {real, b.node("Mul", {x.scale, b.constant(scale)})});
}

TEST(DynamicLayers, ConvolutionsRunAsOneIntegerPrimitiveWithBiasAndActivation) {
  Random random(93);
  for (const DType type : {DType::kS8, DType::kU8}) {
    for (const int zero : {0, 1, 100, 128, 131}) {
      if (type == DType::kS8 && zero > 100) continue;
      for (const bool per_channel : {false, true}) {
        SCOPED_TRACE(std::string(graph::to_string(type)) + " zero " + std::to_string(zero) + (per_channel ? ", scales per channel" : ""));
        Builder b;
        Tensor weights_zero(type, {});
        weights_zero.mutable_as<std::uint8_t>()[0] = static_cast<std::uint8_t>(zero);
        const Tensor scale = per_channel ? random.positive({1, 24, 1, 1}, 0.005F, 0.02F) : Tensor::scalar(0.01F);
        const std::string conv = integer_layer(b, "ConvInteger", dynamic(b, b.input({2, 8, 9, 9})), all_bytes(random, type, {24, 8, 3, 3}), scale, weights_zero,
                                               {{"pads", Ints{1, 1, 1, 1}}});
        b.output(b.node("Relu", {b.node("Add", {conv, b.constant(random.f32({1, 24, 1, 1}))})}));
        const Ran ran = expect_like_reference(b.graph, {random.f32({2, 8, 9, 9}, 1.0F, 0.5F)}, 2e-6F, 2);
        const StepInfo* layer = layer_step(ran, "Conv");
        ASSERT_NE(layer, nullptr);
        EXPECT_EQ(layer->executes_as, full_bytes()) << layer->kernel;
        EXPECT_EQ(count_steps(ran, "Relu") + count_steps(ran, "Add") + count_steps(ran, "Mul") + count_steps(ran, "Cast"), 0);
      }
    }
  }
}

TEST(DynamicLayers, ThreeProductsShareOneRange) {
  Random random(94);
  for (const DType type : {DType::kS8, DType::kU8}) {
    Builder b;
    const Dynamic x = dynamic(b, b.input({2, 7, 40}));
    for (int i = 0; i < 3; ++i) {
      const bool many = i == 1;
      const Tensor scale = many ? random.positive({24}, 0.005F, 0.02F) : Tensor::scalar(0.01F);
      const std::string y = integer_layer(b, "MatMulInteger", x, all_bytes(random, type, {40, 24}), scale,
                                          many ? random.bytes(type, {24}, type == DType::kU8 ? 128 : 0, type == DType::kU8 ? 128 : 0) : zeros_of(random, type, 0));
      b.output(b.node("Add", {b.constant(random.f32({24})), y}));
    }
    const Ran ran = expect_like_reference(b.graph, {random.f32({2, 7, 40})}, 2e-6F);
    int layers = 0;
    for (const StepInfo& step : ran.steps) {
      EXPECT_NE(step.kernel, "kerf:reference");
      if (!step.is_layer) continue;
      EXPECT_EQ(step.executes_as, full_bytes()) << step.kernel;
      ++layers;
    }
    EXPECT_EQ(layers, 3);
    EXPECT_EQ(ran.steps.size(), has_vnni() ? 4U : 5U) << "in f32 they share what is dequantized";
  }
}

TEST(DynamicLayers, WhatElseReadsTheSumsKeepsThemIntegers) {
  Random random(95);
  Builder b;
  const Dynamic x = dynamic(b, b.input({3, 16}));
  const std::string sums = b.node("MatMulInteger", {x.integers, b.constant(all_bytes(random, DType::kS8, {16, 8})), x.zero});
  const std::string real = b.node("Cast", {sums}, {{"to", std::int64_t{1}}});
  b.output(b.node("Mul", {real, b.node("Mul", {x.scale, b.constant(Tensor::scalar(0.02F))})}));
  b.graph.outputs.push_back({sums, DType::kS32, {}});
  expect_like_reference(b.graph, {random.f32({3, 16})}, 1e-6F);
}

}  // namespace
}  // namespace kerf::engine::testing
