// Each pass: the graph computes what it computed before, and is what the pass promises.
#include <algorithm>
#include <cmath>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

std::int64_t count(const Graph& graph, const std::string& op) {
  return std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.op == op; });
}

const Node* named(const Graph& graph, const std::string& name) {
  for (const Node& node : graph.nodes) {
    if (node.name == name) return &node;
  }
  return nullptr;
}

/// Simplifies and checks that the outputs stay what they were.
Graph simplified(const Graph& graph, float tolerance, const PassOptions& options = {}) {
  auto result = simplify(graph, options);
  if (!result.has_value()) {
    ADD_FAILURE() << result.error().message;
    return {};
  }
  Random random(7);
  const std::vector<Tensor> inputs = random_inputs(graph, random);
  const auto before = run_reference(graph, inputs);
  const auto after = run_reference(*result, inputs);
  if (!before.has_value() || !after.has_value()) {
    ADD_FAILURE() << (before.has_value() ? after.error().message : before.error().message);
    return {};
  }
  for (std::size_t i = 0; i < before->size(); ++i) expect_close((*after)[i], (*before)[i], tolerance, "output " + std::to_string(i));
  return *result;
}

std::vector<std::string> batch_norm(Builder& b, Random& random, const std::string& x, std::int64_t channels) {
  const auto vector = [&](float low, float high) { return b.constant(random.positive({channels}, low, high)); };
  return {b.node("BatchNormalization", {x, vector(0.5F, 2), vector(-1, 1), vector(-1, 1), vector(0.1F, 2)}, {{"epsilon", 1e-3F}})};
}

TEST(FoldBatchNorm, GoesIntoConvolutionsOfEveryKind) {
  Random random;
  struct Case {
    std::string op;
    Shape weights;
    std::int64_t groups, channels;
    bool bias;
  };
  for (const Case& c : {Case{"Conv", {6, 4, 3, 3}, 1, 6, false}, Case{"Conv", {6, 2, 3, 3}, 2, 6, true},
                        Case{"Conv", {4, 1, 3, 3}, 4, 4, true}, Case{"ConvTranspose", {4, 3, 2, 2}, 1, 3, true},
                        Case{"ConvTranspose", {4, 3, 2, 2}, 2, 6, false}}) {
    Builder b;
    std::vector<std::string> inputs{b.input({2, 4, 6, 5}), b.constant(random.f32(c.weights))};
    if (c.bias) inputs.push_back(b.constant(random.f32({c.channels})));
    const std::string y = b.node(c.op, inputs, {{"group", c.groups}});
    const std::string layer = b.graph.nodes.back().name;
    b.output(b.node("Relu", batch_norm(b, random, y, c.channels)));
    const Graph after = simplified(b.graph, 3e-6F);
    EXPECT_EQ(count(after, "BatchNormalization"), 0) << c.op << " groups " << c.groups;
    EXPECT_NE(named(after, layer), nullptr) << "the layer keeps its name";
  }
}

TEST(FoldBatchNorm, GoesIntoGemmAndMatMul) {
  Random random;
  for (const bool gemm : {true, false}) {
    Builder b;
    const std::string x = b.input({5, 4});
    const std::string y = gemm ? b.node("Gemm", {x, b.constant(random.f32({3, 4})), b.constant(random.f32({1, 3}))},
                                        {{"transB", std::int64_t{1}}, {"alpha", 0.5F}, {"beta", 2.0F}})
                               : b.node("MatMul", {x, b.constant(random.f32({4, 3}))});
    b.output(batch_norm(b, random, y, 3)[0]);
    const Graph after = simplified(b.graph, 3e-6F);
    ASSERT_EQ(after.nodes.size(), 1U);
    EXPECT_EQ(after.nodes[0].op, "Gemm");
  }
}

TEST(FoldBatchNorm, StaysWhereTheLayersResultIsReadTwiceOrTheLayerComesAfter) {
  Random random;
  Builder b;
  const std::string x = b.input({1, 3, 4, 4});
  const std::string y = b.node("Conv", {batch_norm(b, random, x, 3)[0], b.constant(random.f32({3, 3, 1, 1}))});
  b.output(y);
  b.output(batch_norm(b, random, y, 3)[0]);
  EXPECT_EQ(count(simplified(b.graph, 3e-6F), "BatchNormalization"), 2);
}

