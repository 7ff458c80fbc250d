// Local functions of a model take the place of their calls.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/onnx/model_builder.h"

namespace kerf {
namespace {

using graph::Graph;
using graph::Node;
using ::testing::HasSubstr;
using testing::ModelBuilder;
using testing::must_read;

std::vector<std::string> ops_of(const Graph& graph) {
  std::vector<std::string> out;
  for (const Node& node : graph.nodes) out.push_back(node.op);
  return out;
}

::onnx::FunctionProto& function(ModelBuilder& b, const std::string& name, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
  auto* made = b.model.add_functions();
  made->set_name(name);
  made->set_domain("local");
  for (const auto& item : inputs) made->add_input(item);
  for (const auto& item : outputs) made->add_output(item);
  auto* import = made->add_opset_import();
  import->set_domain("");
  import->set_version(b.model.opset_import(0).version());
  return *made;
}

::onnx::NodeProto& step(::onnx::FunctionProto& f, const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                        const std::string& domain = "") {
  auto* node = f.add_node();
  node->set_op_type(op);
  node->set_domain(domain);
  for (const auto& item : inputs) node->add_input(item);
  for (const auto& item : outputs) node->add_output(item);
  return *node;
}

/// FunctionProto.attribute_proto, which came after the compiled messages.
void set_default(::onnx::FunctionProto& f, const std::string& name, float value) {
  ::onnx::AttributeProto attribute;
  attribute.set_name(name);
  attribute.set_type(::onnx::AttributeProto::FLOAT);
  attribute.set_f(value);
  f.mutable_unknown_fields()->AddLengthDelimited(11, attribute.SerializeAsString());
}

void refer(::onnx::NodeProto& node, const std::string& name, const std::string& to) {
  auto* attribute = node.add_attribute();
  attribute->set_name(name);
  attribute->set_type(::onnx::AttributeProto::FLOAT);
  attribute->set_ref_attr_name(to);
}

TEST(LocalFunctions, BodiesTakeThePlaceOfCallsInsideEachOther) {
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4}).node("Outer", {"x"}, {"y"}, "call", "local").node("Outer", {"y"}, {"z"}, "again", "local").output("z");
  auto& outer = function(b, "Outer", {"a"}, {"b"});
  step(outer, "Inner", {"a"}, {"t"}, "local");
  step(outer, "Add", {"t", "a"}, {"b"});
  step(function(b, "Inner", {"a"}, {"b"}), "Relu", {"a"}, {"b"});
  const Graph g = must_read(b);
  EXPECT_EQ(ops_of(g), (std::vector<std::string>{"Relu", "Add", "Relu", "Add"}));
  EXPECT_EQ(g.nodes[0].name, "call/Inner:t/Relu:b");
  EXPECT_EQ(g.nodes[1].name, "call/Add:b");
  EXPECT_EQ(g.nodes[1].outputs[0], "y");
  EXPECT_EQ(g.nodes[3].inputs[1], "y");
  // Names inside differ from call to call.
  EXPECT_NE(g.nodes[0].outputs[0], g.nodes[2].outputs[0]);
}

TEST(LocalFunctions, AttributesComeFromTheCallerOrAreTheFunctionsOwn) {
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4});
  b.node("Leaky", {"x"}, {"y"}, "given", "local").set("slope", 0.3F);
  b.node("Leaky", {"y"}, {"z"}, "left_out", "local").output("z");
  auto& f = function(b, "Leaky", {"a"}, {"b"});
  set_default(f, "slope", 0.7F);
  refer(step(f, "LeakyRelu", {"a"}, {"t"}), "alpha", "slope");
  refer(step(f, "Elu", {"t"}, {"b"}), "alpha", "nobody");
  const Graph g = must_read(b);
  ASSERT_EQ(g.nodes.size(), 4U);
  EXPECT_FLOAT_EQ(g.nodes[0].real("alpha", 0), 0.3F);
  EXPECT_FLOAT_EQ(g.nodes[2].real("alpha", 0), 0.7F);
  EXPECT_FALSE(g.nodes[1].attributes.contains("alpha"));
}

TEST(LocalFunctions, InputsMayBeLeftOutAndOutputsMayBeInputs) {
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4}).node("Both", {"x"}, {"y", "same"}, "call", "local").node("Add", {"y", "same"}, {"z"}).output("z");
  auto& f = function(b, "Both", {"a", "low"}, {"b", "a"});
  step(f, "Clip", {"a", "low"}, {"b"});
  const Graph g = must_read(b);
  EXPECT_EQ(ops_of(g), (std::vector<std::string>{"Clip", "Identity", "Add"}));
  EXPECT_EQ(g.nodes[0].inputs.size(), 1U);
  EXPECT_EQ(g.nodes[1].inputs[0], "x");
}

