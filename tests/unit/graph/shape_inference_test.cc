#include "workers/graph/shape_inference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kerf::graph {
namespace {

using ::testing::HasSubstr;

/// A graph in a few words: value x of shape `input`, nodes added one by one.
class Builder {
 public:
  explicit Builder(Shape input, DType dtype = DType::kF32) { graph.inputs = {{"x", dtype, std::move(input)}}; }

  Builder& input(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    graph.inputs.push_back({name, dtype, std::move(shape)});
    return *this;
  }
  Builder& floats(const std::string& name, const Shape& shape, std::vector<float> values = {}) {
    if (values.empty()) values.assign(static_cast<std::size_t>(*element_count(shape)), 0.5F);
    graph.initializers[name] = Tensor::f32(shape, values);
    return *this;
  }
  Builder& integers(const std::string& name, const std::vector<std::int64_t>& values) {
    graph.initializers[name] = Tensor::s64({static_cast<std::int64_t>(values.size())}, values);
    return *this;
  }
  Builder& scalar(const std::string& name, std::int64_t value) {
    graph.initializers[name] = Tensor::s64({}, {value});
    return *this;
  }
  Builder& node(const std::string& op, std::vector<std::string> inputs, std::vector<std::string> outputs,
                std::map<std::string, Attribute> attributes = {}) {
    graph.nodes.push_back({op + "_" + outputs[0], op, "", std::move(inputs), std::move(outputs), std::move(attributes)});
    return *this;
  }
  Graph with_output(const std::string& name) {
    graph.outputs.push_back({name, DType::kF32, {}});
    return graph;
  }

  Graph graph;
};

using Ints = std::vector<std::int64_t>;

/// The shape of y, or the error's message.
std::string shape_of(const Builder& builder) {
  Graph graph = builder.graph;
  const auto done = infer_shapes(graph);
  if (!done.has_value()) return done.error().message;
  return to_string(graph.values.at("y").shape);
}

TEST(ShapeInference, ConvolutionOverAnyNumberOfDimensions) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 32, 32}).floats("w", {8, 3, 3, 3}).node("Conv", {"x", "w"}, {"y"}, {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}})), "[?, 8, 16, 16]");
  EXPECT_EQ(shape_of(Builder({2, 3, 32}).floats("w", {8, 3, 5}).node("Conv", {"x", "w"}, {"y"}, {{"dilations", Ints{2}}})), "[2, 8, 24]");
  EXPECT_EQ(shape_of(Builder({2, 4, 8, 8, 8}).floats("w", {4, 1, 3, 3, 3}).node("Conv", {"x", "w"}, {"y"}, {{"group", std::int64_t{4}}})), "[2, 4, 6, 6, 6]");
  EXPECT_EQ(shape_of(Builder({1, 3, 7, 8}).floats("w", {8, 3, 3, 3}).node("Conv", {"x", "w"}, {"y"}, {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Ints{2, 2}}})), "[1, 8, 4, 4]");
  EXPECT_EQ(shape_of(Builder({1, 3, 7, 8}).floats("w", {8, 3, 3, 3}).node("Conv", {"x", "w"}, {"y"}, {{"auto_pad", std::string("VALID")}})), "[1, 8, 5, 6]");
}

TEST(ShapeInference, FreeSpatialDimensionsSurviveSamePadding) {
  EXPECT_EQ(shape_of(Builder({1, 3, -1, -1}).floats("w", {3, 3, 3, 3}).node("Conv", {"x", "w"}, {"c"}, {{"pads", Ints{1, 1, 1, 1}}}).node("Add", {"x", "c"}, {"y"})), "[1, 3, ?, ?]");
}

TEST(ShapeInference, TransposedConvolution) {
  EXPECT_EQ(shape_of(Builder({1, 4, 5, 5}).floats("w", {4, 2, 3, 3}).node("ConvTranspose", {"x", "w"}, {"y"}, {{"strides", Ints{2, 2}}, {"output_padding", Ints{1, 1}}, {"pads", Ints{1, 1, 1, 1}}, {"group", std::int64_t{2}}})), "[1, 4, 10, 10]");
  EXPECT_EQ(shape_of(Builder({1, 4, 5, 5}).floats("w", {4, 2, 3, 3}).node("ConvTranspose", {"x", "w"}, {"y"}, {{"strides", Ints{2, 2}}, {"output_shape", Ints{11, 12}}})), "[1, 2, 11, 12]");
}

