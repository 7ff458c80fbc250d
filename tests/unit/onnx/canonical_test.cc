#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/onnx/model_builder.h"

namespace kerf {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelBuilder;
using testing::must_read;

std::vector<std::string> ops(const Graph& graph) {
  std::vector<std::string> out;
  for (const Node& node : graph.nodes) out.push_back(node.op);
  return out;
}

std::vector<std::int64_t> integers(const Graph& graph, const std::string& name) {
  const graph::Tensor* tensor = graph.constant(name);
  return tensor == nullptr ? std::vector<std::int64_t>{-999} : tensor->to_integers();
}

TEST(Canonical, ClipAttributesBecomeInputs) {
  const Graph g = must_read(ModelBuilder(9)
                                .input("x", {1, 4})
                                .node("Clip", {"x"}, {"y"})
                                .set("min", 0.0F)
                                .set("max", 6.0F)
                                .output("y"));
  ASSERT_EQ(g.nodes.size(), 1U);
  ASSERT_EQ(g.nodes[0].inputs.size(), 3U);
  EXPECT_TRUE(g.nodes[0].attributes.empty());
  EXPECT_EQ(g.constant(g.nodes[0].inputs[1])->to_floats(), std::vector<float>{0.0F});
  EXPECT_EQ(g.constant(g.nodes[0].inputs[2])->to_floats(), std::vector<float>{6.0F});
}

TEST(Canonical, ClipWithOneBoundLeavesTheOtherOut) {
  const Graph g = must_read(
      ModelBuilder(9).input("x", {1, 4}).node("Clip", {"x"}, {"y"}).set("max", 6.0F).output("y"));
  ASSERT_EQ(g.nodes[0].inputs.size(), 3U);
  EXPECT_EQ(g.nodes[0].inputs[1], "");
}

TEST(Canonical, AxesOfSqueezeUnsqueezeAndReductionsAreInputs) {
  for (const char* op : {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "Squeeze"}) {
    const Graph g = must_read(
        ModelBuilder(11).input("x", {2, 3, 1}).node(op, {"x"}, {"y"}).set("axes", {2}).output("y"));
    ASSERT_EQ(g.nodes[0].inputs.size(), 2U) << op;
    EXPECT_THAT(integers(g, g.nodes[0].inputs[1]), ElementsAre(2)) << op;
    EXPECT_FALSE(g.nodes[0].attributes.contains("axes")) << op;
  }
  const Graph g = must_read(ModelBuilder(11)
                                .input("x", {2, 3})
                                .node("Unsqueeze", {"x"}, {"y"})
                                .set("axes", {0, 3})
                                .output("y"));
  EXPECT_EQ(g.outputs[0].shape, (Shape{1, 2, 3, 1}));
  const Graph now = must_read(ModelBuilder(18)
                                  .input("x", {2, 3, 5})
                                  .integers("a", {1}, {-1})
                                  .node("ReduceMean", {"x", "a"}, {"y"})
                                  .output("y"));
  EXPECT_EQ(now.outputs[0].shape, (Shape{2, 3, 1}));
}

TEST(Canonical, Slice1BecomesInputs) {
  const Graph g = must_read(ModelBuilder(9)
                                .input("x", {1, 8, 8})
                                .node("Slice", {"x"}, {"y"})
                                .set("starts", {2, 0})
                                .set("ends", {4, 100})
                                .set("axes", {1, 2})
                                .output("y"));
  ASSERT_EQ(g.nodes[0].inputs.size(), 4U);
  EXPECT_EQ(g.outputs[0].shape, (Shape{1, 2, 8}));
}

TEST(Canonical, Slice1WithoutAxesCountsFromTheFirst) {
  const Graph g = must_read(ModelBuilder(9)
                                .input("x", {4, 8})
                                .node("Slice", {"x"}, {"y"})
                                .set("starts", {1})
                                .set("ends", {-1})
                                .output("y"));
  EXPECT_EQ(g.outputs[0].shape, (Shape{2, 8}));
}

TEST(Canonical, Pad2BecomesInputs) {
  const Graph g = must_read(ModelBuilder(10)
                                .input("x", {1, 1, 4, 4})
                                .node("Pad", {"x"}, {"y"})
                                .set("pads", {0, 0, 1, 2, 0, 0, 3, 4})
                                .set("value", 1.5F)
                                .output("y"));
  ASSERT_EQ(g.nodes[0].inputs.size(), 3U);
  EXPECT_EQ(g.outputs[0].shape, (Shape{1, 1, 8, 10}));
  EXPECT_EQ(g.constant(g.nodes[0].inputs[2])->to_floats()[0], 1.5F);
}

TEST(Canonical, PadWithAxesIsSpelledOutForAllAxes) {
  const Graph g = must_read(ModelBuilder(18)
                                .input("x", {1, 1, 4, 4})
                                .integers("p", {4}, {1, 2, 3, 4})
                                .integers("a", {2}, {-2, 3})
                                .node("Pad", {"x", "p", "", "a"}, {"y"})
                                .output("y"));
  EXPECT_THAT(integers(g, g.nodes[0].inputs[1]), ElementsAre(0, 0, 1, 2, 0, 0, 3, 4));
  EXPECT_EQ(g.nodes[0].inputs.size(), 2U);
}

TEST(Canonical, UpsampleBecomesResize) {
  const Graph g = must_read(ModelBuilder(7)
                                .input("x", {1, 2, 4, 4})
                                .node("Upsample", {"x"}, {"y"})
                                .set_floats("scales", {1, 1, 2, 2})
                                .output("y"));
  ASSERT_THAT(ops(g), ElementsAre("Resize"));
  EXPECT_EQ(g.nodes[0].text("coordinate_transformation_mode", ""), "asymmetric");
  EXPECT_EQ(g.nodes[0].text("nearest_mode", ""), "floor");
  EXPECT_EQ(g.outputs[0].shape, (Shape{1, 2, 8, 8}));
  const Graph nine = must_read(ModelBuilder(9)
                                   .input("x", {1, 2, 4, 4})
                                   .floats("s", {4}, {1, 1, 3, 3})
                                   .node("Upsample", {"x", "s"}, {"y"})
                                   .output("y"));
  EXPECT_EQ(nine.outputs[0].shape, (Shape{1, 2, 12, 12}));
}

TEST(Canonical, ResizeLosesRoiEmptyScalesAndAxes) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {1, 2, 4, 4})
                                .floats("roi", {8})
                                .floats("none", {0})
                                .integers("s", {4}, {1, 2, 9, 7})
                                .node("Resize", {"x", "roi", "none", "s"}, {"y"})
                                .output("y"));
  EXPECT_THAT(g.nodes[0].inputs, ElementsAre("x", "", "", "s"));
  EXPECT_EQ(g.outputs[0].shape, (Shape{1, 2, 9, 7}));
  const Graph axes = must_read(ModelBuilder(18)
                                   .input("x", {1, 2, 4, 4})
                                   .floats("s", {2}, {2, 3})
                                   .node("Resize", {"x", "", "s"}, {"y"})
                                   .set("axes", {2, 3})
                                   .output("y"));
  EXPECT_EQ(axes.outputs[0].shape, (Shape{1, 2, 8, 12}));
}

