#include "workers/measure/detour.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "workers/compress/compress.h"
#include "workers/measure/prefix.h"

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;

/// c1 – relu – (c2 – relu – c3) + – relu – c4 – relu – pool – fc; the sum goes round c2 and c3.
class DetourTest : public testing::Test {
 protected:
  DetourTest() {
    using Ints = std::vector<std::int64_t>;
    Graph graph;
    graph.inputs = {{"x", DType::kF32, {-1, 8, 6, 6}}};
    graph.outputs = {{"out", DType::kF32, {-1, 5}}};
    std::mt19937_64 random(11);
    std::normal_distribution<float> normal(0, 0.1F);
    const auto weights = [&](const graph::Shape& shape) {
      Tensor tensor(DType::kF32, shape);
      for (float& value : tensor.mutable_as<float>()) value = normal(random);
      return tensor;
    };
    const auto conv = [&](const std::string& name, const std::string& from) {
      graph.initializers[name + ".w"] = weights({8, 8, 3, 3});
      graph.initializers[name + ".b"] = weights({8});
      graph.nodes.push_back({name, "Conv", "", {from, name + ".w", name + ".b"}, {name + ".out"}, {{"pads", Ints{1, 1, 1, 1}}}});
    };
    const auto relu = [&](const std::string& name, const std::string& from) {
      graph.nodes.push_back({name + ".relu", "Relu", "", {from}, {name + ".r"}, {}});
    };
    conv("c1", "x");
    relu("c1", "c1.out");
    conv("c2", "c1.r");
    relu("c2", "c2.out");
    conv("c3", "c2.r");
    graph.nodes.push_back({"sum", "Add", "", {"c3.out", "c1.r"}, {"sum.out"}, {}});
    relu("sum", "sum.out");
    conv("c4", "sum.r");
    relu("c4", "c4.out");
    graph.initializers["fc.w"] = weights({5, 8});
    graph.nodes.push_back({"pool", "GlobalAveragePool", "", {"c4.r"}, {"p"}, {}});
    graph.nodes.push_back({"flat", "Flatten", "", {"p"}, {"f"}, {}});
    graph.nodes.push_back({"fc", "Gemm", "", {"f", "fc.w"}, {"out"}, {{"transB", std::int64_t{1}}}});
    auto prepared = compress::prepare(std::move(graph));
    if (!prepared.has_value()) throw std::runtime_error(prepared.error().message);
    model_.emplace(std::move(*prepared));
    Tensor inputs(DType::kF32, {16, 8, 6, 6});
    for (float& value : inputs.mutable_as<float>()) value = 10 * normal(random);
    calibration_.emplace(*model_, std::vector<Tensor>{inputs}, 1);
    for (const CutPoint& point : cut_points(model_->graph)) points_.push_back(point.value);
  }

  Graph compressed(const Json& layers) {
    const auto made = compress::compress(*model_, *CompressionPlan::parse({{"layers", layers}}), &*calibration_);
    EXPECT_TRUE(made.has_value());
    return made->graph;
  }

  /// Names of the points, "" for none.
  std::pair<std::string, std::string> detour(const Graph& graph) const {
    const Detour found = Detours(model_->graph, points_).of(graph);
    const auto name = [&](int point) {
      const bool is_one = point >= 0 && point < static_cast<int>(points_.size());
      return is_one ? points_[static_cast<std::size_t>(point)] : std::string();
    };
    return {name(found.leaves), name(found.returns)};
  }

  using Names = std::pair<std::string, std::string>;
  std::optional<compress::PreparedModel> model_;
  std::optional<compress::Calibration> calibration_;
  std::vector<std::string> points_;
};

const Json kEight = {{"weight_bits", 8}, {"activation_bits", 8}};
const Json kBf16 = {{"weight_bits", 16}};

TEST_F(DetourTest, GoesRoundTheLayerThatChanged) {
  EXPECT_EQ(detour(compressed({{"c4", kEight}})), (Names{"sum.r", "c4.r"}));
  EXPECT_EQ(detour(compressed({{"fc", kEight}})).second, "");
  EXPECT_EQ(detour(compressed({{"c1", kEight}})), (Names{"", "c1.r"}));
}