TEST(ShapeInference, PoolingRoundsUpOnlyForWindowsThatStartInside) {
  EXPECT_EQ(shape_of(Builder({1, 1, 5, 5}).node("MaxPool", {"x"}, {"y"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})), "[1, 1, 2, 2]");
  EXPECT_EQ(shape_of(Builder({1, 1, 5, 5}).node("MaxPool", {"x"}, {"y"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t{1}}})), "[1, 1, 3, 3]");
  EXPECT_EQ(shape_of(Builder({1, 1, 2, 2}).node("MaxPool", {"x"}, {"y"}, {{"kernel_shape", Ints{1, 1}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t{1}}})), "[1, 1, 1, 1]");
  EXPECT_EQ(shape_of(Builder({-1, 6, 9, 9}).node("GlobalAveragePool", {"x"}, {"y"})), "[?, 6, 1, 1]");
}

TEST(ShapeInference, MatrixProducts) {
  EXPECT_EQ(shape_of(Builder({-1, 4}).floats("w", {3, 4}).floats("b", {3}).node("Gemm", {"x", "w", "b"}, {"y"}, {{"transB", std::int64_t{1}}})), "[?, 3]");
  EXPECT_EQ(shape_of(Builder({-1, 8, 5, 4}).floats("w", {8, 4, 3}).node("MatMul", {"x", "w"}, {"y"})), "[?, 8, 5, 3]");
  EXPECT_EQ(shape_of(Builder({4}).floats("w", {4}).node("MatMul", {"x", "w"}, {"y"})), "[]");
  EXPECT_EQ(shape_of(Builder({2, 4}).floats("w", {4}).node("MatMul", {"x", "w"}, {"y"})), "[2]");
  EXPECT_THAT(shape_of(Builder({2, 4}).floats("w", {5, 3}).node("MatMul", {"x", "w"}, {"y"})), HasSubstr("node MatMul 'MatMul_y': inner dimensions 4 and 5 differ (inputs x [2, 4], w [5, 3])"));
}

TEST(ShapeInference, BroadcastingComparisonAndWhere) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 1}).floats("w", {4}).node("Add", {"x", "w"}, {"y"})), "[?, 3, 4]");
  Builder where({2, 3});
  where.floats("w", {3}).node("Greater", {"x", "w"}, {"c"}).node("Where", {"c", "x", "w"}, {"y"});
  EXPECT_EQ(shape_of(where), "[2, 3]");
  Graph graph = where.graph;
  ASSERT_TRUE(infer_shapes(graph).has_value());
  EXPECT_EQ(graph.values.at("c").dtype, DType::kBool);
}

TEST(ShapeInference, Reductions) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 4}).integers("a", {-1}).node("ReduceMean", {"x", "a"}, {"y"}, {{"keepdims", std::int64_t{0}}})), "[?, 3]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("ReduceSum", {"x"}, {"y"})), "[1, 1, 1]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("ReduceSum", {"x"}, {"y"}, {{"noop_with_empty_axes", std::int64_t{1}}})), "[2, 3, 4]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("ArgMax", {"x"}, {"y"}, {{"axis", std::int64_t{-1}}, {"keepdims", std::int64_t{0}}})), "[2, 3]");
}

