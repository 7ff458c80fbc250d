#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/graph/graph_builder.h"
#include "workers/graph/shape_inference.h"

namespace kerf::graph {
namespace {

using ::testing::HasSubstr;

std::string rebatched(Graph graph, std::int64_t batch) {
  const auto done = infer_shapes(graph);
  if (!done.has_value()) return done.error().message;
  const auto changed = with_batch(graph, batch);
  if (!changed.has_value())
    return std::string(to_string(changed.error().code)) + ": " + changed.error().message;
  const auto checked = changed->check();
  if (!checked.has_value()) return checked.error().message;
  return to_string(changed->outputs[0].shape);
}

Builder mnist() {
  return Builder({1, 1, 28, 28})
      .floats("w", {8, 1, 5, 5})
      .floats("b", {8, 1, 1})
      .integers("t", {1, 1568})
      .floats("v", {1568, 10})
      .floats("c", {1, 10})
      .node("Conv", {"x", "w"}, {"a"}, {{"auto_pad", std::string("SAME_UPPER")}})
      .node("Add", {"a", "b"}, {"d"})
      .node("Relu", {"d"}, {"e"})
      .node("MaxPool", {"e"}, {"f"}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}})
      .node("Reshape", {"f", "t"}, {"g"})
      .node("MatMul", {"g", "v"}, {"h"})
      .node("Add", {"h", "c"}, {"y"});
}

TEST(WithBatch, ConstantReshapeTargetsCarryTheNewBatch) {
  EXPECT_EQ(rebatched(mnist().with_output("y"), 5), "[5, 10]");
  EXPECT_EQ(rebatched(mnist().with_output("y"), 1), "[1, 10]");
}

TEST(WithBatch, ASharedTargetIsNotChangedForOthers) {
  Builder builder = mnist();
  builder.integers("t", {1, 1568})
      .floats("k", {1568})
      .node("Reshape", {"k", "t"}, {"k2"})
      .node("MatMul", {"k2", "v"}, {"k3"})
      .node("Add", {"y", "k3"}, {"z"});
  EXPECT_EQ(rebatched(builder.with_output("z"), 3), "[3, 10]");
}

TEST(WithBatch, FreeBatchesTakeAnyNumber) {
  const Graph g = Builder({-1, 3, 8, 8})
                      .floats("w", {4, 3, 3, 3})
                      .node("Conv", {"x", "w"}, {"a"})
                      .node("GlobalAveragePool", {"a"}, {"b"})
                      .node("Flatten", {"b"}, {"y"})
                      .with_output("y");
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
    return Builder({own, 6, 4})
        .integers("in", {own * 6, 4})
        .integers("out", {own, 6, 3})
        .floats("w", {4, 3})
        .node("Reshape", {"x", "in"}, {"a"})
        .node("Gemm", {"a", "w"}, {"b"})
        .node("Reshape", {"b", "out"}, {"y"})
        .with_output("y");
  };
  EXPECT_EQ(rebatched(folded(1), 4), "[4, 6, 3]");
  EXPECT_EQ(rebatched(folded(2), 5), "[5, 6, 3]");
}

/// One node on x of the given shape.
Graph one(Shape shape, const std::string& op, std::vector<std::string> inputs,
          std::map<std::string, Attribute> attributes = {}) {
  Builder builder(std::move(shape));
  builder.integers("zero", {0})
      .integers("one", {1})
      .integers("ends", {1})
      .floats("w", {4, 4})
      .floats("rows", {2, 4});
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
    refused(one({own, 4}, "Concat", {"x", "x"}, {{"axis", std::int64_t{0}}}),
            "joins along the batch axis");
    refused(one({own, 4}, "Unsqueeze", {"x", "zero"}), "contain the batch axis");
    refused(one({own, 4}, "Flatten", {"x"}, {{"axis", std::int64_t{0}}}), "one row");
    refused(one({own, 4}, "ArgMax", {"x"}), "along the batch axis");
    refused(one({own, 4}, "Gather", {"x", "zero"}), "along the batch axis");
  }
  refused(one({2, 4}, "Slice", {"x", "zero", "ends"}), "cuts the batch axis");
  refused(one({2, 4}, "Add", {"x", "rows"}), "for each row of the batch");
  refused(one({1, 4}, "Squeeze", {"x", "zero"}), "contain the batch axis");
  refused(one({1, 4}, "Squeeze", {"x"}), "takes away");
  refused(Builder({1, 4}).node("DynamicQuantizeLinear", {"x"}, {"y", "s", "z"}).with_output("y"),
          "isn't known to keep samples apart");
}

