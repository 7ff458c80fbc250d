#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/graph/graph_builder.h"
#include "workers/graph/shape_inference.h"

namespace kerf::graph {
namespace {

using ::testing::HasSubstr;

/// The shape of y, or the error's message.
std::string shape_of(const Builder& builder) {
  Graph graph = builder.graph;
  const auto done = infer_shapes(graph);
  if (!done.has_value()) return done.error().message;
  return to_string(graph.values.at("y").shape);
}

TEST(ShapeInference, ConvolutionOverAnyNumberOfDimensions) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 32, 32})
                         .floats("w", {8, 3, 3, 3})
                         .node("Conv", {"x", "w"}, {"y"},
                               {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}})),
            "[?, 8, 16, 16]");
  EXPECT_EQ(shape_of(Builder({2, 3, 32})
                         .floats("w", {8, 3, 5})
                         .node("Conv", {"x", "w"}, {"y"}, {{"dilations", Ints{2}}})),
            "[2, 8, 24]");
  EXPECT_EQ(shape_of(Builder({2, 4, 8, 8, 8})
                         .floats("w", {4, 1, 3, 3, 3})
                         .node("Conv", {"x", "w"}, {"y"}, {{"group", std::int64_t{4}}})),
            "[2, 4, 6, 6, 6]");
  EXPECT_EQ(shape_of(Builder({1, 3, 7, 8})
                         .floats("w", {8, 3, 3, 3})
                         .node("Conv", {"x", "w"}, {"y"},
                               {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2, 2}}})),
            "[1, 8, 4, 4]");
  EXPECT_EQ(shape_of(Builder({1, 3, 7, 8})
                         .floats("w", {8, 3, 3, 3})
                         .node("Conv", {"x", "w"}, {"y"}, {{"auto_pad", std::string("VALID")}})),
            "[1, 8, 5, 6]");
}

TEST(ShapeInference, FreeSpatialDimensionsSurviveSamePadding) {
  EXPECT_EQ(shape_of(Builder({1, 3, -1, -1})
                         .floats("w", {3, 3, 3, 3})
                         .node("Conv", {"x", "w"}, {"c"}, {{"pads", Ints{1, 1, 1, 1}}})
                         .node("Add", {"x", "c"}, {"y"})),
            "[1, 3, ?, ?]");
}

TEST(ShapeInference, TransposedConvolution) {
  EXPECT_EQ(shape_of(Builder({1, 4, 5, 5})
                         .floats("w", {4, 2, 3, 3})
                         .node("ConvTranspose", {"x", "w"}, {"y"},
                               {{"strides", Ints{2, 2}},
                                {"output_padding", Ints{1, 1}},
                                {"pads", Ints{1, 1, 1, 1}},
                                {"group", std::int64_t{2}}})),
            "[1, 4, 10, 10]");
  EXPECT_EQ(shape_of(Builder({1, 4, 5, 5})
                         .floats("w", {4, 2, 3, 3})
                         .node("ConvTranspose", {"x", "w"}, {"y"},
                               {{"strides", Ints{2, 2}}, {"output_shape", Ints{11, 12}}})),
            "[1, 2, 11, 12]");
}

TEST(ShapeInference, PoolingRoundsUpOnlyForWindowsThatStartInside) {
  EXPECT_EQ(shape_of(Builder({1, 1, 5, 5})
                         .node("MaxPool", {"x"}, {"y"},
                               {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})),
            "[1, 1, 2, 2]");
  EXPECT_EQ(shape_of(Builder({1, 1, 5, 5})
                         .node("MaxPool", {"x"}, {"y"},
                               {{"kernel_shape", Ints{2, 2}},
                                {"strides", Ints{2, 2}},
                                {"ceil_mode", std::int64_t{1}}})),
            "[1, 1, 3, 3]");
  EXPECT_EQ(shape_of(Builder({1, 1, 2, 2})
                         .node("MaxPool", {"x"}, {"y"},
                               {{"kernel_shape", Ints{1, 1}},
                                {"strides", Ints{2, 2}},
                                {"ceil_mode", std::int64_t{1}}})),
            "[1, 1, 1, 1]");
  EXPECT_EQ(shape_of(Builder({-1, 6, 9, 9}).node("GlobalAveragePool", {"x"}, {"y"})),
            "[?, 6, 1, 1]");
}

TEST(ShapeInference, MatrixProducts) {
  EXPECT_EQ(shape_of(Builder({-1, 4})
                         .floats("w", {3, 4})
                         .floats("b", {3})
                         .node("Gemm", {"x", "w", "b"}, {"y"}, {{"transB", std::int64_t{1}}})),
            "[?, 3]");
  EXPECT_EQ(
      shape_of(Builder({-1, 8, 5, 4}).floats("w", {8, 4, 3}).node("MatMul", {"x", "w"}, {"y"})),
      "[?, 8, 5, 3]");
  EXPECT_EQ(shape_of(Builder({4}).floats("w", {4}).node("MatMul", {"x", "w"}, {"y"})), "[]");
  EXPECT_EQ(shape_of(Builder({2, 4}).floats("w", {4}).node("MatMul", {"x", "w"}, {"y"})), "[2]");
  EXPECT_THAT(
      shape_of(Builder({2, 4}).floats("w", {5, 3}).node("MatMul", {"x", "w"}, {"y"})),
      HasSubstr(
          "node MatMul 'MatMul_y': inner dimensions 4 and 5 differ (inputs x [2, 4], w [5, 3])"));
}