TEST(ShapeInference, Reshaping) {
  EXPECT_EQ(shape_of(Builder({-1, 16, 4, 4}).integers("t", {0, -1}).node("Reshape", {"x", "t"}, {"y"})), "[?, 256]");
  EXPECT_EQ(shape_of(Builder({-1, 16, 4, 4}).integers("t", {-1, 256}).node("Reshape", {"x", "t"}, {"y"})), "[?, 256]");
  EXPECT_EQ(shape_of(Builder({0, 4}).integers("t", {4, 0}).node("Reshape", {"x", "t"}, {"y"}, {{"allowzero", std::int64_t{1}}})), "[4, 0]");
  EXPECT_EQ(shape_of(Builder({-1, 3, 4}).node("Flatten", {"x"}, {"y"})), "[?, 12]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("Flatten", {"x"}, {"y"}, {{"axis", std::int64_t{0}}})), "[1, 24]");
  EXPECT_EQ(shape_of(Builder({2, 1, 3, 1}).node("Squeeze", {"x"}, {"y"})), "[2, 3]");
  EXPECT_EQ(shape_of(Builder({2, 3}).integers("a", {0, -1}).node("Unsqueeze", {"x", "a"}, {"y"})), "[1, 2, 3, 1]");
  EXPECT_EQ(shape_of(Builder({2, 3, 4}).node("Transpose", {"x"}, {"y"})), "[4, 3, 2]");
  EXPECT_EQ(shape_of(Builder({1, 8, 2, 3}).node("DepthToSpace", {"x"}, {"y"}, {{"blocksize", std::int64_t{2}}})), "[1, 2, 4, 6]");
  EXPECT_EQ(shape_of(Builder({1, 2, 4, 6}).node("SpaceToDepth", {"x"}, {"y"}, {{"blocksize", std::int64_t{2}}})), "[1, 8, 2, 3]");
}

TEST(ShapeInference, Picking) {
  EXPECT_EQ(shape_of(Builder({-1, 3}).floats("w", {1, 4}).node("Concat", {"x", "x"}, {"y"}, {{"axis", std::int64_t{1}}})), "[?, 6]");
  EXPECT_EQ(shape_of(Builder({2, 9}).integers("s", {4, 5}).node("Split", {"x", "s"}, {"a", "y"}, {{"axis", std::int64_t{1}}})), "[2, 5]");
  EXPECT_EQ(shape_of(Builder({2, 9}).integers("s", {-1}).integers("e", {-100}).integers("a", {1}).integers("t", {-2}).node("Slice", {"x", "s", "e", "a", "t"}, {"y"})), "[2, 5]");
  EXPECT_EQ(shape_of(Builder({2, 9}).integers("s", {3}).integers("e", {INT64_MAX}).integers("a", {1}).node("Slice", {"x", "s", "e", "a"}, {"y"})), "[2, 6]");
  EXPECT_EQ(shape_of(Builder({-1, 5, 6}).scalar("i", 0).node("Gather", {"x", "i"}, {"y"}, {{"axis", std::int64_t{1}}})), "[?, 6]");
  EXPECT_EQ(shape_of(Builder({-1, 5}, DType::kS64).floats("w", {100, 8}).node("Gather", {"w", "x"}, {"y"})), "[?, 5, 8]");
}

TEST(ShapeInference, Growing) {
  EXPECT_EQ(shape_of(Builder({-1, 3, 4, 4}).integers("p", {0, 0, 1, 1, 0, 0, 2, 2}).node("Pad", {"x", "p"}, {"y"})), "[?, 3, 7, 7]");
  EXPECT_EQ(shape_of(Builder({2, 1}).integers("t", {3, 1, 4}).node("Expand", {"x", "t"}, {"y"})), "[3, 2, 4]");
  EXPECT_EQ(shape_of(Builder({2, 3}).integers("r", {1, 4}).node("Tile", {"x", "r"}, {"y"})), "[2, 12]");
  EXPECT_EQ(shape_of(Builder({-1, 3, 5, 5}).floats("s", {4}, {1, 1, 2.5F, 2}).node("Resize", {"x", "", "s"}, {"y"})), "[?, 3, 12, 10]");
}

TEST(ShapeInference, NormalizationsCheckTheirParameters) {
  EXPECT_EQ(shape_of(Builder({-1, 5, 8}).floats("s", {8}).node("LayerNormalization", {"x", "s"}, {"y"})), "[?, 5, 8]");
  EXPECT_THAT(shape_of(Builder({-1, 5, 8}).floats("s", {7}).node("LayerNormalization", {"x", "s"}, {"y"})), HasSubstr("must have the shape [8]"));
  EXPECT_THAT(shape_of(Builder({1, 4, 2, 2}).floats("a", {4}).floats("b", {3}).node("InstanceNormalization", {"x", "a", "b"}, {"y"})), HasSubstr("input 2 must have the shape [4]"));
}

TEST(ShapeInference, Quantization) {
  Builder quantized({-1, 3, 4, 4});
  quantized.floats("s", {}, {0.1F}).node("QuantizeLinear", {"x", "s"}, {"q"}).node("DequantizeLinear", {"q", "s"}, {"y"});
  EXPECT_EQ(shape_of(quantized), "[?, 3, 4, 4]");
  Graph graph = quantized.graph;
  ASSERT_TRUE(infer_shapes(graph).has_value());
  EXPECT_EQ(graph.values.at("q").dtype, DType::kU8);
  EXPECT_THAT(shape_of(Builder({1, 3, 4, 4}).floats("s", {4}).node("QuantizeLinear", {"x", "s"}, {"y"})), HasSubstr("3 slices along axis 1"));
}

TEST(ShapeInference, ShapeArithmeticIsFollowedThroughAFreeBatch) {
  // view(x.size(0), -1), as exporters write it.
  Builder view({-1, 16, 4, 4});
  view.scalar("zero", 0).integers("axes", {0}).integers("rest", {-1})
      .node("Shape", {"x"}, {"s"}).node("Gather", {"s", "zero"}, {"n"}).node("Unsqueeze", {"n", "axes"}, {"n1"})
      .node("Concat", {"n1", "rest"}, {"t"}, {{"axis", std::int64_t{0}}}).node("Reshape", {"x", "t"}, {"y"});
  EXPECT_EQ(shape_of(view), "[?, 256]");
}

TEST(ShapeInference, SizesComputedInFloatingPointAreFollowed) {
  Builder upsample({1, 3, 7, 5});
  upsample.integers("from", {2}).integers("to", {4}).integers("head", {1, 3}).floats("two", {}, {2.0F})
      .node("Shape", {"x"}, {"s"}).node("Slice", {"s", "from", "to"}, {"hw"}).node("Cast", {"hw"}, {"f"}, {{"to", std::int64_t{1}}})
      .node("Mul", {"f", "two"}, {"g"}).node("Floor", {"g"}, {"h"}).node("Cast", {"h"}, {"i"}, {{"to", std::int64_t{7}}})
      .node("Concat", {"head", "i"}, {"sizes"}, {{"axis", std::int64_t{0}}}).node("Resize", {"x", "", "", "sizes"}, {"y"});
  EXPECT_EQ(shape_of(upsample), "[1, 3, 14, 10]");
}

TEST(ShapeInference, WhatWasFoundBeforeAnErrorIsKept) {
  Graph graph = Builder({1, 4}).node("Relu", {"x"}, {"a"}).node("Wibble", {"a"}, {"b"}).with_output("b");
  const auto done = infer_shapes(graph);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, ErrorCode::kUnimplemented);
  EXPECT_TRUE(graph.values.contains("a"));
}

