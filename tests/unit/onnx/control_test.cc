// If, Loop and Scan take the place of their nodes, as often as is known beforehand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/onnx/model_builder.h"

namespace kerf {
namespace {

using graph::Graph;
using graph::Shape;
using ::testing::HasSubstr;
using testing::ModelBuilder;
using testing::must_read;

/// A body with its inputs, nodes and outputs, as the attribute `name` of the model's last node.
void set_body(ModelBuilder& model, const std::string& name, const ModelBuilder& body) {
  auto* node = model.model.mutable_graph()->mutable_node(model.model.graph().node_size() - 1);
  auto* attribute = node->add_attribute();
  attribute->set_name(name);
  attribute->set_type(::onnx::AttributeProto::GRAPH);
  *attribute->mutable_g() = body.model.graph();
}

int count(const Graph& graph, const std::string& op) {
  int found = 0;
  for (const graph::Node& node : graph.nodes) found += node.op == op ? 1 : 0;
  return found;
}

/// state -> state + x, and what it was before at each step.
ModelBuilder adding_body(const std::string& condition = "go_on") {
  ModelBuilder body(16);
  body.input("step", {}, 7).input("go_on", {}, 9).input("state", {2});
  body.node("Add", {"state", "x"}, {"sum"}, "add");
  if (condition != "go_on") body.node("Less", {"step", "limit"}, {condition}, "less");
  body.output(condition, 9).output("sum").output("state");
  return body;
}

ModelBuilder loop_model(std::int64_t trips, const ModelBuilder& body) {
  ModelBuilder model(16);
  model.input("x", {2}).integers("trips", {}, {trips}).integers("limit", {}, {2});
  model.node("Loop", {"trips", "", "x"}, {"last", "all"}, "loop");
  set_body(model, "body", body);
  model.output("last").output("all");
  return model;
}

TEST(Control, LoopIsUnrolledAndCollectsItsSteps) {
  const Graph g = must_read(loop_model(3, adding_body()));
  EXPECT_EQ(count(g, "Loop"), 0);
  EXPECT_EQ(count(g, "Add"), 3);
  EXPECT_EQ(g.outputs[0].shape, (Shape{2}));
  EXPECT_EQ(g.outputs[1].shape, (Shape{3, 2}));
}

TEST(Control, LoopEndsWhereItsConditionIsKnownToBeFalse) {
  const Graph g = must_read(loop_model(100, adding_body("on")));
  EXPECT_EQ(g.outputs[1].shape, (Shape{3, 2}));  // steps 0, 1 and the one that finds 2 < 2 false
}

TEST(Control, LoopOfNoStepGivesItsInputsAndNothingCollected) {
  const Graph g = must_read(loop_model(0, []() {
    ModelBuilder body = adding_body();
    // The collected output needs its shape declared.
    auto* shape = body.model.mutable_graph()->mutable_output(2)->mutable_type()
                      ->mutable_tensor_type()->mutable_shape();
    shape->add_dim()->set_dim_value(2);
    return body;
  }()));
  EXPECT_EQ(g.outputs[0].shape, (Shape{2}));
  EXPECT_EQ(g.outputs[1].shape, (Shape{0, 2}));
}

TEST(Control, LoopOfTooManyStepsIsRefused) {
  const auto refused = loop_model(std::int64_t{1} << 40, adding_body()).read();
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("Loop 'loop': unrolled it has more than"));
}

TEST(Control, NestedLoopsShareOneBound) {
  ModelBuilder inner = adding_body();
  ModelBuilder outer(16);
  outer.input("outer_step", {}, 7).input("outer_on", {}, 9).input("outer_state", {2});
  outer.node("Loop", {"trips", "", "outer_state"}, {"inner_last", "inner_all"}, "inner");
  set_body(outer, "body", inner);
  outer.output("outer_on", 9).output("inner_last").output("outer_state");
  const auto refused = loop_model(3000, outer).read();
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("unrolled it has more than"));
  const Graph g = must_read(loop_model(4, outer));
  EXPECT_EQ(count(g, "Add"), 16);
}

