// Products and convolutions whose factors aren't a layer's plain weights.
#include <algorithm>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

bool runs_plain(const Ran& ran) {
  return std::any_of(ran.steps.begin(), ran.steps.end(), [](const StepInfo& s) { return s.kernel == "kerf:reference"; });
}

const StepInfo* step_of(const Ran& ran, const std::string& op) {
  const auto found = std::find_if(ran.steps.begin(), ran.steps.end(), [&](const StepInfo& s) { return s.op == op; });
  return found == ran.steps.end() ? nullptr : &*found;
}

TEST(OpenConvolution, WeightsAndBiasMayBeValues) {
  Random random(101);
  for (int round = 0; round < 48; ++round) {
    SCOPED_TRACE("round " + std::to_string(round) + ", seed " + std::to_string(random.seed()));
    const bool transposed = round % 2 == 1;
    const std::int64_t groups = 1 + random.below(3);
    const std::int64_t in = groups * (1 + random.below(8));
    const std::int64_t out = groups * (1 + random.below(20));
    const std::int64_t spatial = 1 + random.below(3);
    Shape shape{1 + random.below(2), in};
    Shape kernel = transposed ? Shape{in, out / groups} : Shape{out, in / groups};
    Ints strides, pads;
    for (std::int64_t d = 0; d < spatial; ++d) {
      shape.push_back(4 + random.below(5));
      kernel.push_back(2 + random.below(2));
      strides.push_back(1 + random.below(2));
      pads.push_back(random.below(2));
    }
    for (std::int64_t d = 0; d < spatial; ++d) pads.push_back(random.below(2));
    Builder b;
    // Weights that are a value, a bias that is one, or both.
    const int form = round / 2 % 3;
    std::vector<std::string> inputs{b.input(shape), form == 1 ? b.constant(random.f32(kernel)) : b.input(kernel)};
    if (form != 0) inputs.push_back(b.input({out}));
    const std::string y = b.node(transposed ? "ConvTranspose" : "Conv", inputs, {{"strides", strides}, {"pads", pads}, {"group", groups}});
    b.output(b.node("Relu", {y}));
    const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(in * 27), 1 + round % 2);
    EXPECT_FALSE(runs_plain(ran));
    if (::testing::Test::HasFailure()) return;
  }
}

/// Scores and mixture of an attention between pairs of QuantizeLinear and DequantizeLinear.
TEST(IntegerProduct, OfTwoQuantizedValuesGivesBytesForTheNextOne) {
  Random random(102);
  for (const auto& [left, right] : {std::pair(DType::kU8, DType::kU8), std::pair(DType::kU8, DType::kS8), std::pair(DType::kS8, DType::kS8), std::pair(DType::kS8, DType::kU8)}) {
    for (const bool rounded : {true, false}) {
      SCOPED_TRACE(std::string(graph::to_string(left)) + " x " + std::string(graph::to_string(right)));
      Builder b;
      const std::string q = b.rounded(b.input({2, 3, 9, 16}), 0.02F, left == DType::kU8 ? 121 : -5, left);
      const std::string k = b.rounded(b.input({2, 3, 9, 16}), 0.025F, right == DType::kU8 ? 133 : 4, right);
      const std::string y = b.node("MatMul", {q, b.node("Transpose", {k}, {{"perm", Ints{0, 1, 3, 2}}})});
      b.output(rounded ? b.rounded(y, 0.1F, 128, DType::kU8) : y);
      std::vector<Tensor> data = random_inputs(b.graph, random);
      const auto wanted = run_reference(b.graph, data);
      ASSERT_TRUE(wanted.has_value());
      const Ran ran = execute(b.graph, data);
      const StepInfo* product = step_of(ran, "MatMul");
      ASSERT_NE(product, nullptr);
      EXPECT_EQ(product->executes_as, has_vnni() ? "s8" : "f32") << product->kernel;
      EXPECT_EQ(count_steps(ran, "QuantizeLinear"), 0);
      // What is rounded may fall to either side of the middle between two steps.
      expect_close(ran.outputs[0], (*wanted)[0], (rounded ? 0.1F : 0.0F) + 1e-5F, "product");
    }
  }
}

TEST(IntegerProduct, SoftmaxRoundsItsOwnResult) {
  Random random(103);
  Builder b;
  const std::string p = b.rounded(b.node("Softmax", {b.input({2, 3, 9, 9})}), 1.0F / 255, 0, DType::kU8);
  const std::string v = b.rounded(b.input({2, 3, 9, 16}), 0.02F, 128, DType::kU8);
  b.output(b.node("MatMul", {p, v}));
  std::vector<Tensor> data = random_inputs(b.graph, random);
  const auto wanted = run_reference(b.graph, data);
  ASSERT_TRUE(wanted.has_value());
  const Ran ran = execute(b.graph, data);
  EXPECT_EQ(step_of(ran, "Softmax")->executes_as, has_vnni() ? "u8" : "f32");
  EXPECT_EQ(step_of(ran, "MatMul")->executes_as, has_vnni() ? "s8" : "f32");
  expect_close(ran.outputs[0], (*wanted)[0], 0.02F, "mixture");
  // Means of the values: a step of a probability is 1/255.
  EXPECT_GT(std::ranges::max((*wanted)[0].to_floats()), 0.5F);
}