TEST(MergeBias, AddsOfEachFormGoIntoTheConvolution) {
  Random random;
  for (const Shape& shape : {Shape{5, 1, 1}, Shape{1, 5, 1, 1}, Shape{1}, Shape{}}) {
    for (const bool first : {true, false}) {
      Builder b;
      const std::string x = b.input({2, 3, 4, 4});
      const std::string y = b.node("Conv", {x, b.constant(random.f32({5, 3, 1, 1}))});
      const std::string c = b.constant(random.f32(shape));
      b.output(b.node("Add", first ? std::vector{c, y} : std::vector{y, c}));
      const Graph after = simplified(b.graph, 1e-6F);
      EXPECT_EQ(after.nodes.size(), 1U) << graph::to_string(shape);
    }
  }
}

TEST(MergeBias, AddsThatArentOneAChannelStay) {
  Random random;
  for (const Shape& shape : {Shape{5}, Shape{1, 1, 5, 5}, Shape{2, 5, 1, 1}}) {
    Builder b;
    const std::string x = b.input({2, 3, 5, 5});
    const std::string y = b.node("Conv", {x, b.constant(random.f32({5, 3, 1, 1}))});
    b.output(b.node("Add", {y, b.constant(random.f32(shape))}));
    EXPECT_EQ(count(simplified(b.graph, 1e-6F), "Add"), 1) << graph::to_string(shape);
  }
}

TEST(MergeBias, MatMulBecomesGemmInTwoDimensionsOnly) {
  Random random;
  for (const bool flat : {true, false}) {
    Builder b;
    const std::string x = b.input(flat ? Shape{4, 6} : Shape{2, 4, 6});
    b.output(b.node("Add", {b.node("MatMul", {x, b.constant(random.f32({6, 3}))}), b.constant(random.f32({3}))}));
    const Graph after = simplified(b.graph, 1e-6F);
    EXPECT_EQ(count(after, "Gemm"), flat ? 1 : 0);
    EXPECT_EQ(count(after, "Add"), flat ? 0 : 1);
  }
}

TEST(MergeBias, GemmWithAndWithoutItsOwnBias) {
  Random random;
  for (const bool own : {true, false}) {
    Builder b;
    std::vector<std::string> inputs{b.input({4, 6}), b.constant(random.f32({6, 3}))};
    if (own) inputs.push_back(b.constant(random.f32({3})));
    b.output(b.node("Add", {b.node("Gemm", inputs, {{"beta", 0.5F}, {"alpha", 2.0F}}), b.constant(random.f32({1, 3}))}));
    EXPECT_EQ(simplified(b.graph, 1e-6F).nodes.size(), 1U);
  }
}

TEST(FoldConstants, EvaluatesWhatDependsOnConstantsAlone) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 4});
  const std::string w = b.node("Transpose", {b.node("Mul", {b.constant(random.f32({3, 4})), b.constant(Tensor::scalar(2.0F))})});
  const std::string c = b.node("Constant", {}, {{"value", random.f32({3})}});
  b.output(b.node("Add", {b.node("MatMul", {x, w}), c}));
  const Graph after = simplified(b.graph, 1e-6F);
  ASSERT_EQ(after.nodes.size(), 1U);
  EXPECT_EQ(after.nodes[0].op, "Gemm");
}

TEST(FoldConstants, LeavesTheDequantizeLinearOfWeights) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 4});
  const std::string w = b.integer_weights(random.bytes(DType::kS8, {3, 4}, -127, 127), {0.1F, 0.2F, 0.3F}, 0);
  const std::string bias = b.node("DequantizeLinear", {b.constant(Tensor::of<std::int32_t>(DType::kS32, {3}, {100, -50, 7})),
                                                       b.constant(Tensor::f32({3}, {0.01F, 0.02F, 0.03F}))}, {{"axis", std::int64_t{0}}});
  b.output(b.node("Gemm", {x, w, bias}, {{"transB", std::int64_t{1}}}));
  const Graph after = simplified(b.graph, 1e-6F);
  EXPECT_EQ(count(after, "DequantizeLinear"), 1) << "the weights', not the bias'";
  EXPECT_TRUE(graph::is_layer(after, after.nodes.back()));
}

