// Layers that are binary on both sides: counting bits gives what bytes give, to the bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

const PassOptions kBytes{{"pack-signs"}};

/// What a layer that is binary on both sides reads: Sign, and integers with a scale.
std::string signs(Builder& b, const std::string& value, float scale = 0.75F) {
  return b.dequantize(b.quantize(b.node("Sign", {value}), 1.0F, 0, DType::kS8), scale, 0, DType::kS8);
}

/// -1 and 1; all of output `dead` 0, if there is one.
Tensor binary(Random& random, const Shape& shape, std::int64_t dead = -1, bool columns = false) {
  Tensor out(DType::kS8, shape);
  const auto values = out.mutable_as<std::int8_t>();
  const auto each = static_cast<std::int64_t>(values.size()) / shape[0];
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t output = columns ? at % shape.back() : at / each;
    values[i] = output == dead ? 0 : random.chance(0.5) ? 1 : -1;
  }
  return out;
}

std::vector<float> scales(Random& random, std::int64_t n) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(0.01F + std::abs(random.normal()));
  return out;
}

bool counts_bits(const StepInfo& step) { return step.kernel.starts_with("kerf:signs:"); }

void expect_same_bytes(const std::vector<Tensor>& got, const std::vector<Tensor>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto a = got[i].as<float>();
    const auto b = wanted[i].as<float>();
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t k = 0; k < a.size(); ++k) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(a[k]), std::bit_cast<std::uint32_t>(b[k])) << "output " << i << ", element " << k << ": " << a[k] << " and " << b[k];
    }
  }
}

/// Runs the graph with bits and without; the layers of the first run.
std::vector<StepInfo> expect_as_bytes(const Graph& graph, const std::vector<Tensor>& inputs, int threads, int layers_of_bits) {
  const Ran bits = execute(graph, inputs, threads);
  const auto wanted = run_reference(graph, inputs);
  EXPECT_TRUE(wanted.has_value());
  for (std::size_t i = 0; i < bits.outputs.size(); ++i) expect_close(bits.outputs[i], (*wanted)[i], 1e-5F, "the reference");
  EXPECT_EQ(std::ranges::count_if(bits.steps, counts_bits), layers_of_bits);
  const Ran bytes = execute(graph, inputs, threads, kBytes);
  EXPECT_EQ(std::ranges::count_if(bytes.steps, counts_bits), 0);
  expect_same_bytes(bits.outputs, bytes.outputs);
  std::vector<StepInfo> layers;
  for (const StepInfo& step : bits.steps) {
    if (step.is_layer) layers.push_back(step);
  }
  return layers;
}

TEST(SignLayers, ConvolutionsOfAnyWindowGiveWhatBytesGive) {
  Random random(710);
  for (int round = 0; round < 60; ++round) {
    Builder b;
    constexpr std::int64_t kChannels[] = {32, 40, 64, 65, 100, 128, 192};
    const std::int64_t channels = kChannels[random.below(7)];
    const std::int64_t outputs = 1 + random.below(70);
    const std::int64_t kernel = channels >= 192 ? 1 + random.below(3) : 3;
    const Shape input{1 + random.below(3), channels, 4 + random.below(6), 4 + random.below(6)};
    const std::int64_t stride = 1 + random.below(2);
    std::map<std::string, Attribute> attributes{
        {"strides", std::vector<std::int64_t>{stride, 1 + random.below(2)}},
        {"dilations", std::vector<std::int64_t>{1, kernel < 3 ? 1 : 1 + random.below(2)}},
        {"pads", std::vector<std::int64_t>{random.below(kernel + 1), kernel / 2 + 1, random.below(kernel + 1), random.below(kernel + 1)}}};
    std::vector<std::string> inputs{signs(b, b.input(input)),
                                    b.integer_weights(binary(random, {outputs, channels, kernel, kernel}, random.chance(0.3) ? 0 : -1), scales(random, random.chance(0.3) ? 1 : outputs), 0, 1)};
    if (random.chance(0.7)) inputs.push_back(b.constant(random.f32({outputs})));
    std::string y = b.node("Conv", inputs, attributes);
    if (random.chance(0.4)) y = b.node("Relu", {y});
    else if (random.chance(0.3)) y = b.node("LeakyRelu", {y}, {{"alpha", 0.125F}});
    b.output(y);
    SCOPED_TRACE("seed " + std::to_string(random.seed()) + ", round " + std::to_string(round) + ": " + graph::to_string(input) + ", " + std::to_string(outputs) +
                 " outputs, kernel " + std::to_string(kernel));
    const auto data = random_inputs(b.graph, random);
    for (const int threads : {1, 3}) {
      const auto layers = expect_as_bytes(b.graph, data, threads, 1);
      ASSERT_EQ(layers.size(), 1U);
      EXPECT_EQ(layers[0].executes_as, "bits");
      if (HasFatalFailure()) return;
    }
  }
}