TEST(ShapeInference, BroadcastingComparisonAndWhere) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 1}).floats("w", {4}).node("Add", {"x", "w"}, {"y"})),
            "[?, 3, 4]");
  Builder where({2, 3});
  where.floats("w", {3}).node("Greater", {"x", "w"}, {"c"}).node("Where", {"c", "x", "w"}, {"y"});
  EXPECT_EQ(shape_of(where), "[2, 3]");
  Graph graph = where.graph;
  ASSERT_TRUE(infer_shapes(graph).has_value());
  EXPECT_EQ(graph.values.at("c").dtype, DType::kBool);
}

TEST(ShapeInference, Reductions) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 4})
                         .integers("a", {-1})
                         .node("ReduceMean", {"x", "a"}, {"y"}, {{"keepdims", std::int64_t{0}}})),
            "[?, 3]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("ReduceSum", {"x"}, {"y"})), "[1, 1, 1]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("ReduceSum", {"x"}, {"y"},
                                             {{"noop_with_empty_axes", std::int64_t{1}}})),
            "[2, 3, 4]");
  EXPECT_EQ(
      shape_of(Builder({2, 3, 4}).node(
          "ArgMax", {"x"}, {"y"}, {{"axis", std::int64_t{-1}}, {"keepdims", std::int64_t{0}}})),
      "[2, 3]");
}

TEST(ShapeInference, Reshaping) {
  EXPECT_EQ(
      shape_of(Builder({-1, 16, 4, 4}).integers("t", {0, -1}).node("Reshape", {"x", "t"}, {"y"})),
      "[?, 256]");
  EXPECT_EQ(
      shape_of(Builder({-1, 16, 4, 4}).integers("t", {-1, 256}).node("Reshape", {"x", "t"}, {"y"})),
      "[?, 256]");
  EXPECT_EQ(shape_of(Builder({0, 4})
                         .integers("t", {4, 0})
                         .node("Reshape", {"x", "t"}, {"y"}, {{"allowzero", std::int64_t{1}}})),
            "[4, 0]");
  EXPECT_EQ(shape_of(Builder({-1, 3, 4}).node("Flatten", {"x"}, {"y"})), "[?, 12]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("Flatten", {"x"}, {"y"}, {{"axis", std::int64_t{0}}})),
            "[1, 24]");
  EXPECT_EQ(shape_of(Builder({2, 1, 3, 1}).node("Squeeze", {"x"}, {"y"})), "[2, 3]");
  EXPECT_EQ(shape_of(Builder({2, 3}).integers("a", {0, -1}).node("Unsqueeze", {"x", "a"}, {"y"})),
            "[1, 2, 3, 1]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("Transpose", {"x"}, {"y"})), "[4, 3, 2]");
  EXPECT_EQ(shape_of(Builder({1, 8, 2, 3})
                         .node("DepthToSpace", {"x"}, {"y"}, {{"blocksize", std::int64_t{2}}})),
            "[1, 2, 4, 6]");
  EXPECT_EQ(shape_of(Builder({1, 2, 4, 6})
                         .node("SpaceToDepth", {"x"}, {"y"}, {{"blocksize", std::int64_t{2}}})),
            "[1, 8, 2, 3]");
}

TEST(ShapeInference, Picking) {
  EXPECT_EQ(shape_of(Builder({-1, 3})
                         .floats("w", {1, 4})
                         .node("Concat", {"x", "x"}, {"y"}, {{"axis", std::int64_t{1}}})),
            "[?, 6]");
  EXPECT_EQ(shape_of(Builder({2, 9})
                         .integers("s", {4, 5})
                         .node("Split", {"x", "s"}, {"a", "y"}, {{"axis", std::int64_t{1}}})),
            "[2, 5]");
  EXPECT_EQ(shape_of(Builder({2, 9})
                         .integers("s", {-1})
                         .integers("e", {-100})
                         .integers("a", {1})
                         .integers("t", {-2})
                         .node("Slice", {"x", "s", "e", "a", "t"}, {"y"})),
            "[2, 5]");
  EXPECT_EQ(shape_of(Builder({2, 9})
                         .integers("s", {3})
                         .integers("e", {INT64_MAX})
                         .integers("a", {1})
                         .node("Slice", {"x", "s", "e", "a"}, {"y"})),
            "[2, 6]");
  EXPECT_EQ(shape_of(Builder({-1, 5, 6})
                         .scalar("i", 0)
                         .node("Gather", {"x", "i"}, {"y"}, {{"axis", std::int64_t{1}}})),
            "[?, 6]");
  EXPECT_EQ(
      shape_of(
          Builder({-1, 5}, DType::kS64).floats("w", {100, 8}).node("Gather", {"w", "x"}, {"y"})),
      "[?, 5, 8]");
}

TEST(ShapeInference, Growing) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 4, 4})
                         .integers("p", {0, 0, 1, 1, 0, 0, 2, 2})
                         .node("Pad", {"x", "p"}, {"y"})),
            "[?, 3, 7, 7]");
  EXPECT_EQ(shape_of(Builder({2, 1}).integers("t", {3, 1, 4}).node("Expand", {"x", "t"}, {"y"})),
            "[3, 2, 4]");
  EXPECT_EQ(shape_of(Builder({2, 3}).integers("r", {1, 4}).node("Tile", {"x", "r"}, {"y"})),
            "[2, 12]");
  EXPECT_EQ(shape_of(Builder({-1, 3, 5, 5})
                         .floats("s", {4}, {1, 1, 2.5F, 2})
                         .node("Resize", {"x", "", "s"}, {"y"})),
            "[?, 3, 12, 10]");
}