TEST(ShapeInference, OutputsGetTheirTypes) {
  Graph graph = Builder({-1, 4}).node("ArgMax", {"x"}, {"y"}, {{"axis", std::int64_t{1}}}).with_output("y");
  ASSERT_TRUE(infer_shapes(graph).has_value());
  EXPECT_EQ(graph.outputs[0].dtype, DType::kS64);
  EXPECT_EQ(graph.outputs[0].shape, (Shape{-1, 1}));
}

// ---- with_batch

std::string rebatched(Graph graph, std::int64_t batch) {
  const auto done = infer_shapes(graph);
  if (!done.has_value()) return done.error().message;
  const auto changed = with_batch(graph, batch);
  if (!changed.has_value()) return std::string(to_string(changed.error().code)) + ": " + changed.error().message;
  const auto checked = changed->check();
  if (!checked.has_value()) return checked.error().message;
  return to_string(changed->outputs[0].shape);
}

Builder mnist() {
  return Builder({1, 1, 28, 28}).floats("w", {8, 1, 5, 5}).floats("b", {8, 1, 1}).integers("t", {1, 1568}).floats("v", {1568, 10}).floats("c", {1, 10})
      .node("Conv", {"x", "w"}, {"a"}, {{"auto_pad", std::string("SAME_UPPER")}}).node("Add", {"a", "b"}, {"d"}).node("Relu", {"d"}, {"e"})
      .node("MaxPool", {"e"}, {"f"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})
      .node("Reshape", {"f", "t"}, {"g"}).node("MatMul", {"g", "v"}, {"h"}).node("Add", {"h", "c"}, {"y"});
}

TEST(WithBatch, ConstantReshapeTargetsCarryTheNewBatch) {
  EXPECT_EQ(rebatched(mnist().with_output("y"), 5), "[5, 10]");
  EXPECT_EQ(rebatched(mnist().with_output("y"), 1), "[1, 10]");
}

TEST(WithBatch, ASharedTargetIsNotChangedForOthers) {
  Builder builder = mnist();
  builder.integers("t", {1, 1568}).floats("k", {1568}).node("Reshape", {"k", "t"}, {"k2"}).node("MatMul", {"k2", "v"}, {"k3"}).node("Add", {"y", "k3"}, {"z"});
  EXPECT_EQ(rebatched(builder.with_output("z"), 3), "[3, 10]");
}