/// Queries, keys and values by three layers, scores, Softmax, mixture, a layer.
Graph attention(Random& random, const char* precision) {
  Builder b;
  const std::string x = b.input({1, 10, 32});
  const auto layer = [&](const std::string& input) {
    std::map<std::string, Attribute> attributes;
    if (precision != nullptr) attributes["kerf_precision"] = std::string(precision);
    return b.node("MatMul", {input, b.constant(random.f32({32, 32}, 0.2F))}, attributes);
  };
  const auto heads = [&](const std::string& value, const Ints& order) {
    return b.node("Transpose", {b.node("Reshape", {value, b.constant(Tensor::s64({4}, {1, 10, 2, 16}))})}, {{"perm", order}});
  };
  const std::string q = heads(layer(x), {0, 2, 1, 3});
  const std::string k = heads(layer(x), {0, 2, 3, 1});
  const std::string v = heads(layer(x), {0, 2, 1, 3});
  const std::string scores = b.node("Div", {b.node("MatMul", {q, k}), b.constant(Tensor::scalar(4.0F))});
  const std::string mixed = b.node("MatMul", {b.node("Softmax", {scores}), v});
  const std::string joined = b.node("Reshape", {b.node("Transpose", {mixed}, {{"perm", Ints{0, 2, 1, 3}}}), b.constant(Tensor::s64({3}, {1, 10, 32}))});
  b.output(layer(joined));
  return b.graph;
}

TEST(Bf16Product, BetweenBf16LayersRunsInBf16) {
  for (const char* precision : {"bf16", static_cast<const char*>(nullptr)}) {
    Random random(104);
    const Graph graph = attention(random, precision);
    Random data(105);
    const bool narrow = precision != nullptr;
    const Ran ran = expect_like_reference(graph, random_inputs(graph, data), narrow ? 0.02F : 1e-5F);
    int products = 0;
    for (const StepInfo& step : ran.steps) {
      if (step.op != "MatMul") continue;
      ++products;
      const std::string wide = step.is_layer && narrow ? narrow_layer() : "f32";
      EXPECT_EQ(step.executes_as, narrow && has_bf16() ? "bf16" : wide) << step.name << " " << step.kernel;
    }
    EXPECT_EQ(products, 6);
  }
}

TEST(Bf16Product, OfAnF32LayerStaysF32) {
  Random random(106);
  Graph graph = attention(random, "bf16");
  // The layer that makes the keys isn't in the plan.
  int layers = 0;
  for (Node& node : graph.nodes) {
    if (node.op == "MatMul" && node.attributes.contains("kerf_precision") && ++layers == 2) node.attributes.clear();
  }
  const Ran ran = expect_like_reference(graph, random_inputs(graph, random), 0.02F);
  int wide = 0;
  for (const StepInfo& step : ran.steps) wide += step.op == "MatMul" && !step.is_layer && step.executes_as == "f32" ? 1 : 0;
  EXPECT_EQ(wide, 2);
}

TEST(Patches, OfAnImageBecomeRowsWithoutACopy) {
  Random random(107);
  Builder b;
  const std::string patches = b.node("Conv", {b.input({2, 3, 16, 16}), b.constant(random.f32({32, 3, 4, 4}))}, {{"strides", Ints{4, 4}}});
  const std::string flat = b.node("Reshape", {patches, b.constant(Tensor::s64({3}, {2, 32, 16}))});
  const std::string rows = b.node("Transpose", {flat}, {{"perm", Ints{0, 2, 1}}});
  b.output(b.node("LayerNormalization", {rows, b.constant(random.f32({32}))}));
  // And back: pixels that are counted anew stay where they are.
  b.output(b.node("Reshape", {flat, b.constant(Tensor::s64({4}, {2, 32, 2, 8}))}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), 1e-5F);
  EXPECT_EQ(count_steps(ran, "Transpose"), 0);
  EXPECT_LE(count_steps(ran, "reorder"), 2);  // the image on its way in, the second output on its way out
}

TEST(BatchedWeights, RunAsProductsOfTheLibraryInEveryPrecision) {
  Random random(108);
  for (const char* form : {"f32", "bf16", "rounded"}) {
    SCOPED_TRACE(form);
    Builder b;
    const std::string x = b.input({1, 4, 9, 16});
    std::map<std::string, Attribute> attributes;
    if (std::string(form) == "bf16") attributes["kerf_precision"] = std::string("bf16");
    const std::string w = std::string(form) == "rounded"
                              ? b.integer_weights(random.bytes(DType::kS8, {4, 16, 8}, -127, 127), {0.01F}, 0)
                              : b.constant(random.f32({4, 16, 8}));
    b.output(b.node("Relu", {b.node("MatMul", {x, w}, attributes)}));
    const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), attributes.empty() ? sum_tolerance(16) : 0.02F);
    EXPECT_FALSE(runs_plain(ran));
    const StepInfo* layer = layer_step(ran, "MatMul");
    ASSERT_NE(layer, nullptr);
    EXPECT_EQ(layer->executes_as, attributes.empty() || !has_bf16() ? "f32" : "bf16");
  }
}

TEST(ShortTimeTransform, OfARealSignalIsAConvolution) {
  Random random(109);
  for (int round = 0; round < 24; ++round) {
    const std::int64_t length = 2 + random.below(60);
    const std::int64_t size = length + random.below(200);
    const std::int64_t step = 1 + random.below(length);
    Builder b;
    std::vector<std::string> inputs{b.input({1 + random.below(3), size, 1}), b.constant(Tensor::s64({}, {step}))};
    if (round % 2 == 0) inputs.push_back(b.constant(random.positive({length}, 0.1F, 1.0F)));
    else inputs.insert(inputs.end(), {"", b.constant(Tensor::s64({}, {length}))});
    b.output(b.node("STFT", inputs, {{"onesided", random.below(2)}}));
    SCOPED_TRACE("frames of " + std::to_string(length) + " in " + std::to_string(size) + ", step " + std::to_string(step));
    const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), 2 * sum_tolerance(length), 1 + round % 2);
    EXPECT_FALSE(runs_plain(ran));
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace kerf::engine::testing
