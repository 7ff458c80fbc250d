#include "workers/measure/staged_run.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>

#include "workers/compress/compress.h"
#include "workers/measure/prefix.h"

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;

constexpr std::int64_t kSamples = 70;
constexpr std::size_t kShardSamples = 32;

Tensor normal_tensor(const graph::Shape& shape, std::uint64_t seed, float scale) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Tensor tensor(DType::kF32, shape);
  for (float& value : tensor.mutable_as<float>()) value = normal(random);
  return tensor;
}

/// Two residual blocks, pooled, and a Gemm.
Graph residual_network() {
  using Ints = std::vector<std::int64_t>;
  Graph graph;
  graph.inputs = {{"x", DType::kF32, {-1, 3, 12, 12}}};
  graph.outputs = {{"out", DType::kF32, {-1, 5}}};
  const auto conv = [&](const std::string& name, const std::string& from, std::int64_t in) {
    graph.initializers[name + ".w"] = normal_tensor({8, in, 3, 3}, graph.nodes.size() + 1, 0.15F);
    graph.initializers[name + ".b"] = normal_tensor({8}, graph.nodes.size() + 101, 0.1F);
    graph.nodes.push_back({name, "Conv", "", {from, name + ".w", name + ".b"}, {name + ".out"}, {{"pads", Ints{1, 1, 1, 1}}}});
    return name + ".out";
  };
  const auto relu = [&](const std::string& from) {
    graph.nodes.push_back({from + ".relu", "Relu", "", {from}, {from + ".r"}, {}});
    return from + ".r";
  };
  std::string value = relu(conv("stem", "x", 3));
  for (const std::string block : {"a", "b"}) {
    const std::string inner = conv(block + "2", relu(conv(block + "1", value, 8)), 8);
    graph.nodes.push_back({block + ".add", "Add", "", {inner, value}, {block + ".sum"}, {}});
    value = relu(block + ".sum");
  }
  graph.initializers["fc.w"] = normal_tensor({5, 8}, 77, 0.3F);
  graph.initializers["fc.b"] = normal_tensor({5}, 78, 0.3F);
  graph.nodes.push_back({"pool", "GlobalAveragePool", "", {value}, {"p"}, {}});
  graph.nodes.push_back({"flat", "Flatten", "", {"p"}, {"f"}, {}});
  graph.nodes.push_back({"fc", "Gemm", "", {"f", "fc.w", "fc.b"}, {"out"}, {{"transB", std::int64_t{1}}}});
  return graph;
}

class StagedRunTest : public testing::Test {
 protected:
  StagedRunTest() : inputs_{normal_tensor({kSamples, 3, 12, 12}, 5, 1.0F)} {
    auto prepared = compress::prepare(residual_network());
    if (!prepared.has_value()) throw std::runtime_error(prepared.error().message);
    model_.emplace(std::move(*prepared));
    calibration_.emplace(*model_, inputs_, 1);
    order_.resize(kSamples);
    std::iota(order_.rbegin(), order_.rend(), 0);
  }

  /// All layers as `others` says, but the named one.
  Graph candidate(const std::string& others, const std::string& layer, const std::string& own) {
    const Json plan{{"layers", {{"*", Json::parse(others)}, {layer, Json::parse(own)}}}};
    auto made = compress::compress(*model_, *CompressionPlan::parse(plan), &*calibration_);
    EXPECT_TRUE(made.has_value()) << (made.has_value() ? "" : made.error().message);
    return made.has_value() ? made->graph : Graph{};
  }

  struct Evaluated {
    std::vector<Tensor> shards;
    double reused = 0;
  };
  Evaluated evaluate(const Graph& graph, PrefixCache& cache, std::int64_t batch = 8) {
    Evaluated out;
    auto run = StagedRun::make(graph, inputs_, {.batch = batch}, order_, kShardSamples, cache);
    EXPECT_TRUE(run.has_value()) << (run.has_value() ? "" : run.error().message);
    if (!run.has_value()) return out;
    out.reused = run->share_reused();
    const std::span<const std::int64_t> all(order_);
    for (std::size_t begin = 0; begin < all.size(); begin += kShardSamples) {
      auto rows = run->rows(begin / kShardSamples, all.subspan(begin, std::min(kShardSamples, all.size() - begin)),
                            [] { return Result<void>(); });
      EXPECT_TRUE(rows.has_value());
      if (rows.has_value()) out.shards.push_back(std::move(*rows));
    }
    return out;
  }

