#include "workers/graph/fingerprint.h"

#include <gtest/gtest.h>

namespace kerf::graph {
namespace {

/// Conv-like chain: b = A(x, w), c = B(b), with names from outside.
Graph chain(const std::string& prefix, float weight, std::int64_t stride) {
  Graph graph;
  graph.inputs = {{prefix + "x", DType::kF32, {-1, 4}}};
  graph.outputs = {{prefix + "c", DType::kF32, {-1, 4}}};
  graph.initializers[prefix + "w"] = Tensor::f32({2}, {weight, 2.0F});
  graph.nodes = {{prefix + "first", "A", "", {prefix + "x", prefix + "w"}, {prefix + "b"}, {{"stride", stride}}},
                 {prefix + "second", "B", "", {prefix + "b"}, {prefix + "c"}, {}}};
  return graph;
}

TEST(Fingerprint, NamesDontCount) {
  const auto one = fingerprints(chain("", 1.0F, 1));
  const auto other = fingerprints(chain("other_", 1.0F, 1));
  for (const char* value : {"x", "b", "c"}) EXPECT_EQ(one.at(value), other.at(std::string("other_") + value)) << value;
  EXPECT_NE(one.at("b"), one.at("c"));
}

TEST(Fingerprint, AnotherConstantOrAttributeChangesWhatComesAfterAndNothingBefore) {
  const auto one = fingerprints(chain("", 1.0F, 1));
  for (const Graph& changed : {chain("", 1.5F, 1), chain("", 1.0F, 2)}) {
    const auto other = fingerprints(changed);
    EXPECT_EQ(one.at("x"), other.at("x"));
    EXPECT_NE(one.at("b"), other.at("b"));
    EXPECT_NE(one.at("c"), other.at("c"));
  }
}

TEST(Fingerprint, ConstantsOfTheSameBytesButAnotherTypeOrShapeDiffer) {
  Graph one = chain("", 0.0F, 1);
  one.initializers["w"] = Tensor(DType::kF32, {4});
  Graph shape = one;
  shape.initializers["w"] = Tensor(DType::kF32, {2, 2});
  Graph type = one;
  type.initializers["w"] = Tensor(DType::kS32, {4});
  EXPECT_NE(fingerprints(one).at("b"), fingerprints(shape).at("b"));
  EXPECT_NE(fingerprints(one).at("b"), fingerprints(type).at("b"));
}

TEST(Fingerprint, InputsAreToldApartByTheirPlace) {
  Graph graph = chain("", 1.0F, 1);
  graph.inputs.push_back({"y", DType::kF32, {-1, 4}});
  graph.nodes.push_back({"third", "B", "", {"y"}, {"d"}, {}});
  graph.nodes.push_back({"fourth", "B", "", {"x"}, {"e"}, {}});
  const auto prints = fingerprints(graph);
  EXPECT_NE(prints.at("d"), prints.at("e"));
}

}  // namespace
}  // namespace kerf::graph