TEST_F(DetourTest, BesideACompressedModelItGoesRoundTheLayerToo) {
  const Json four = {{"weight_bits", 4}, {"activation_bits", 8}};
  const Graph eight = compressed({{"*", kEight}});
  std::vector<std::string> points;
  for (const CutPoint& point : cut_points(eight)) points.push_back(point.value);
  const Detours detours(eight, points);
  const auto value = [&](int point) { return points[static_cast<std::size_t>(point)]; };
  const Detour last = detours.of(compressed({{"*", kEight}, {"c4", four}}));
  ASSERT_GE(last.leaves, 0);
  ASSERT_LT(last.returns, static_cast<int>(points.size()));
  EXPECT_EQ(value(last.leaves), "sum.r.quantized");
  EXPECT_EQ(value(last.returns), "p") << "c4 gives the pooling bf16";
  const Detour block = detours.of(compressed({{"*", kEight}, {"c2", four}}));
  ASSERT_GE(block.leaves, 0);
  EXPECT_EQ(value(block.leaves), "c1.r.quantized");
  EXPECT_EQ(value(block.returns), "sum.r.quantized");
  EXPECT_EQ(detours.of(compressed({{"*", kEight}})).leaves, static_cast<int>(points.size()) - 1);
}

TEST_F(DetourTest, InsideABlockItGoesRoundTheBlock) {
  EXPECT_EQ(detour(compressed({{"c2", kEight}})), (Names{"c1.r", "sum.r"}));
  EXPECT_EQ(detour(compressed({{"c3", {{"weight_bits", 4}}}})), (Names{"c1.r", "sum.r"}));
}

TEST_F(DetourTest, OfTwoLayersItGoesFromTheFirstToTheSecond) {
  EXPECT_EQ(detour(compressed({{"c2", kEight}, {"c4", kEight}})), (Names{"c1.r", "c4.r"}));
  EXPECT_EQ(detour(compressed({{"c1", kEight}, {"c3", kEight}})), (Names{"", "sum.r"}));
}

TEST_F(DetourTest, OtherShapesOnTheWayDontMatter) {
  EXPECT_EQ(detour(compressed({{"c2", {{"prune", {{"structure", "channel"}, {"ratio", 0.5}}}}}})), (Names{"c1.r", "sum.r"}));
}

TEST_F(DetourTest, APoolingBehindABf16LayerBelongsToIt) {
  EXPECT_EQ(detour(compressed({{"c2", kBf16}})), (Names{"c1.r", "sum.r"}));
  const Names last = detour(compressed({{"c4", kBf16}}));
  EXPECT_EQ(last.first, "sum.r");
  EXPECT_NE(last.second, "c4.r");
}

TEST_F(DetourTest, WithoutAChangeItNeverLeaves) {
  const Detour found = Detours(model_->graph, points_).of(model_->graph);
  EXPECT_EQ(found.leaves, static_cast<int>(points_.size()) - 1);
  EXPECT_EQ(found.returns, found.leaves);
}

TEST_F(DetourTest, AWayRoundAPointTakesItAway) {
  Graph round = model_->graph;
  // c4 reads the sum; adding what came before it lets "sum.r" be bypassed.
  const auto at = std::find_if(round.nodes.begin(), round.nodes.end(), [](const auto& node) { return node.name == "pool"; });
  ASSERT_NE(at, round.nodes.end());
  at->inputs[0] = "more";
  round.nodes.insert(at, {"more", "Add", "", {"c4.r", "c1.r"}, {"more"}, {}});
  EXPECT_EQ(detour(round).first, "c1.r");
}

TEST_F(DetourTest, ConstantsAreComparedByTheirBytes) {
  Graph same = model_->graph;
  Tensor copy = same.initializers.at("c2.w");
  float& value = copy.mutable_as<float>()[0];
  same.initializers["c2.w"] = copy;
  EXPECT_EQ(detour(same).first, points_.back());
  value += 1.0F;
  same.initializers["c2.w"] = copy;
  EXPECT_EQ(detour(same), (Names{"c1.r", "sum.r"}));
}

TEST_F(DetourTest, AnotherModelIsBackNowhere) {
  Graph other = model_->graph;
  other.inputs[0].name = "y";
  for (auto& node : other.nodes) std::replace(node.inputs.begin(), node.inputs.end(), std::string("x"), std::string("y"));
  const Detour found = Detours(model_->graph, points_).of(other);
  EXPECT_EQ(found.leaves, -1);
  EXPECT_EQ(found.returns, static_cast<int>(points_.size()));
}

}  // namespace
}  // namespace kerf::measure