TEST(WithBatch, FreeBatchesTakeAnyNumber) {
  const Graph g = Builder({-1, 3, 8, 8}).floats("w", {4, 3, 3, 3}).node("Conv", {"x", "w"}, {"a"}).node("GlobalAveragePool", {"a"}, {"b"}).node("Flatten", {"b"}, {"y"}).with_output("y");
  EXPECT_EQ(rebatched(g, 1), "[1, 4]");
  EXPECT_EQ(rebatched(g, 251), "[251, 4]");
}

TEST(WithBatch, AllValuesAreStaticAfterwards) {
  Graph g = mnist().with_output("y");
  ASSERT_TRUE(infer_shapes(g).has_value());
  const auto changed = with_batch(g, 9);
  ASSERT_TRUE(changed.has_value());
  for (const auto& [name, value] : changed->values) EXPECT_TRUE(element_count(value.shape)) << name;
  EXPECT_EQ(changed->inputs[0].shape[0], 9);
  EXPECT_EQ(g.inputs[0].shape[0], 1) << "the original changed";
}

TEST(WithBatch, RowsOfASampleMayBeFoldedIntoTheBatchAndBack) {
  const auto folded = [](std::int64_t own) {
    return Builder({own, 6, 4}).integers("in", {own * 6, 4}).integers("out", {own, 6, 3}).floats("w", {4, 3})
        .node("Reshape", {"x", "in"}, {"a"}).node("Gemm", {"a", "w"}, {"b"}).node("Reshape", {"b", "out"}, {"y"}).with_output("y");
  };
  EXPECT_EQ(rebatched(folded(1), 4), "[4, 6, 3]");
  EXPECT_EQ(rebatched(folded(2), 5), "[5, 6, 3]");
}

/// One node on x of the given shape.
Graph one(Shape shape, const std::string& op, std::vector<std::string> inputs, std::map<std::string, Attribute> attributes = {}) {
  Builder builder(std::move(shape));
  builder.integers("zero", {0}).integers("one", {1}).integers("ends", {1}).floats("w", {4, 4}).floats("rows", {2, 4});
  return builder.node(op, std::move(inputs), {"y"}, std::move(attributes)).with_output("y");
}

TEST(WithBatch, WhatMixesSamplesIsRefusedByName) {
  const auto refused = [](const Graph& graph, const std::string& why) {
    const std::string message = rebatched(graph, 3);
    EXPECT_THAT(message, HasSubstr("failed_precondition: node "));
    EXPECT_THAT(message, HasSubstr("_y'"));
    EXPECT_THAT(message, HasSubstr(why));
  };
  for (const std::int64_t own : {-1, 1, 2}) {
    refused(one({own, 4}, "Transpose", {"x"}), "moves the batch away from axis 0");
    refused(one({own, 4}, "ReduceMean", {"x", "zero"}), "contain the batch axis");
    refused(one({own, 4}, "ReduceSum", {"x"}), "the batch axis");
    refused(one({own, 4}, "Softmax", {"x"}, {{"axis", std::int64_t{0}}}), "along the batch axis");
    refused(one({own, 4}, "Concat", {"x", "x"}, {{"axis", std::int64_t{0}}}), "joins along the batch axis");
    refused(one({own, 4}, "Unsqueeze", {"x", "zero"}), "contain the batch axis");
    refused(one({own, 4}, "Flatten", {"x"}, {{"axis", std::int64_t{0}}}), "one row");
    refused(one({own, 4}, "ArgMax", {"x"}), "along the batch axis");
    refused(one({own, 4}, "Gather", {"x", "zero"}), "along the batch axis");
  }
  refused(one({2, 4}, "Slice", {"x", "zero", "ends"}), "cuts the batch axis");
  refused(one({2, 4}, "Add", {"x", "rows"}), "for each row of the batch");
  refused(one({1, 4}, "Squeeze", {"x", "zero"}), "contain the batch axis");
  refused(one({1, 4}, "Squeeze", {"x"}), "takes away");
  refused(Builder({1, 4}).node("DynamicQuantizeLinear", {"x"}, {"y", "s", "z"}).with_output("y"), "isn't known to keep samples apart");
}

TEST(WithBatch, SamplesThatMultiplyEachOtherAreRefused) {
  EXPECT_THAT(rebatched(Builder({4, 4}).node("MatMul", {"x", "x"}, {"y"}).with_output("y"), 3), HasSubstr("multiplies samples with each other"));
  EXPECT_EQ(rebatched(Builder({1, 4, 4}).node("MatMul", {"x", "x"}, {"y"}).with_output("y"), 3), "[3, 4, 4]");
}