TEST(ShapeInference, NormalizationsCheckTheirParameters) {
  EXPECT_EQ(
      shape_of(Builder({-1, 5, 8}).floats("s", {8}).node("LayerNormalization", {"x", "s"}, {"y"})),
      "[?, 5, 8]");
  EXPECT_THAT(
      shape_of(Builder({-1, 5, 8}).floats("s", {7}).node("LayerNormalization", {"x", "s"}, {"y"})),
      HasSubstr("must have the shape [8]"));
  EXPECT_THAT(shape_of(Builder({1, 4, 2, 2})
                           .floats("a", {4})
                           .floats("b", {3})
                           .node("InstanceNormalization", {"x", "a", "b"}, {"y"})),
              HasSubstr("input 2 must have the shape [4]"));
}

TEST(ShapeInference, Quantization) {
  Builder quantized({-1, 3, 4, 4});
  quantized.floats("s", {}, {0.1F})
      .node("QuantizeLinear", {"x", "s"}, {"q"})
      .node("DequantizeLinear", {"q", "s"}, {"y"});
  EXPECT_EQ(shape_of(quantized), "[?, 3, 4, 4]");
  Graph graph = quantized.graph;
  ASSERT_TRUE(infer_shapes(graph).has_value());
  EXPECT_EQ(graph.values.at("q").dtype, DType::kU8);
  EXPECT_THAT(
      shape_of(Builder({1, 3, 4, 4}).floats("s", {4}).node("QuantizeLinear", {"x", "s"}, {"y"})),
      HasSubstr("3 slices along axis 1"));
}

TEST(ShapeInference, ShapeArithmeticIsFollowedThroughAFreeBatch) {
  // view(x.size(0), -1), as exporters write it.
  Builder view({-1, 16, 4, 4});
  view.scalar("zero", 0)
      .integers("axes", {0})
      .integers("rest", {-1})
      .node("Shape", {"x"}, {"s"})
      .node("Gather", {"s", "zero"}, {"n"})
      .node("Unsqueeze", {"n", "axes"}, {"n1"})
      .node("Concat", {"n1", "rest"}, {"t"}, {{"axis", std::int64_t{0}}})
      .node("Reshape", {"x", "t"}, {"y"});
  EXPECT_EQ(shape_of(view), "[?, 256]");
}

TEST(ShapeInference, SizesComputedInFloatingPointAreFollowed) {
  Builder upsample({1, 3, 7, 5});
  upsample.integers("from", {2})
      .integers("to", {4})
      .integers("head", {1, 3})
      .floats("two", {}, {2.0F})
      .node("Shape", {"x"}, {"s"})
      .node("Slice", {"s", "from", "to"}, {"hw"})
      .node("Cast", {"hw"}, {"f"}, {{"to", std::int64_t{1}}})
      .node("Mul", {"f", "two"}, {"g"})
      .node("Floor", {"g"}, {"h"})
      .node("Cast", {"h"}, {"i"}, {{"to", std::int64_t{7}}})
      .node("Concat", {"head", "i"}, {"sizes"}, {{"axis", std::int64_t{0}}})
      .node("Resize", {"x", "", "", "sizes"}, {"y"});
  EXPECT_EQ(shape_of(upsample), "[1, 3, 14, 10]");
}

TEST(ShapeInference, WhatWasFoundBeforeAnErrorIsKept) {
  Graph graph =
      Builder({1, 4}).node("Relu", {"x"}, {"a"}).node("Wibble", {"a"}, {"b"}).with_output("b");
  const auto done = infer_shapes(graph);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, ErrorCode::kUnimplemented);
  EXPECT_TRUE(graph.values.contains("a"));
}

TEST(ShapeInference, OutputsGetTheirTypes) {
  Graph graph =
      Builder({-1, 4}).node("ArgMax", {"x"}, {"y"}, {{"axis", std::int64_t{1}}}).with_output("y");
  ASSERT_TRUE(infer_shapes(graph).has_value());
  EXPECT_EQ(graph.outputs[0].dtype, DType::kS64);
  EXPECT_EQ(graph.outputs[0].shape, (Shape{-1, 1}));
}

}  // namespace
}  // namespace kerf::graph
