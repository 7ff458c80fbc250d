#include "workers/graph/graph.h"

#include <gtest/gtest.h>

namespace kerf::graph {
namespace {

Node node(std::string name, std::vector<std::string> in, std::vector<std::string> out) {
  Node made;
  made.name = std::move(name);
  made.op = "Add";
  made.inputs = std::move(in);
  made.outputs = std::move(out);
  return made;
}

Graph chain() {
  Graph graph;
  graph.inputs = {{"x", DType::kF32, {1}}};
  graph.outputs = {{"z", DType::kF32, {1}}};
  graph.nodes = {node("second", {"y", "x"}, {"z"}), node("first", {"x", "x"}, {"y"}),
                 node("dead", {"x", "w"}, {"unused"})};
  graph.initializers["w"] = Tensor::f32({1}, {1});
  return graph;
}

TEST(Graph, SortRepairsTheOrderAndCheckAcceptsIt) {
  Graph graph = chain();
  EXPECT_FALSE(graph.check().has_value());
  ASSERT_TRUE(graph.sort().has_value());
  EXPECT_TRUE(graph.check().has_value());
  EXPECT_EQ(graph.nodes.at(0).name, "first");
}

TEST(Graph, CycleIsNamed) {
  Graph graph = chain();
  graph.nodes[1].inputs = {"z", "x"};
  const auto sorted = graph.sort();
  ASSERT_FALSE(sorted.has_value());
  EXPECT_NE(sorted.error().message.find("cycle"), std::string::npos);
}

TEST(Graph, DeadNodesAndTheirConstantsGo) {
  Graph graph = chain();
  ASSERT_TRUE(graph.sort().has_value());
  graph.remove_dead();
  EXPECT_EQ(graph.nodes.size(), 2U);
  EXPECT_TRUE(graph.initializers.empty());
}

}  // namespace
}  // namespace kerf::graph