TEST(Canonical, OldSoftmaxOverTheLastAxisIsJustSoftmax) {
  const Graph g =
      must_read(ModelBuilder(11).input("x", {-1, 10}).node("Softmax", {"x"}, {"y"}).output("y"));
  ASSERT_THAT(ops(g), ElementsAre("Softmax"));
  EXPECT_EQ(g.nodes[0].integer("axis", 9), -1);
}

TEST(Canonical, OldSoftmaxWithOneWideAxisUsesThatAxis) {
  const Graph g = must_read(ModelBuilder(11)
                                .input("x", {2, 10, 1, 1})
                                .node("Softmax", {"x"}, {"y"})
                                .set("axis", 1)
                                .output("y"));
  ASSERT_THAT(ops(g), ElementsAre("Softmax"));
  EXPECT_EQ(g.nodes[0].integer("axis", 9), 1);
}

TEST(Canonical, OldSoftmaxOverSeveralAxesIsFlattenedFirst) {
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    const Graph g = must_read(
        ModelBuilder(11).input("x", {-1, 10, 4}).node(op, {"x"}, {"y"}, "soft").output("y"));
    EXPECT_THAT(ops(g), ElementsAre("Flatten", op, "Reshape"));
    EXPECT_EQ(g.nodes[1].name, "soft");
    EXPECT_EQ(g.outputs[0].shape, (Shape{-1, 10, 4}));
  }
  const Graph hard =
      must_read(ModelBuilder(11).input("x", {-1, 10, 4}).node("Hardmax", {"x"}, {"y"}).output("y"));
  EXPECT_THAT(ops(hard), ElementsAre("Flatten", "ArgMax", "OneHot", "Reshape"));
  EXPECT_EQ(hard.outputs[0].shape, (Shape{-1, 10, 4}));
  const Graph two_free =
      must_read(ModelBuilder(11).input("x", {-1, -1, 4}).node("Softmax", {"x"}, {"y"}).output("y"));
  EXPECT_THAT(ops(two_free), ElementsAre("Shape", "Flatten", "Softmax", "Reshape"));
  EXPECT_EQ(two_free.outputs[0].shape, (Shape{-1, -1, 4}));
}