TEST(WithBatch, InputsThatDisagreeAreRefused) {
  const Graph g = Builder({1, 4}).input("z", {2, 4}).node("Relu", {"x"}, {"y"}).with_output("y");
  EXPECT_THAT(rebatched(g, 3), HasSubstr("differ in their first dimension"));
}

TEST(WithBatch, OutputsWithoutOneRowASampleAreRefused) {
  const Graph g = Builder({1, 6}).integers("t", {6}).node("Reshape", {"x", "t"}, {"y"}).with_output("y");
  EXPECT_THAT(rebatched(g, 3), HasSubstr("graph output 'y' doesn't hold one row a sample"));
}

TEST(WithBatch, NonsenseIsRefused) { EXPECT_THAT(rebatched(mnist().with_output("y"), 0), HasSubstr("expected 1 or more")); }

TEST(WithBatch, TransformerWithClassTokenAndPositions) {
  // [CLS] as a constant row, joined to patches; attention with heads moved by Transpose behind the batch.
  const auto vit = [](std::int64_t own) {
    Builder b({own, 4, 8});
    b.floats("cls", {1, 1, 8}).floats("pos", {1, 5, 8}).floats("wq", {8, 8}).floats("g", {8}).scalar("first", 0)
        .integers("split", {own, 5, 2, 4}).integers("join", {own, 5, 8});
    if (own < 0) {
      b.scalar("zero", 0).integers("axes", {0}).integers("row", {1, 8}).integers("split", {0, 5, 2, 4}).integers("join", {0, 5, 8})
          .node("Shape", {"x"}, {"s"}).node("Gather", {"s", "zero"}, {"n"}).node("Unsqueeze", {"n", "axes"}, {"n1"})
          .node("Concat", {"n1", "row"}, {"t"}, {{"axis", std::int64_t{0}}}).node("Expand", {"cls", "t"}, {"cls_n"});
    }
    return b.node("Concat", {own < 0 ? "cls_n" : "cls", "x"}, {"seq"}, {{"axis", std::int64_t{1}}})
        .node("Add", {"seq", "pos"}, {"e"}).node("LayerNormalization", {"e", "g"}, {"ln"}).node("MatMul", {"ln", "wq"}, {"q"})
        .node("Reshape", {"q", "split"}, {"qh"}).node("Transpose", {"qh"}, {"qt"}, {{"perm", Ints{0, 2, 1, 3}}})
        .node("Transpose", {"qh"}, {"kt"}, {{"perm", Ints{0, 2, 3, 1}}}).node("MatMul", {"qt", "kt"}, {"scores"}).node("Softmax", {"scores"}, {"p"}, {{"axis", std::int64_t{-1}}})
        .node("MatMul", {"p", "qt"}, {"o"}).node("Transpose", {"o"}, {"ot"}, {{"perm", Ints{0, 2, 1, 3}}}).node("Reshape", {"ot", "join"}, {"r"})
        .node("Gather", {"r", "first"}, {"y"}, {{"axis", std::int64_t{1}}}).with_output("y");
  };
  EXPECT_EQ(rebatched(vit(1), 4), "[4, 8]");
  EXPECT_EQ(rebatched(vit(-1), 4), "[4, 8]");
  EXPECT_EQ(rebatched(vit(-1), 1), "[1, 8]");
}

TEST(WithBatch, TheNumberOfSamplesAsANumberIsRefused) {
  Builder b({-1, 4});
  b.scalar("zero", 0).node("Shape", {"x"}, {"s"}).node("Gather", {"s", "zero"}, {"n"}).node("Cast", {"n"}, {"f"}, {{"to", std::int64_t{1}}}).node("Div", {"x", "f"}, {"y"});
  EXPECT_THAT(rebatched(b.with_output("y"), 3), HasSubstr("computes with the number of samples"));
}

TEST(WithBatch, DimensionsBeyondTheBatchMayBeComputedWith) {
  Builder b({-1, 4});
  b.scalar("one", 1).node("Shape", {"x"}, {"s"}).node("Gather", {"s", "one"}, {"n"}).node("Cast", {"n"}, {"f"}, {{"to", std::int64_t{1}}}).node("Div", {"x", "f"}, {"y"});
  EXPECT_EQ(rebatched(b.with_output("y"), 3), "[3, 4]");
}

}  // namespace
}  // namespace kerf::graph