TEST(SignLayers, ABlockOfAResidualNetworkRunsOnBitsThroughout) {
  Random random(711);
  Builder b;
  const std::string x = b.node("Relu", {b.input({2, 64, 8, 8})});
  const auto layer = [&](const std::string& from, std::int64_t kernel) {
    return b.node("Conv", {signs(b, from), b.integer_weights(binary(random, {64, 64, kernel, kernel}), scales(random, 64), 0, 1), b.constant(random.f32({64}))},
                  {{"pads", std::vector<std::int64_t>(4, kernel / 2)}});
  };
  const std::string inner = b.node("Relu", {layer(x, 3)});
  const std::string sum = b.node("Relu", {b.node("Add", {layer(inner, 3), x})});
  const std::string mean = b.node("Flatten", {b.node("GlobalAveragePool", {sum})});
  b.output(b.node("Gemm", {signs(b, mean), b.integer_weights(binary(random, {10, 64}), scales(random, 10), 0, 1), b.constant(random.f32({10}))}, {{"transB", std::int64_t{1}}}));
  const auto data = random_inputs(b.graph, random);
  for (const int threads : {1, 2}) {
    const auto layers = expect_as_bytes(b.graph, data, threads, 3);
    EXPECT_EQ(layers.size(), 3U);
  }
  // The second layer takes the signs of the first one's floats itself: no step makes them.
  const Ran ran = execute(b.graph, data);
  EXPECT_EQ(count_steps(ran, "Sign"), 1) << "that of the graph's input, which isn't channels last";
}

TEST(SignLayers, MatricesGiveWhatBytesGive) {
  Random random(712);
  for (int round = 0; round < 40; ++round) {
    Builder b;
    const std::int64_t rows = 1 + random.below(9);
    const std::int64_t depth = 192 + random.below(400);
    const std::int64_t outputs = 1 + random.below(50);
    SCOPED_TRACE("seed " + std::to_string(random.seed()) + ", round " + std::to_string(round));
    const bool gemm = random.chance(0.6);
    std::string y;
    if (gemm) {
      const bool transposed = random.chance(0.5);
      const Tensor weights = transposed ? binary(random, {outputs, depth}, 0) : binary(random, {depth, outputs}, 0, true);
      y = b.node("Gemm", {signs(b, b.input({rows, depth})), b.integer_weights(weights, scales(random, outputs), transposed ? 0 : 1, 1), b.constant(random.f32({outputs}))},
                 {{"transB", std::int64_t{transposed}}, {"alpha", random.chance(0.5) ? 1.0F : 0.3F}, {"beta", random.chance(0.5) ? 1.0F : 0.7F}});
    } else {
      y = b.node("MatMul", {signs(b, b.input({2, rows, depth})), b.integer_weights(binary(random, {depth, outputs}), scales(random, outputs), 1, 1)});
      if (random.chance(0.5)) y = b.node("Add", {y, b.constant(random.f32({outputs}))});
    }
    if (random.chance(0.3)) y = b.node("Clip", {y, b.constant(Tensor::scalar(-1.0F)), b.constant(Tensor::scalar(2.0F))});
    b.output(y);
    expect_as_bytes(b.graph, random_inputs(b.graph, random), 1 + static_cast<int>(random.below(3)), 1);
    if (HasFatalFailure()) return;
  }
}

TEST(SignLayers, AFlattenedImageAndOneSpatialAxisDoToo) {
  Random random(713);
  Builder b;
  const std::string x = b.node("Relu", {b.node("Conv", {b.input({3, 4, 6, 6}), b.constant(random.f32({16, 4, 1, 1}))})});
  const std::string flat = b.node("Flatten", {x});
  b.output(b.node("Gemm", {signs(b, flat), b.integer_weights(binary(random, {20, 16 * 36}), scales(random, 20), 0, 1)}, {{"transB", std::int64_t{1}}}));
  expect_as_bytes(b.graph, random_inputs(b.graph, random), 1, 1);

  Builder line;
  line.output(line.node("Conv", {signs(line, line.input({2, 70, 12})), line.integer_weights(binary(random, {9, 70, 3}), scales(random, 9), 0, 1)},
                        {{"pads", std::vector<std::int64_t>{1, 1}}}));
  expect_as_bytes(line.graph, random_inputs(line.graph, random), 1, 1);
}

TEST(SignLayers, WhatReadsTheSignsOtherwiseGetsThem) {
  Random random(714);
  Builder b;
  const std::string x = b.node("Relu", {b.node("Conv", {b.input({1, 3, 8, 8}), b.constant(random.f32({64, 3, 3, 3}))})});
  const std::string read = signs(b, x, 0.5F);
  b.output(b.node("Conv", {read, b.integer_weights(binary(random, {32, 64, 3, 3}), scales(random, 32), 0, 1)}));
  b.output(b.node("MaxPool", {read}, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}}));
  expect_as_bytes(b.graph, random_inputs(b.graph, random), 1, 1);
}

