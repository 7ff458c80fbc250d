// Each operator on the executor against the plain reference kernels.
#include <cmath>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

struct ConvCase {
  Shape input, weights;
  Ints strides, pads, dilations;
  std::int64_t groups;
};

void PrintTo(const ConvCase& c, std::ostream* out) {
  *out << graph::to_string(c.input) << " * " << graph::to_string(c.weights) << " groups " << c.groups;
}

class Convolution : public ::testing::TestWithParam<ConvCase> {};

TEST_P(Convolution, EqualsReferenceWithBiasAndActivation) {
  const ConvCase& c = GetParam();
  Random random;
  Builder b;
  const std::string x = b.input(c.input);
  const std::int64_t depth = c.weights[1] * (c.weights.size() > 2 ? c.weights[2] : 1) * 9;
  const std::string y = b.node("Conv", {x, b.constant(random.f32(c.weights, 0.3F)), b.constant(random.f32({c.weights[0]}))},
                               {{"strides", c.strides}, {"pads", c.pads}, {"dilations", c.dilations}, {"group", c.groups}});
  b.output(b.node("Relu", {y}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(depth));
  ASSERT_NE(layer_step(ran, "Conv"), nullptr);
  EXPECT_EQ(layer_step(ran, "Conv")->executes_as, "f32");
  EXPECT_EQ(count_steps(ran, "Relu"), 0) << "the activation runs inside the convolution";
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Convolution,
    ::testing::Values(ConvCase{{1, 3, 32, 32}, {16, 3, 3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1},
                      ConvCase{{2, 16, 15, 17}, {24, 16, 3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}, 1},
                      ConvCase{{1, 16, 9, 9}, {32, 16, 1, 1}, {2, 2}, {0, 0, 0, 0}, {1, 1}, 1},
                      ConvCase{{1, 13, 10, 11}, {11, 13, 3, 3}, {1, 1}, {0, 1, 2, 1}, {1, 1}, 1},
                      ConvCase{{1, 8, 14, 14}, {8, 8, 3, 3}, {1, 1}, {2, 2, 2, 2}, {2, 2}, 1},
                      ConvCase{{3, 16, 12, 12}, {16, 1, 3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 16},
                      ConvCase{{1, 12, 12, 12}, {12, 1, 5, 5}, {2, 2}, {2, 2, 2, 2}, {1, 1}, 12},
                      ConvCase{{1, 12, 8, 8}, {18, 4, 3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 3},
                      ConvCase{{1, 8, 8, 8}, {16, 1, 3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 8},
                      ConvCase{{2, 5, 40}, {7, 5, 5}, {2}, {2, 1}, {1}, 1},
                      ConvCase{{1, 4, 6, 6, 6}, {5, 4, 3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}, {1, 1, 1}, 1},
                      ConvCase{{1, 1, 28, 28}, {8, 1, 5, 5}, {1, 1}, {2, 2, 2, 2}, {1, 1}, 1}));

TEST(ConvTranspose, EqualsReference) {
  Random random;
  for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}}) {
    for (const Ints& extra : {Ints{0, 0}, Ints{1, 1}}) {
      Builder b;
      const std::string x = b.input({2, 6, 7, 5});
      b.output(b.node("ConvTranspose", {x, b.constant(random.f32({6, 4, 3, 3})), b.constant(random.f32({4 * groups}))},
                      {{"strides", Ints{2, 2}}, {"pads", Ints{1, 0, 1, 1}}, {"output_padding", extra}, {"group", groups}}));
      expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(60));
    }
  }
}

TEST(AutoPad, SameUpperAndLowerPadUnevenly) {
  Random random;
  for (const char* mode : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
    Builder b;
    const std::string x = b.input({1, 4, 11, 8});
    const std::string y = b.node("Conv", {x, b.constant(random.f32({6, 4, 3, 3}))},
                                 {{"auto_pad", std::string(mode)}, {"strides", Ints{2, 2}}});
    b.output(b.node("MaxPool", {y}, {{"auto_pad", std::string(mode)}, {"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}));
    expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(36));
  }
}

class Activation : public ::testing::TestWithParam<std::string> {};

TEST_P(Activation, InsideALayerAndAlone) {
  Random random;
  for (const bool fused : {true, false}) {
    Builder b;
    std::string x = b.input({2, 5, 7, 3});
    if (fused) x = b.node("Conv", {x, b.constant(random.f32({9, 5, 1, 1}))});
    std::map<std::string, Attribute> attributes;
    if (GetParam() == "LeakyRelu" || GetParam() == "Elu" || GetParam() == "Celu" || GetParam() == "ThresholdedRelu") attributes["alpha"] = 0.3F;
    std::vector<std::string> inputs{x};
    if (GetParam() == "Clip") inputs = {x, b.constant(Tensor::scalar(0.0F)), b.constant(Tensor::scalar(6.0F))};
    if (GetParam() == "Sqrt" || GetParam() == "Log" || GetParam() == "Reciprocal") inputs[0] = b.node("Add", {b.node("Abs", {x}), b.constant(Tensor::scalar(0.5F))});
    b.output(b.node(GetParam(), inputs, attributes));
    // Rounding near a step of Floor, Ceil, Round and Sign may fall either way behind a layer.
    const bool steps = GetParam() == "Floor" || GetParam() == "Ceil" || GetParam() == "Round" || GetParam() == "Sign";
    if (steps && fused) continue;
    expect_like_reference(b.graph, random_inputs(b.graph, random), 4e-6F);
  }
}

INSTANTIATE_TEST_SUITE_P(Functions, Activation,
                         ::testing::Values("Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Gelu",
                                           "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "ThresholdedRelu", "Exp",
                                           "Log", "Sqrt", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Reciprocal", "Erf",
                                           "Sin", "Cos"),
                         [](const auto& test) { return test.param; });

TEST(Activations, ExtremeValuesSaturate) {
  Builder b;
  const std::string x = b.input({1, 8});
  for (const char* op : {"Sigmoid", "Tanh", "Elu", "Gelu", "HardSwish"}) b.output(b.node(op, {x}));
  expect_like_reference(b.graph, {Tensor::f32({1, 8}, {-1e30F, -200.0F, -88.0F, -1e-20F, 0.0F, 1e-3F, 90.0F, 3e30F})}, 3e-7F);
}

TEST(Gated, SwishAndDecomposedFormsRunInsideTheLayer) {
  Random random;
  Builder b;
  const std::string x = b.input({1, 6, 9, 9});
  const std::string y = b.node("Conv", {x, b.constant(random.f32({8, 6, 3, 3}, 0.2F))});
  const std::string swish = b.node("Mul", {y, b.node("Sigmoid", {y})});
  const std::string z = b.node("Conv", {swish, b.constant(random.f32({8, 8, 1, 1}, 0.2F))});
  const std::string hard = b.node("Mul", {b.node("HardSigmoid", {z}, {{"alpha", 1.0F / 6.0F}, {"beta", 0.5F}}), z});
  const std::string w = b.node("Conv", {hard, b.constant(random.f32({8, 8, 1, 1}, 0.2F))});
  const std::string erf = b.node("Erf", {b.node("Div", {w, b.constant(Tensor::scalar(std::sqrt(2.0F)))})});
  const std::string product = b.node("Mul", {w, b.node("Add", {erf, b.constant(Tensor::scalar(1.0F))})});
  b.output(b.node("Mul", {product, b.constant(Tensor::scalar(0.5F))}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(100));
  for (const char* op : {"Mul", "Sigmoid", "HardSigmoid", "Erf", "Div", "Add"}) EXPECT_EQ(count_steps(ran, op), 0) << op;
}

struct PairCase {
  Shape a, b;
};
class Broadcast : public ::testing::TestWithParam<PairCase> {};

TEST_P(Broadcast, AllPairwiseOperatorsBothWays) {
  const auto& [left, right] = GetParam();
  Random random;
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min"}) {
    for (const bool constant : {false, true}) {
      for (const bool channels_last : {false, true}) {
        if (channels_last && left.size() != 4) continue;
        Builder b;
        std::string x = b.input(left);
        // Behind a convolution values lie in channels-last order.
        if (channels_last) x = b.node("Conv", {x, b.constant(random.f32({left[1], left[1], 1, 1}))});
        const std::string y = constant ? b.constant(random.positive(right, 0.5F, 2.0F)) : b.input(right);
        b.output(b.node(op, {x, y}));
        b.output(b.node(op, {y, x}));
        std::vector<Tensor> inputs{random.positive(left, 0.5F, 2.0F)};
        if (!constant) inputs.push_back(random.positive(right, 0.5F, 2.0F));
        if (channels_last && std::string(op) == "Div") continue;
        expect_like_reference(b.graph, inputs, channels_last ? 1e-5F : 1e-6F);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Broadcast,
                         ::testing::Values(PairCase{{2, 6, 5, 4}, {2, 6, 5, 4}}, PairCase{{2, 6, 5, 4}, {6, 1, 1}},
                                           PairCase{{2, 6, 5, 4}, {1, 6, 1, 1}}, PairCase{{2, 6, 5, 4}, {2, 6, 1, 1}},
                                           PairCase{{2, 6, 5, 4}, {4}}, PairCase{{2, 6, 5, 4}, {5, 1}},
                                           PairCase{{2, 6, 5, 4}, {2, 1, 5, 4}}, PairCase{{2, 6, 5, 4}, {1}},
                                           PairCase{{3, 7}, {7}}, PairCase{{3, 7}, {3, 1}}, PairCase{{3, 1, 7}, {4, 1}},
                                           PairCase{{5}, {3, 5}}, PairCase{{1, 2000, 3, 3}, {2000, 1, 1}}));

struct PoolCase {
  std::string op;
  Ints kernel, strides, pads;
  std::int64_t ceil_mode, include_pad;
};
class Pooling : public ::testing::TestWithParam<PoolCase> {};

TEST_P(Pooling, EqualsReference) {
  const PoolCase& c = GetParam();
  Random random;
  Builder b;
  const std::string x = b.input({2, 5, 11, 9});
  std::map<std::string, Attribute> attributes{{"kernel_shape", c.kernel}, {"strides", c.strides}, {"pads", c.pads}, {"ceil_mode", c.ceil_mode}};
  if (c.op == "AveragePool") attributes["count_include_pad"] = c.include_pad;
  b.output(b.node(c.op, {x}, attributes));
  expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(9));
}

INSTANTIATE_TEST_SUITE_P(Forms, Pooling,
                         ::testing::Values(PoolCase{"MaxPool", {2, 2}, {2, 2}, {0, 0, 0, 0}, 0, 0},
                                           PoolCase{"MaxPool", {3, 3}, {2, 2}, {1, 1, 1, 1}, 0, 0},
                                           PoolCase{"MaxPool", {3, 2}, {2, 3}, {1, 0, 0, 1}, 1, 0},
                                           PoolCase{"AveragePool", {2, 2}, {2, 2}, {0, 0, 0, 0}, 0, 0},
                                           PoolCase{"AveragePool", {3, 3}, {2, 2}, {1, 1, 1, 1}, 0, 0},
                                           PoolCase{"AveragePool", {3, 3}, {2, 2}, {1, 1, 1, 1}, 0, 1},
                                           PoolCase{"AveragePool", {3, 3}, {2, 2}, {0, 0, 0, 0}, 1, 0},
                                           PoolCase{"AveragePool", {3, 3}, {2, 2}, {1, 0, 1, 0}, 1, 1}));

TEST(GlobalPooling, AverageMaximumAndReduceMean) {
  Random random;
  Builder b;
  const std::string x = b.input({3, 37, 6, 7});
  b.output(b.node("GlobalAveragePool", {x}));
  b.output(b.node("GlobalMaxPool", {x}));
  b.output(b.node("ReduceMean", {x, b.constant(Tensor::s64({2}, {2, 3}))}, {{"keepdims", std::int64_t{0}}}));
  b.output(b.node("ReduceMean", {x, b.constant(Tensor::s64({1}, {1}))}));
  expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(42));
}

TEST(Gemm, AllAttributesAndBiasForms) {
  Random random;
  for (const std::int64_t ta : {0, 1}) {
    for (const std::int64_t tb : {0, 1}) {
      for (const Shape& c : {Shape{}, Shape{9}, Shape{1, 9}, Shape{4, 9}, Shape{4, 1}, Shape{1}}) {
        Builder b;
        const std::string x = b.input(ta != 0 ? Shape{21, 4} : Shape{4, 21});
        std::vector<std::string> inputs{x, b.constant(random.f32(tb != 0 ? Shape{9, 21} : Shape{21, 9}))};
        if (!c.empty()) inputs.push_back(b.constant(random.f32(c)));
        b.output(b.node("Gemm", inputs, {{"transA", ta}, {"transB", tb}, {"alpha", 0.7F}, {"beta", 1.3F}}));
        expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(21));
      }
    }
  }
}

TEST(MatMul, VectorsMatricesAndBatches) {
  Random random;
  const std::vector<std::pair<Shape, Shape>> shapes{{{4, 8}, {8, 5}},       {{2, 3, 4, 8}, {8, 5}}, {{2, 3, 4, 8}, {2, 3, 8, 5}},
                                                    {{3, 4, 8}, {1, 8, 5}}, {{8}, {8, 5}},          {{4, 8}, {8}},
                                                    {{1, 4, 8}, {3, 8, 5}}};
  for (const auto& [left, right] : shapes) {
    for (const bool constant : {false, true}) {
      Builder b;
      const std::string x = b.input(left);
      const std::string w = constant ? b.constant(random.f32(right)) : b.input(right);
      const std::string y = b.node("MatMul", {x, w});
      if (right.size() > 1) b.output(b.node("Relu", {b.node("Add", {y, b.constant(random.f32({5}))})}));
      else b.output(y);
      expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(8));
    }
  }
}

TEST(FlattenThenGemm, ChannelsLastMemoryNeedsNoReorder) {
  Random random;
  Builder b;
  const std::string x = b.input({3, 4, 6, 6});
  const std::string y = b.node("Conv", {x, b.constant(random.f32({7, 4, 3, 3}, 0.3F))});
  const std::string flat = b.node("Flatten", {b.node("MaxPool", {y}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})});
  b.output(b.node("Gemm", {flat, b.constant(random.f32({10, 28})), b.constant(random.f32({10}))}, {{"transB", std::int64_t{1}}}));
  b.output(b.node("MatMul", {flat, b.constant(random.f32({28, 3}))}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(100));
  EXPECT_EQ(count_steps(ran, "reorder"), 1) << "at the entry only";
}

TEST(Shaping, OperatorsThatMoveElementsAfterAConvolution) {
  Random random;
  const auto check = [&](auto&& build) {
    Builder b;
    const std::string x = b.input({2, 3, 8, 6});
    const std::string y = b.node("Conv", {x, b.constant(random.f32({4, 3, 1, 1}))});
    b.output(build(b, y));
    expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(3));
  };
  const auto ints = [](Builder& b, const Ints& v) { return b.constant(Tensor::s64({static_cast<std::int64_t>(v.size())}, v)); };
  check([&](Builder& b, const std::string& y) { return b.node("Transpose", {y}, {{"perm", Ints{0, 2, 3, 1}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Transpose", {y}, {{"perm", Ints{3, 1, 0, 2}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Reshape", {y, ints(b, {2, 2, -1})}); });
  check([&](Builder& b, const std::string& y) { return b.node("Reshape", {b.node("Flatten", {y}), ints(b, {2, 4, 8, 6})}); });
  check([&](Builder& b, const std::string& y) { return b.node("Flatten", {y}, {{"axis", std::int64_t{2}}}); });
  check([&](Builder& b, const std::string& y) {
    return b.node("Slice", {y, ints(b, {1, -1}), ints(b, {100, -100}), ints(b, {1, 3}), ints(b, {2, -2})});
  });
  check([&](Builder& b, const std::string& y) { return b.node("Pad", {y, ints(b, {0, 1, 2, 0, 0, 3, 0, 1})}); });
  check([&](Builder& b, const std::string& y) {
    return b.node("Pad", {y, ints(b, {0, 0, -1, 1, 0, 0, 2, -1}), b.constant(Tensor::scalar(1.5F))});
  });
  check([&](Builder& b, const std::string& y) { return b.node("Pad", {y, ints(b, {0, 0, 1, 2, 0, 0, 2, 1})}, {{"mode", std::string("reflect")}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Concat", {y, b.node("Relu", {y}), y}, {{"axis", std::int64_t{1}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Concat", {y, b.node("Relu", {y})}, {{"axis", std::int64_t{-1}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Gather", {y, ints(b, {2, 0, -1})}, {{"axis", std::int64_t{1}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Gather", {y, b.constant(Tensor::s64({}, {3}))}, {{"axis", std::int64_t{2}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("Unsqueeze", {y, ints(b, {0, 5})}); });
  check([&](Builder& b, const std::string& y) { return b.node("Squeeze", {b.node("GlobalAveragePool", {y}), ints(b, {2, 3})}); });
  check([&](Builder& b, const std::string& y) { return b.node("Expand", {b.node("GlobalAveragePool", {y}), ints(b, {2, 4, 3, 5})}); });
  check([&](Builder& b, const std::string& y) { return b.node("Tile", {y, ints(b, {1, 2, 1, 3})}); });
  check([&](Builder& b, const std::string& y) { return b.node("DepthToSpace", {y}, {{"blocksize", std::int64_t{2}}}); });
  check([&](Builder& b, const std::string& y) { return b.node("SpaceToDepth", {y}, {{"blocksize", std::int64_t{2}}}); });
  check([&](Builder& b, const std::string& y) {
    return b.node("Resize", {y, "", b.constant(Tensor::f32({4}, {1, 1, 2, 2}))}, {{"coordinate_transformation_mode", std::string("asymmetric")}, {"nearest_mode", std::string("floor")}});
  });
  check([&](Builder& b, const std::string& y) {
    return b.node("Resize", {y, "", "", ints(b, {2, 4, 5, 9})}, {{"mode", std::string("linear")}});
  });
}

TEST(Split, GivesEachPart) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 3, 5, 5});
  const std::string y = b.node("Conv", {x, b.constant(random.f32({6, 3, 1, 1}))});
  b.node("Split", {y, b.constant(Tensor::s64({3}, {1, 3, 2}))}, {{"axis", std::int64_t{1}}}, 3);
  const std::vector<std::string> parts = b.graph.nodes.back().outputs;
  for (const std::string& part : parts) b.output(part);
  expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(3));
}

TEST(Normalization, BatchLayerInstanceAndLocalResponse) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 6, 5, 4});
  const auto vector = [&](float low, float high) { return b.constant(random.positive({6}, low, high)); };
  b.output(b.node("BatchNormalization", {x, vector(0.5F, 2), vector(-1, 1), vector(-1, 1), vector(0.5F, 2)}));
  b.output(b.node("InstanceNormalization", {x, vector(0.5F, 2), vector(-1, 1)}));
  b.output(b.node("LRN", {x}, {{"size", std::int64_t{3}}}));
  b.output(b.node("LayerNormalization", {x, b.constant(random.f32({4})), b.constant(random.f32({4}))}));
  expect_like_reference(b.graph, random_inputs(b.graph, random), 2e-6F);
}

TEST(Softmax, AlongEachAxis) {
  Random random;
  for (const std::int64_t axis : {-1, 0, 1, 2}) {
    Builder b;
    const std::string x = b.input({4, 5, 7});
    b.output(b.node("Softmax", {x}, {{"axis", axis}}));
    b.output(b.node("LogSoftmax", {x}, {{"axis", axis}}));
    expect_like_reference(b.graph, random_inputs(b.graph, random), 2e-6F);
  }
}

TEST(Residual, TheSumHappensInsideTheLayer) {
  Random random;
  Builder b;
  const std::string x = b.input({1, 8, 10, 10});
  const auto conv = [&](const std::string& v) { return b.node("Conv", {v, b.constant(random.f32({8, 8, 3, 3}, 0.1F))}, {{"pads", Ints{1, 1, 1, 1}}}); };
  const std::string a = b.node("Relu", {conv(x)});
  const std::string block = b.node("Relu", {b.node("Add", {conv(b.node("Relu", {conv(a)})), a})});
  // This one is read again later, so that its memory can't be taken over.
  const std::string second = b.node("Relu", {b.node("Add", {block, conv(block)})});
  b.output(b.node("Add", {second, block}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(72 * 4));
  EXPECT_EQ(count_steps(ran, "Add"), 1);
  EXPECT_EQ(count_steps(ran, "copy"), 1) << "only where the other operand lives on";
}

TEST(Outputs, InputsConstantsAndSharedValuesMayBeOutputs) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 3});
  const std::string y = b.node("Relu", {x});
  b.output(y);
  b.output(b.node("Reshape", {y, b.constant(Tensor::s64({1}, {6}))}));
  b.output(b.node("Identity", {x}));
  b.output(b.node("Sigmoid", {y}));
  expect_like_reference(b.graph, random_inputs(b.graph, random), 1e-6F);
}

TEST(Threads, TwoGiveWhatOneGives) {
  Random random;
  Builder b;
  const std::string x = b.input({4, 16, 32, 32});
  const std::string y = b.node("Conv", {x, b.constant(random.f32({32, 16, 3, 3}, 0.1F))}, {{"pads", Ints{1, 1, 1, 1}}});
  const std::string z = b.node("Add", {b.node("Sigmoid", {y}), b.node("Tanh", {y})});
  b.output(b.node("Concat", {z, y}, {{"axis", std::int64_t{1}}}));
  b.output(b.node("GlobalAveragePool", {z}));
  expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(144), 2);
}

TEST(Compile, SaysWhatItCannotDo) {
  Builder b;
  const std::string x = b.input({-1, 3});
  b.output(b.node("Relu", {x}));
  EXPECT_FALSE(Executor::compile(b.graph, {1, 0}).has_value());
  Builder c;
  c.output(c.node("NonZero", {c.input({2, 3})}));
  const auto refused = Executor::compile(c.graph, {2, 1});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("NonZero"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace kerf::engine::testing