TEST(Canonical, SoftmaxOfToday) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {2, 10, 4})
                                .node("Softmax", {"x"}, {"y"})
                                .set("axis", 1)
                                .output("y"));
  EXPECT_THAT(ops(g), ElementsAre("Softmax"));
  EXPECT_EQ(g.nodes[0].integer("axis", 9), 1);
}

TEST(Canonical, DropoutBecomesIdentityAndItsUnusedMaskGoes) {
  const Graph g = must_read(
      ModelBuilder(12).input("x", {1, 4}).node("Dropout", {"x"}, {"y", "mask"}).output("y"));
  ASSERT_THAT(ops(g), ElementsAre("Identity"));
  EXPECT_THAT(g.nodes[0].outputs, ElementsAre("y"));
}

TEST(Canonical, DropoutsMaskIsTrueEverywhereWhereItIsRead) {
  const Graph g = must_read(ModelBuilder(12)
                                .input("x", {1, 4})
                                .node("Dropout", {"x"}, {"y", "mask"})
                                .output("y")
                                .output("mask", 9));
  ASSERT_THAT(ops(g), ElementsAre("Shape", "ConstantOfShape", "Identity"));
  EXPECT_EQ(g.outputs[1].dtype, DType::kBool);
}

TEST(Canonical, DropoutInTrainingIsRefused) {
  EXPECT_THAT(ModelBuilder(12)
                  .input("x", {1, 4})
                  .raw("t", 9, {}, "\x01")
                  .node("Dropout", {"x", "", "t"}, {"y"})
                  .output("y")
                  .read()
                  .error()
                  .message,
              HasSubstr("training_mode"));
}

TEST(Canonical, BatchNormalizationLosesOldAttributesAndOutputs) {
  const Graph g = must_read(ModelBuilder(7)
                                .input("x", {1, 2, 3, 3})
                                .floats("s", {2})
                                .floats("b", {2})
                                .floats("m", {2})
                                .floats("v", {2})
                                .node("BatchNormalization", {"x", "s", "b", "m", "v"}, {"y"})
                                .set("spatial", 1)
                                .set("momentum", 0.9F)
                                .set("epsilon", 1e-3F)
                                .output("y"));
  EXPECT_EQ(g.nodes[0].attributes.size(), 1U);
  EXPECT_FLOAT_EQ(g.nodes[0].real("epsilon", 0), 1e-3F);
  EXPECT_THAT(ModelBuilder(7)
                  .input("x", {1, 2, 3, 3})
                  .floats("s", {2})
                  .floats("b", {2})
                  .floats("m", {2})
                  .floats("v", {2})
                  .node("BatchNormalization", {"x", "s", "b", "m", "v"}, {"y"})
                  .set("spatial", 0)
                  .output("y")
                  .read()
                  .error()
                  .message,
              HasSubstr("spatial = 0"));
}