  static void expect_same_bits(const Evaluated& a, const Evaluated& b) {
    ASSERT_EQ(a.shards.size(), b.shards.size());
    for (std::size_t i = 0; i < a.shards.size(); ++i) {
      ASSERT_EQ(a.shards[i].shape(), b.shards[i].shape());
      EXPECT_EQ(std::memcmp(a.shards[i].raw(), b.shards[i].raw(), a.shards[i].bytes()), 0) << "shard " << i;
    }
  }

  std::vector<Tensor> inputs_;
  std::optional<compress::PreparedModel> model_;
  std::optional<compress::Calibration> calibration_;
  std::vector<std::int64_t> order_;
};

constexpr const char* kF32 = R"({"weight_bits": 32})";
constexpr const char* kInteger = R"({"weight_bits": 8, "activation_bits": 8})";
constexpr const char* kBf16 = R"({"weight_bits": 16, "activation_bits": 16})";
constexpr const char* kFour = R"({"weight_bits": 4, "activation_bits": 8})";
constexpr const char* kThree = R"({"weight_bits": 3, "activation_bits": 8})";

TEST_F(StagedRunTest, AGraphIsCutBetweenItsBlocksAndNotInside) {
  const auto points = cut_points(model_->graph);
  std::vector<std::string> values;
  for (const CutPoint& point : points) values.push_back(point.value);
  EXPECT_EQ(values, (std::vector<std::string>{"stem.out.r", "a.sum.r", "b.sum.r", "p", "f"}));
  for (std::size_t i = 1; i < points.size(); ++i) EXPECT_GE(points[i].share, points[i - 1].share);
  EXPECT_NEAR(points[1].share, (216.0 + 2 * 576) / (216.0 + 4 * 576), 1e-3);  // multiply-adds a pixel
}

TEST_F(StagedRunTest, ACandidateThatSharesABeginningStartsFromItAndGivesTheSameBits) {
  for (const char* others : {kF32, kInteger}) {
    PrefixCache cache;
    double reused = 0;
    for (const char* last : {kInteger, kFour, kThree, kF32}) {
      const Graph graph = candidate(others, "b2", last);
      PrefixCache empty;
      const Evaluated alone = evaluate(graph, empty);
      EXPECT_EQ(alone.reused, 0);
      const Evaluated after_others = evaluate(graph, cache);
      expect_same_bits(after_others, alone);
      reused = std::max(reused, after_others.reused);
    }
    EXPECT_GT(reused, 0.5) << others;
  }
}

TEST_F(StagedRunTest, NothingIsReusedWhereTheBeginningDiffers) {
  PrefixCache cache;
  for (const char* first : {kInteger, kFour, kThree, kF32, kInteger}) {
    const Graph graph = candidate(kF32, "stem", first);
    PrefixCache empty;
    const Evaluated alone = evaluate(graph, empty);
    const Evaluated after_others = evaluate(graph, cache);
    expect_same_bits(after_others, alone);
    EXPECT_EQ(after_others.reused, 0);
  }
}

TEST_F(StagedRunTest, Bf16LayersAndAnotherBatchGiveTheSameBitsToo) {
  PrefixCache cache;
  for (const std::int64_t batch : {8, 8, 16, 16, 8}) {
    for (const char* last : {kBf16, kInteger, kF32}) {
      const Graph graph = candidate(kBf16, "b2", last);
      PrefixCache empty;
      expect_same_bits(evaluate(graph, cache, batch), evaluate(graph, empty, batch));
    }
  }
}

TEST_F(StagedRunTest, AnotherEvaluationSetForgetsTheActivations) {
  PrefixCache cache;
  for (const char* last : {kInteger, kFour, kThree}) evaluate(candidate(kF32, "b2", last), cache);
  cache.clear();
  EXPECT_EQ(evaluate(candidate(kF32, "b2", kInteger), cache).reused, 0);
}

}  // namespace
}  // namespace kerf::measure