TEST(LocalFunctions, GraphsInsideThemHideNothing) {
  // The branch calls its value "x", as the graph calls the function's argument.
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4}).node("Pick", {"x"}, {"y"}, "call", "local").output("y");
  auto& f = function(b, "Pick", {"a"}, {"b"});
  auto& yes = step(f, "Constant", {}, {"yes"});
  auto* value = yes.add_attribute();
  value->set_name("value");
  value->set_type(::onnx::AttributeProto::TENSOR);
  value->mutable_t()->set_data_type(::onnx::TensorProto::BOOL);
  value->mutable_t()->add_int32_data(1);
  auto& choice = step(f, "If", {"yes"}, {"b"});
  for (const char* name : {"then_branch", "else_branch"}) {
    auto* branch = choice.add_attribute();
    branch->set_name(name);
    branch->set_type(::onnx::AttributeProto::GRAPH);
    auto* inner = branch->mutable_g();
    auto* first = inner->add_node();
    first->set_op_type("Neg");
    first->add_input("a");
    first->add_output("x");
    auto* second = inner->add_node();
    second->set_op_type("Add");
    second->add_input("x");
    second->add_input("a");
    second->add_output("out");
    inner->add_output()->set_name("out");
  }
  const Graph g = must_read(b);
  ASSERT_GE(g.nodes.size(), 2U);
  EXPECT_EQ(g.nodes[0].op, "Neg");
  EXPECT_EQ(g.nodes[0].inputs[0], "x");
  EXPECT_EQ(g.nodes[1].inputs, (std::vector<std::string>{g.nodes[0].outputs[0], "x"}));
}

std::string refusal(const ModelBuilder& b) {
  const auto read = b.read();
  return read.has_value() ? "" : read.error().message;
}

TEST(LocalFunctions, ThatCallThemselvesAreRefusedByName) {
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4}).node("A", {"x"}, {"y"}, "call", "local").output("y");
  step(function(b, "A", {"a"}, {"b"}), "B", {"a"}, {"b"}, "local");
  step(function(b, "B", {"a"}, {"b"}), "A", {"a"}, {"b"}, "local");
  EXPECT_THAT(refusal(b), HasSubstr("local function 'A' calls itself"));
}

TEST(LocalFunctions, ThatGrowOrNestWithoutEndAreRefused) {
  // Ten calls of ten calls of ten calls …, down to one that holds nothing.
  for (const int depth : {8, 20}) {
    ModelBuilder b(17);
    b.import("local", 1).input("x", {1, 4}).node("F0", {"x"}, {"y"}, "call", "local").output("y");
    for (int i = 0; i < depth; ++i) {
      auto& f = function(b, "F" + std::to_string(i), {"a"}, {"b"});
      std::string last = "a";
      for (int k = 0; k < 10 && i + 1 < depth; ++k) {
        const std::string next = k == 9 ? "b" : "t" + std::to_string(k);
        step(f, "F" + std::to_string(i + 1), {last}, {next}, "local");
        last = next;
      }
    }
    EXPECT_THAT(refusal(b), HasSubstr(depth == 8 ? "with local functions in their places" : "functions deep")) << depth;
  }
}

TEST(LocalFunctions, OfAnotherOpsetAreRefused) {
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4}).node("F", {"x"}, {"y"}, "call", "local").output("y");
  auto& f = function(b, "F", {"a"}, {"b"});
  step(f, "Relu", {"a"}, {"b"});
  f.mutable_opset_import(0)->set_version(11);
  EXPECT_THAT(refusal(b), HasSubstr("local function 'F' is written for opset 11, the model for 17"));
}

TEST(LocalFunctions, CallsThatDoNotFitAreRefused) {
  ModelBuilder b(17);
  b.import("local", 1).input("x", {1, 4}).node("F", {"x", "x"}, {"y"}, "call", "local").output("y");
  step(function(b, "F", {"a"}, {"b"}), "Relu", {"a"}, {"b"});
  EXPECT_THAT(refusal(b), HasSubstr("node F 'call' has more inputs or outputs than local function 'F'"));
}

}  // namespace
}  // namespace kerf