TEST(SignLayers, OtherLayersStayBytes) {
  Random random(715);
  const auto conv = [&](const Tensor& weights, std::int64_t groups, const std::function<std::string(Builder&, const std::string&)>& read) {
    Builder b;
    b.output(b.node("Conv", {read(b, b.input({1, 64, 6, 6})), b.integer_weights(weights, scales(random, weights.dim(0)), 0, 2)}, {{"group", groups}}));
    return execute(b.graph, random_inputs(b.graph, random));
  };
  const auto as_signs = [](Builder& b, const std::string& x) { return signs(b, x); };
  Tensor ternary = binary(random, {8, 64, 3, 3});
  ternary.mutable_as<std::int8_t>()[5] = 0;
  Tensor wide = binary(random, {8, 64, 3, 3});
  wide.mutable_as<std::int8_t>()[5] = 2;
  const Tensor plain = binary(random, {8, 64, 3, 3});
  for (const Ran& ran : {conv(ternary, 1, as_signs), conv(wide, 1, as_signs), conv(binary(random, {8, 32, 3, 3}), 2, as_signs),
                         conv(plain, 1, [](Builder& b, const std::string& x) { return b.rounded(x, 0.02F, 0, DType::kS8); }),
                         conv(plain, 1, [](Builder& b, const std::string& x) { return b.rounded(b.node("Sign", {x}), 0.5F, 0, DType::kS8); })}) {
    EXPECT_EQ(layer_step(ran, "Conv")->executes_as, "s8") << layer_step(ran, "Conv")->kernel;
  }
  const Ran bits = conv(plain, 1, as_signs);
  EXPECT_EQ(layer_step(bits, "Conv")->executes_as, "bits");
}

TEST(SignLayers, AResultThatIsRoundedToBytesOrNeedsAnotherFunctionStaysBytes) {
  Random random(716);
  for (const bool rounded : {true, false}) {
    Builder b;
    const std::string y = b.node("Conv", {signs(b, b.input({1, 64, 6, 6})), b.integer_weights(binary(random, {8, 64, 3, 3}), scales(random, 8), 0, 1)});
    b.output(rounded ? b.rounded(y, 0.3F, 0, DType::kS8) : b.node("Sigmoid", {y}));
    expect_as_bytes(b.graph, random_inputs(b.graph, random), 1, 0);
  }
}

TEST(SignLayers, SmallWeightsAreExactInBytesToo) {
  Random random(719);
  for (const int most : {1, 3, 63}) {
    Builder b;
    const std::string x = b.dequantize(b.quantize(b.input({1, 24, 6, 6}), 0.03F, 0, DType::kS8), 0.03F, 0, DType::kS8);
    b.output(b.node("Conv", {x, b.integer_weights(random.bytes(DType::kS8, {16, 24, 3, 3}, -most, most), scales(random, 16), 0, 8)}));
    const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), 1e-5F);
    EXPECT_EQ(layer_step(ran, "Conv")->executes_as, "s8") << most;
  }
}

TEST(SignLayers, WeightsTakeABitEach) {
  Random random(717);
  Builder b;
  b.output(b.node("Conv", {signs(b, b.input({1, 128, 8, 8})), b.integer_weights(binary(random, {128, 128, 3, 3}), scales(random, 128), 0, 1), b.constant(random.f32({128}))}));
  const auto data = random_inputs(b.graph, random);
  const Ran ran = execute(b.graph, data);
  const StepInfo* layer = layer_step(ran, "Conv");
  EXPECT_TRUE(counts_bits(*layer)) << layer->kernel;
  EXPECT_EQ(layer->weight_bytes, 128 * 128 * 9 / 8 + 2 * 128 * 4);
}

TEST(SignLayers, WhereKernelsMayBeTimedTheResultIsTheSame) {
  Random random(718);
  Builder b;
  const std::string x = b.node("Relu", {b.node("Conv", {b.input({4, 3, 8, 8}), b.constant(random.f32({24, 3, 3, 3}))})});
  b.output(b.node("Relu", {b.node("Conv", {signs(b, x), b.integer_weights(binary(random, {24, 24, 3, 3}), scales(random, 24), 0, 1), b.constant(random.f32({24}))})}));
  const auto data = random_inputs(b.graph, random);
  const auto simple = simplify(b.graph);
  ASSERT_TRUE(simple.has_value());
  const Ran wanted = execute(b.graph, data, 1, kBytes);
  for (const int threads : {1, 2}) {
    ExecutorOptions options{0, threads};
    options.tune = true;
    const auto executor = Executor::compile(*simple, options);
    ASSERT_TRUE(executor.has_value()) << executor.error().message;
    std::vector<Tensor> got{Tensor(DType::kF32, (*executor)->outputs()[0].shape)};
    const void* from = data[0].raw();
    void* to = got[0].mutable_raw();
    (*executor)->run({&from, 1}, {&to, 1});
    expect_close(got[0], wanted.outputs[0], 1e-5F, "tuned");
  }
}

}  // namespace
}  // namespace kerf::engine::testing