TEST(FoldConstants, TransposedIntegerWeightsStayIntegers) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 4});
  const std::string w = b.integer_weights(random.bytes(DType::kS8, {3, 4}, -127, 127), {0.1F, 0.2F, 0.3F}, 0);
  b.output(b.node("MatMul", {x, b.node("Transpose", {w}, {{"perm", Ints{1, 0}}})}));
  const Graph after = simplified(b.graph, 1e-6F);
  EXPECT_EQ(count(after, "Transpose"), 0);
  EXPECT_EQ(count(after, "DequantizeLinear"), 1);
}

TEST(RemoveIdentity, DropsWhatChangesNothing) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 4});
  std::string y = b.node("Identity", {x});
  y = b.node("Dropout", {y, b.constant(Tensor::scalar(0.5F))});
  y = b.node("Cast", {y}, {{"to", std::int64_t{1}}});
  y = b.node("Reshape", {y, b.constant(Tensor::s64({2}, {2, 4}))});
  y = b.node("Relu", {y});
  y = b.node("Identity", {y});
  b.output(y);
  const Graph after = simplified(b.graph, 0.0F);
  ASSERT_EQ(after.nodes.size(), 1U);
  EXPECT_EQ(after.nodes[0].op, "Relu");
  EXPECT_EQ(after.outputs[0].name, b.graph.outputs[0].name);
}

TEST(RemoveIdentity, KeepsOneBetweenAnInputAndAnOutput) {
  Builder b;
  b.output(b.node("Identity", {b.input({2, 4})}));
  EXPECT_EQ(simplified(b.graph, 0.0F).nodes.size(), 1U);
}

TEST(DeadNodes, GoWithTheirConstants) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 4});
  b.node("Add", {x, b.constant(random.f32({4}))});
  b.output(b.node("Relu", {x}));
  const Graph after = simplified(b.graph, 0.0F);
  EXPECT_EQ(after.nodes.size(), 1U);
  EXPECT_TRUE(after.initializers.empty());
}

TEST(Passes, EachCanBeSwitchedOffByName) {
  Random random;
  Builder b;
  const std::string x = b.input({1, 3, 4, 4});
  const std::string w = b.node("Neg", {b.constant(random.f32({3, 3, 1, 1}))});
  const std::string y = b.node("Conv", {b.node("Identity", {x}), w});
  const std::string z = b.node("Add", {y, b.constant(random.f32({3, 1, 1}))});
  b.output(batch_norm(b, random, z, 3)[0]);
  EXPECT_EQ(simplified(b.graph, 3e-6F).nodes.size(), 1U);
  EXPECT_EQ(count(simplified(b.graph, 3e-6F, {{"fold-constants"}}), "Neg"), 1);
  EXPECT_EQ(count(simplified(b.graph, 3e-6F, {{"remove-identity"}}), "Identity"), 1);
  EXPECT_EQ(count(simplified(b.graph, 3e-6F, {{"fold-batch-norm"}}), "BatchNormalization"), 1);
  EXPECT_EQ(count(simplified(b.graph, 3e-6F, {{"merge-bias"}}), "Add"), 1);
}

TEST(Passes, AnUnknownNameIsRefusedWithTheNearestOne) {
  Builder b;
  b.output(b.node("Relu", {b.input({2, 4})}));
  const auto unknown = simplify(b.graph, {{"fold-constant"}});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("pass \"fold-constant\""), std::string::npos) << unknown.error().message;
  EXPECT_NE(unknown.error().message.find("nearest: \"fold-constants\""), std::string::npos) << unknown.error().message;
}

TEST(Passes, DeadNodesStayWhereTheirPassIsOffAndChangeNothing) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 4});
  // One that passes leave alone, and one that hangs on what they rewrite.
  b.node("Add", {x, b.constant(random.f32({4}))});
  const std::string y = b.node("MatMul", {b.node("Identity", {x}), b.constant(random.f32({4, 3}))});
  b.node("Relu", {y});
  b.output(b.node("Add", {y, b.constant(random.f32({3}))}));
  EXPECT_EQ(count(simplified(b.graph, 1e-6F), "Relu"), 0);
  const Graph after = simplified(b.graph, 1e-6F, {{"remove-dead-nodes"}});
  EXPECT_EQ(count(after, "Relu"), 1);
  EXPECT_EQ(count(after, "Add"), 2);
  const std::vector<Tensor> inputs = random_inputs(b.graph, random);
  const Ran with = execute(b.graph, inputs);
  const Ran without = execute(b.graph, inputs, 1, {{"remove-dead-nodes"}});
  expect_close(without.outputs.at(0), with.outputs.at(0), 1e-6F, "the output");
}