TEST(Control, WhatABodyHoldsIsBoundedByItsSizeTimesItsSteps) {
  // A loop inside that never runs is copied all the same, and so are long lists.
  ModelBuilder idle = adding_body();
  for (int i = 0; i < 1000; ++i) idle.node("Relu", {"state"}, {"r" + std::to_string(i)});
  ModelBuilder outer = adding_body();
  outer.integers("never", {}, {0});
  outer.node("Loop", {"never", "", "x"}, {"idle_last"}, "idle");
  set_body(outer, "body", idle);
  ModelBuilder listed = adding_body();
  auto* list = listed.model.mutable_graph()->mutable_node(0)->add_attribute();
  list->set_name("kerf");
  list->set_type(::onnx::AttributeProto::INTS);
  for (int i = 0; i < 100000; ++i) list->add_ints(i);
  for (const ModelBuilder& body : {outer, listed}) {
    const auto refused = loop_model(1000, body).read();
    ASSERT_FALSE(refused.has_value());
    EXPECT_THAT(refused.error().message, HasSubstr("unrolled it has more than"));
    EXPECT_TRUE(loop_model(3, body).read().has_value());
  }
}

TEST(Control, LoopWhoseTripCountIsDataIsRefusedWithTheWayOut) {
  ModelBuilder model(16);
  model.input("x", {2}).input("trips", {}, 7);
  model.node("Loop", {"trips", "", "x"}, {"last", "all"}, "loop");
  set_body(model, "body", adding_body());
  model.output("last");
  const auto refused = model.read();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(refused.error().message, HasSubstr("trip count 'trips' depends on the data"));
  EXPECT_THAT(refused.error().message, HasSubstr("fixed number of steps"));

  onnx::ReadOptions bound;
  bound.constants["trips"] = graph::Tensor::s64({}, {2});
  const auto read = onnx::parse_model(model.bytes(), "test.onnx", bound);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->inputs.size(), 1U);
}

TEST(Control, IfTakesTheBranchThatShapesDecide) {
  for (const std::int64_t size : {2, 7}) {
    ModelBuilder model(16);
    model.input("x", {size}).integers("four", {}, {4});
    model.node("Size", {"x"}, {"size"}).node("Less", {"size", "four"}, {"small"});
    model.node("If", {"small"}, {"y"}, "choose");
    ModelBuilder then(16);
    then.node("Relu", {"x"}, {"out"}).output("out");
    ModelBuilder otherwise(16);
    otherwise.node("Neg", {"x"}, {"out"}).output("out");
    set_body(model, "then_branch", then);
    set_body(model, "else_branch", otherwise);
    model.output("y");
    const Graph g = must_read(model);
    EXPECT_EQ(count(g, "Relu"), size == 2 ? 1 : 0);
    EXPECT_EQ(count(g, "Neg"), size == 2 ? 0 : 1);
  }
}

TEST(Control, IfOnDataIsRefused) {
  ModelBuilder model(16);
  model.input("x", {2}).input("condition", {}, 9);
  model.node("If", {"condition"}, {"y"}, "choose");
  ModelBuilder branch(16);
  branch.node("Relu", {"x"}, {"out"}).output("out");
  set_body(model, "then_branch", branch);
  set_body(model, "else_branch", branch);
  model.output("y");
  const auto refused = model.read();
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("If 'choose': its condition 'condition' depends"));
}

TEST(Control, ScanWalksItsInputBackwards) {
  ModelBuilder model(16);
  model.input("start", {2}).input("xs", {5, 2});
  model.node("Scan", {"start", "xs"}, {"last", "all"}, "scan").set("num_scan_inputs", 1);
  model.set("scan_input_directions", {1});
  ModelBuilder body(16);
  body.input("state", {2}).input("x", {2});
  body.node("Add", {"state", "x"}, {"sum"}).output("sum").output("sum");
  set_body(model, "body", body);
  model.output("last").output("all");
  const Graph g = must_read(model);
  EXPECT_EQ(count(g, "Add"), 5);
  EXPECT_EQ(g.outputs[1].shape, (Shape{5, 2}));
  EXPECT_EQ(g.constant(g.nodes[0].inputs[1])->to_integers(), std::vector<std::int64_t>{4});
}

}  // namespace
}  // namespace kerf