TEST(Canonical, GemmMayLackC) {
  const Graph g = must_read(ModelBuilder(11)
                                .input("x", {-1, 4})
                                .floats("w", {4, 3})
                                .node("Gemm", {"x", "w"}, {"y"})
                                .output("y"));
  EXPECT_EQ(g.outputs[0].shape, (Shape{-1, 3}));
}

TEST(Canonical, TopKAttributeBecomesInput) {
  const Graph g = must_read(ModelBuilder(9)
                                .input("x", {2, 8})
                                .node("TopK", {"x"}, {"v", "i"})
                                .set("k", 3)
                                .output("v")
                                .output("i", 7));
  EXPECT_EQ(g.outputs[0].shape, (Shape{2, 3}));
  EXPECT_EQ(g.outputs[1].dtype, DType::kS64);
}

TEST(Canonical, SplitAttributeBecomesInputAndUnevenPartsAreSpelledOut) {
  const Graph g = must_read(ModelBuilder(11)
                                .input("x", {2, 8})
                                .node("Split", {"x"}, {"a", "b"})
                                .set("axis", 1)
                                .set("split", {3, 5})
                                .output("a")
                                .output("b"));
  EXPECT_EQ(g.outputs[1].shape, (Shape{2, 5}));
  const Graph uneven = must_read(ModelBuilder(18)
                                     .input("x", {7})
                                     .node("Split", {"x"}, {"a", "b", "c"})
                                     .set("num_outputs", 3)
                                     .output("a")
                                     .output("c"));
  EXPECT_EQ(uneven.outputs[0].shape, (Shape{3}));
  EXPECT_EQ(uneven.outputs[1].shape, (Shape{1}));
  EXPECT_FALSE(uneven.nodes[0].attributes.contains("num_outputs"));
}

TEST(Canonical, ConstantsOfEveryKindBecomeInitializers) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {3})
                                .node("Constant", {}, {"a"})
                                .set("value_float", 2.0F)
                                .node("Constant", {}, {"b"})
                                .set_floats("value_floats", {1, 2, 3})
                                .node("Constant", {}, {"c"})
                                .set("value_ints", {1, 3})
                                .node("Constant", {}, {"d"})
                                .set("value", ModelBuilder::float_tensor("", {3}, {4, 5, 6}))
                                .node("Constant", {}, {"e"})
                                .set("value_int", 7)
                                .node("Mul", {"x", "a"}, {"p"})
                                .node("Add", {"p", "b"}, {"q"})
                                .node("Add", {"q", "d"}, {"r"})
                                .node("Reshape", {"r", "c"}, {"y"})
                                .output("y"));
  EXPECT_THAT(ops(g), ElementsAre("Mul", "Add", "Add", "Reshape"));
  EXPECT_EQ(g.constant("a")->rank(), 0U);
  EXPECT_EQ(g.constant("e")->to_integers(), std::vector<std::int64_t>{7});
  EXPECT_EQ(g.outputs[0].shape, (Shape{1, 3}));
}

TEST(Canonical, IdentityOfAConstantIsThatConstant) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {1, 4})
                                .floats("w0", {4, 2})
                                .node("Identity", {"w0"}, {"w"})
                                .node("MatMul", {"x", "w"}, {"y"})
                                .output("y"));
  EXPECT_THAT(ops(g), ElementsAre("MatMul"));
  EXPECT_TRUE(graph::is_layer(g, g.nodes[0]));
}

TEST(Canonical, HalfPrecisionBecomesSinglePrecisionThroughout) {
  // Half weights, half input, a cast up of a half constant, a cast down in the middle.
  const std::string halves("\x00\x3C\x00\xC0", 4);  // 1, -2
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {-1, 2}, 10)
                                .raw("w", 10, {2}, halves)
                                .raw("h", 10, {2}, halves)
                                .node("Mul", {"x", "w"}, {"p"})
                                .node("Cast", {"h"}, {"h32"})
                                .set("to", 1)
                                .node("Cast", {"p"}, {"p32"})
                                .set("to", 1)
                                .node("Add", {"p32", "h32"}, {"q"})
                                .node("Cast", {"q"}, {"y"})
                                .set("to", 10)
                                .output("y", 10));
  EXPECT_EQ(g.inputs[0].dtype, DType::kF32);
  EXPECT_EQ(g.outputs[0].dtype, DType::kF32);
  EXPECT_EQ(g.constant("w")->to_floats(), (std::vector<float>{1, -2}));
  EXPECT_EQ(g.constant("h32")->dtype(), DType::kF32);
  EXPECT_THAT(ops(g), ElementsAre("Mul", "Identity", "Add", "Identity"));
}