/// Names of the steps that run.
std::vector<std::string> steps_of(const Ran& ran) {
  std::vector<std::string> out;
  for (const StepInfo& step : ran.steps) out.push_back(step.op);
  return out;
}

TEST(Passes, ActivationsSumsAndRoundingHaveStepsOfTheirOwnWhereFusionIsOff) {
  Random random;
  for (const bool integers : {false, true}) {
    Builder b;
    const std::string x = b.input({1, 4, 6, 6});
    const auto layer = [&](const std::string& value) {
      const std::string w = integers ? b.integer_weights(random.bytes(DType::kS8, {4, 4, 1, 1}, -127, 127), {0.01F, 0.02F, 0.03F, 0.01F}, 0)
                                     : b.constant(random.f32({4, 4, 1, 1}));
      const std::string rounded =
          integers ? b.dequantize(b.quantize(value, 0.05F, 0, DType::kS8), 0.05F, 0, DType::kS8) : value;
      return b.node("Conv", {rounded, w});
    };
    const std::string first = b.node("Relu", {layer(x)});
    const std::string second = b.node("Add", {layer(first), first});
    // x * Sigmoid(x), which is an op of its own where it may be.
    b.output(b.node("Mul", {second, b.node("Sigmoid", {second})}));
    const std::vector<Tensor> inputs = random_inputs(b.graph, random);
    const Ran fused = execute(b.graph, inputs);
    const Ran plain = execute(b.graph, inputs, 1, {{"fuse-activations"}});
    expect_close(plain.outputs.at(0), fused.outputs.at(0), 2e-6F, integers ? "integers" : "f32");
    // What a layer's own step did before: the activation and the sum, and with f32 the gate.
    EXPECT_GE(plain.steps.size(), fused.steps.size() + 3) << (integers ? "integers" : "f32");
    const auto ops = steps_of(plain);
    for (const char* op : {"Relu", "Add", "Sigmoid", "Mul"}) {
      EXPECT_NE(std::find(ops.begin(), ops.end(), op), ops.end()) << op;
    }
  }
}

TEST(QOperator, LinearConvAndMatMulBecomeQdq) {
  Random random;
  Builder b;
  const auto byte = [&](DType dtype, int v) {
    Tensor t(dtype, {});
    t.mutable_as<std::uint8_t>()[0] = static_cast<std::uint8_t>(v);
    return b.constant(t);
  };
  const auto real = [&](float v) { return b.constant(Tensor::scalar(v)); };
  const std::string x = b.quantize(b.input({1, 2, 4, 4}), 0.02F, 120, DType::kU8);
  const std::string conv = b.node(
      "QLinearConv", {x, real(0.02F), byte(DType::kU8, 120), b.constant(random.bytes(DType::kS8, {3, 2, 3, 3}, -127, 127)),
                      b.constant(Tensor::f32({3}, {0.01F, 0.02F, 0.005F})), b.constant(Tensor(DType::kS8, {3})), real(0.05F),
                      byte(DType::kU8, 100), b.constant(Tensor::of<std::int32_t>(DType::kS32, {3}, {50, -70, 3}))});
  const std::string layer = b.graph.nodes.back().name;
  const std::string flat = b.node("Flatten", {conv});
  const std::string product = b.node("QLinearMatMul", {flat, real(0.05F), byte(DType::kU8, 100), b.constant(random.bytes(DType::kS8, {12, 5}, -127, 127)),
                                                       real(0.01F), byte(DType::kS8, 0), real(0.1F), byte(DType::kS8, 3)});
  b.output(b.dequantize(product, 0.1F, 3, DType::kS8));
  const auto after = simplify(b.graph);
  ASSERT_TRUE(after.has_value()) << after.error().message;
  EXPECT_EQ(count(*after, "QLinearConv") + count(*after, "QLinearMatMul"), 0);
  EXPECT_NE(named(*after, layer), nullptr);
  const Ran ran = execute(b.graph, random_inputs(b.graph, random));
  for (const StepInfo& step : ran.steps) {
    if (step.is_layer) {
      EXPECT_EQ(step.executes_as, full_bytes()) << step.name;
    }
  }
}

}  // namespace
}  // namespace kerf::engine::testing