TEST(WithBatch, SamplesThatMultiplyEachOtherAreRefused) {
  EXPECT_THAT(rebatched(Builder({4, 4}).node("MatMul", {"x", "x"}, {"y"}).with_output("y"), 3),
              HasSubstr("multiplies samples with each other"));
  EXPECT_EQ(rebatched(Builder({1, 4, 4}).node("MatMul", {"x", "x"}, {"y"}).with_output("y"), 3),
            "[3, 4, 4]");
}

TEST(WithBatch, InputsThatDisagreeAreRefused) {
  const Graph g = Builder({1, 4}).input("z", {2, 4}).node("Relu", {"x"}, {"y"}).with_output("y");
  EXPECT_THAT(rebatched(g, 3), HasSubstr("differ in their first dimension"));
}

TEST(WithBatch, OutputsWithoutOneRowASampleAreRefused) {
  const Graph g =
      Builder({1, 6}).integers("t", {6}).node("Reshape", {"x", "t"}, {"y"}).with_output("y");
  EXPECT_THAT(rebatched(g, 3), HasSubstr("graph output 'y' doesn't hold one row a sample"));
}

TEST(WithBatch, NonsenseIsRefused) {
  EXPECT_THAT(rebatched(mnist().with_output("y"), 0), HasSubstr("expected 1 or more"));
}

TEST(WithBatch, TransformerWithClassTokenAndPositions) {
  // [CLS] as a constant row, joined to patches; attention with heads moved by Transpose behind the
  // batch.
  const auto vit = [](std::int64_t own) {
    Builder b({own, 4, 8});
    b.floats("cls", {1, 1, 8})
        .floats("pos", {1, 5, 8})
        .floats("wq", {8, 8})
        .floats("g", {8})
        .scalar("first", 0)
        .integers("split", {own, 5, 2, 4})
        .integers("join", {own, 5, 8});
    if (own < 0) {
      b.scalar("zero", 0)
          .integers("axes", {0})
          .integers("row", {1, 8})
          .integers("split", {0, 5, 2, 4})
          .integers("join", {0, 5, 8})
          .node("Shape", {"x"}, {"s"})
          .node("Gather", {"s", "zero"}, {"n"})
          .node("Unsqueeze", {"n", "axes"}, {"n1"})
          .node("Concat", {"n1", "row"}, {"t"}, {{"axis", std::int64_t{0}}})
          .node("Expand", {"cls", "t"}, {"cls_n"});
    }
    return b.node("Concat", {own < 0 ? "cls_n" : "cls", "x"}, {"seq"}, {{"axis", std::int64_t{1}}})
        .node("Add", {"seq", "pos"}, {"e"})
        .node("LayerNormalization", {"e", "g"}, {"ln"})
        .node("MatMul", {"ln", "wq"}, {"q"})
        .node("Reshape", {"q", "split"}, {"qh"})
        .node("Transpose", {"qh"}, {"qt"}, {{"perm", Ints{0, 2, 1, 3}}})
        .node("Transpose", {"qh"}, {"kt"}, {{"perm", Ints{0, 2, 3, 1}}})
        .node("MatMul", {"qt", "kt"}, {"scores"})
        .node("Softmax", {"scores"}, {"p"}, {{"axis", std::int64_t{-1}}})
        .node("MatMul", {"p", "qt"}, {"o"})
        .node("Transpose", {"o"}, {"ot"}, {{"perm", Ints{0, 2, 1, 3}}})
        .node("Reshape", {"ot", "join"}, {"r"})
        .node("Gather", {"r", "first"}, {"y"}, {{"axis", std::int64_t{1}}})
        .with_output("y");
  };
  EXPECT_EQ(rebatched(vit(1), 4), "[4, 8]");
  EXPECT_EQ(rebatched(vit(-1), 4), "[4, 8]");
  EXPECT_EQ(rebatched(vit(-1), 1), "[1, 8]");
}

TEST(WithBatch, TheNumberOfSamplesAsANumberIsRefused) {
  Builder b({-1, 4});
  b.scalar("zero", 0)
      .node("Shape", {"x"}, {"s"})
      .node("Gather", {"s", "zero"}, {"n"})
      .node("Cast", {"n"}, {"f"}, {{"to", std::int64_t{1}}})
      .node("Div", {"x", "f"}, {"y"});
  EXPECT_THAT(rebatched(b.with_output("y"), 3), HasSubstr("computes with the number of samples"));
}

TEST(WithBatch, DimensionsBeyondTheBatchMayBeComputedWith) {
  Builder b({-1, 4});
  b.scalar("one", 1)
      .node("Shape", {"x"}, {"s"})
      .node("Gather", {"s", "one"}, {"n"})
      .node("Cast", {"n"}, {"f"}, {{"to", std::int64_t{1}}})
      .node("Div", {"x", "f"}, {"y"});
  EXPECT_EQ(rebatched(b.with_output("y"), 3), "[3, 4]");
}

}  // namespace
}  // namespace kerf::graph