TEST(Canonical, BrainFloatAndDoubleBecomeSinglePrecision) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {2}, 11)
                                .raw("b", 16, {2}, std::string("\x80\x3F\x00\xC0", 4))
                                .node("Mul", {"x", "b"}, {"y"})
                                .output("y", 11));
  EXPECT_EQ(g.constant("b")->to_floats(), (std::vector<float>{1, -2}));
  EXPECT_EQ(g.inputs[0].dtype, DType::kF32);
  const double large = 1e300;
  EXPECT_THAT(ModelBuilder(13)
                  .input("x", {1})
                  .raw("big", 11, {1}, std::string(reinterpret_cast<const char*>(&large), 8))
                  .node("Mul", {"x", "big"}, {"y"})
                  .output("y")
                  .read()
                  .error()
                  .message,
              HasSubstr("initializer 'big': value"));
}

TEST(Canonical, FourBitTensorsLieOneElementAByte) {
  const Graph g = must_read(ModelBuilder(21)
                                .input("x", {1, 3})
                                .raw("w", 22, {3, 1}, std::string("\x7F\x08", 2))
                                .floats("s", {}, {0.5F})
                                .node("DequantizeLinear", {"w", "s"}, {"wf"})
                                .node("MatMul", {"x", "wf"}, {"y"})
                                .output("y"));
  EXPECT_EQ(g.constant("w")->dtype(), DType::kS4);
  EXPECT_EQ(g.constant("w")->to_integers(), (std::vector<std::int64_t>{-1, 7, -8}));
}

TEST(Canonical, NodesWithoutANameAreCalledByOpAndFirstOutput) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {1})
                                .node("Relu", {"x"}, {"Plus30_Output_0"})
                                .node("Neg", {"Plus30_Output_0"}, {"y"}, "named")
                                .output("y"));
  EXPECT_EQ(g.nodes[0].name, "Relu:Plus30_Output_0");
  EXPECT_EQ(g.nodes[1].name, "named");
}

TEST(Canonical, InitializersThatAreAlsoInputsAreNoInputs) {
  const Graph g = must_read(ModelBuilder(8)
                                .input("x", {1, 4})
                                .input("w", {4, 2})
                                .floats("w", {4, 2})
                                .node("MatMul", {"x", "w"}, {"y"})
                                .output("y"));
  ASSERT_EQ(g.inputs.size(), 1U);
  EXPECT_EQ(g.inputs[0].name, "x");
}

TEST(Canonical, NodesAreSorted) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {1})
                                .node("Relu", {"a"}, {"y"})
                                .node("Neg", {"x"}, {"a"})
                                .output("y"));
  EXPECT_THAT(ops(g), ElementsAre("Neg", "Relu"));
}

TEST(Canonical, QLinearConvBecomesDequantizeConvQuantize) {
  const Graph g = must_read(
      ModelBuilder(13)
          .input("x", {1, 1, 4, 4}, 2)
          .floats("s", {}, {0.5F})
          .raw("z", 2, {}, std::string(1, '\0'))
          .raw("w", 3, {2, 1, 1, 1}, "\x01\x02")
          .floats("ws", {2}, {0.25F, 0.5F})
          .raw("wz", 3, {2}, std::string(2, '\0'))
          .raw("b", 6, {2}, std::string("\x04\0\0\0\x08\0\0\0", 8))
          .node("QLinearConv", {"x", "s", "z", "w", "ws", "wz", "s", "z", "b"}, {"y"}, "q")
          .output("y", 2));
  ASSERT_THAT(ops(g),
              ElementsAre("DequantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear"));
  EXPECT_EQ(g.nodes[2].name, "q");
  EXPECT_TRUE(graph::is_layer(g, g.nodes[2]));
  EXPECT_EQ(g.nodes[1].integer("axis", 9), 0);
  EXPECT_EQ(g.constant(g.nodes[2].inputs[2])->to_floats(), (std::vector<float>{0.5F, 2.0F}));
  EXPECT_EQ(g.outputs[0].dtype, DType::kU8);
}

TEST(Canonical, RuntimeOperatorsOnIntegersAreSpelledOut) {
  const std::string zero(1, '\0');
  const auto base = [&] {
    return ModelBuilder(13)
        .import("com.microsoft", 1)
        .input("a", {1, 2, 4, 4}, 2)
        .input("b", {1, 2, 4, 4}, 2)
        .floats("s", {1}, {0.5F})
        .raw("z", 2, {1}, zero);
  };
  const Graph add = must_read(
      base()
          .node("QLinearAdd", {"a", "s", "z", "b", "s", "z", "s", "z"}, {"y"}, "", "com.microsoft")
          .output("y", 2));
  EXPECT_THAT(ops(add),
              ElementsAre("DequantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear"));
  const Graph pool = must_read(
      base()
          .node("QLinearGlobalAveragePool", {"a", "s", "z", "s", "z"}, {"y"}, "", "com.microsoft")
          .set("channels_last", 0)
          .output("y", 2));
  EXPECT_THAT(ops(pool), ElementsAre("DequantizeLinear", "GlobalAveragePool", "QuantizeLinear"));
  const Graph concat =
      must_read(base()
                    .node("QLinearConcat", {"s", "z", "a", "s", "z", "b", "s", "z"}, {"y"}, "",
                          "com.microsoft")
                    .set("axis", 1)
                    .output("y", 2));
  EXPECT_EQ(concat.outputs[0].shape, (Shape{1, 4, 4, 4}));
  const Graph gemm = must_read(
      ModelBuilder(13)
          .import("com.microsoft", 1)
          .input("a", {3, 2}, 2)
          .floats("s", {1}, {0.5F})
          .raw("z", 2, {1}, zero)
          .raw("w", 3, {4, 2}, std::string(8, '\x01'))
          .raw("wz", 3, {1}, zero)
          .node("QGemm", {"a", "s", "z", "w", "s", "wz", "", "s", "z"}, {"y"}, "", "com.microsoft")
          .set("transB", 1)
          .output("y", 2));
  EXPECT_EQ(gemm.outputs[0].shape, (Shape{3, 4}));
}

TEST(Canonical, GroupNormalizationOfOpset18GetsValuesPerChannel) {
  const Graph g = must_read(ModelBuilder(18)
                                .input("x", {1, 4, 2, 2})
                                .floats("s", {2}, {1, 2})
                                .floats("b", {2}, {3, 4})
                                .node("GroupNormalization", {"x", "s", "b"}, {"y"})
                                .set("num_groups", 2)
                                .output("y"));
  EXPECT_EQ(g.constant(g.nodes[0].inputs[1])->to_floats(), (std::vector<float>{1, 1, 2, 2}));
}

TEST(Canonical, SwishIsSigmoidTimesInput) {
  const Graph g = must_read(ModelBuilder(24)
                                .input("x", {1, 4})
                                .node("Swish", {"x"}, {"y"})
                                .set("alpha", 2.0F)
                                .output("y"));
  EXPECT_THAT(ops(g), ElementsAre("Mul", "Sigmoid", "Mul"));
}

TEST(Canonical, ReadingTwiceGivesTheSame) {
  const auto builder = ModelBuilder(11)
                           .input("x", {-1, 10, 4})
                           .node("Softmax", {"x"}, {"s"})
                           .node("ReduceMean", {"s"}, {"y"})
                           .set("axes", {1, 2})
                           .output("y");
  const Graph a = must_read(builder);
  const Graph b = must_read(builder);
  ASSERT_EQ(a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < a.nodes.size(); ++i) {
    EXPECT_EQ(a.nodes[i].name, b.nodes[i].name);
    EXPECT_EQ(a.nodes[i].inputs, b.nodes[i].inputs);
  }
}

}  // namespace
}  // namespace kerf
