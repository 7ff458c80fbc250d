#include "workers/measure/channel_steps.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace kerf::measure {
namespace {

using graph::DType;
using graph::Graph;
using graph::Tensor;

Tensor normal_tensor(const graph::Shape& shape, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.1F);
  Tensor tensor(DType::kF32, shape);
  for (float& value : tensor.mutable_as<float>()) value = normal(random);
  return tensor;
}

/// Three convolutions of 32 channels, pooled, and a Gemm whose outputs stay.
compress::PreparedModel model() {
  using Ints = std::vector<std::int64_t>;
  Graph graph;
  graph.inputs = {{"x", DType::kF32, {-1, 3, 16, 16}}};
  graph.outputs = {{"out", DType::kF32, {-1, 5}}};
  std::string value = "x";
  std::int64_t channels = 3;
  for (const std::string name : {"c1", "c2", "c3"}) {
    graph.initializers[name + ".w"] = normal_tensor({32, channels, 3, 3}, graph.nodes.size() + 1);
    graph.initializers[name + ".b"] = normal_tensor({32}, graph.nodes.size() + 101);
    graph.nodes.push_back({name, "Conv", "", {value, name + ".w", name + ".b"}, {name + ".out"}, {{"pads", Ints{1, 1, 1, 1}}}});
    value = name + ".out";
    channels = 32;
  }
  graph.initializers["fc.w"] = normal_tensor({5, 32}, 77);
  graph.nodes.push_back({"pool", "GlobalAveragePool", "", {value}, {"p"}, {}});
  graph.nodes.push_back({"flat", "Flatten", "", {"p"}, {"f"}, {}});
  graph.nodes.push_back({"fc", "Gemm", "", {"f", "fc.w"}, {"out"}, {{"transB", std::int64_t{1}}}});
  auto prepared = compress::prepare(std::move(graph));
  if (!prepared.has_value()) throw std::runtime_error(prepared.error().message);
  return std::move(*prepared);
}

TEST(ChannelSteps, EachGroupIsTimedAtItsWholeAtMultiplesAndAtTheDefaultRatios) {
  const compress::PreparedModel prepared = model();
  ChannelScan scan;
  scan.seconds = 60;
  const auto costs = scan_channels(prepared, scan, nullptr, {});
  ASSERT_TRUE(costs.has_value()) << costs.error().message;
  ASSERT_EQ(costs->size(), 3U);
  for (const auto& [group, list] : *costs) {
    std::vector<std::int64_t> counts;
    for (const ChannelCost& cost : list) {
      counts.push_back(cost.channels);
      EXPECT_GT(cost.us, 0) << group << " at " << cost.channels;
    }
    EXPECT_EQ(counts, (std::vector<std::int64_t>{32, 28, 24, 20, 16, 12, 8})) << group;
  }
}

TEST(ChannelSteps, GroupsThatAreTooLargeToBeHeldAreLeftOut) {
  const compress::PreparedModel prepared = model();
  ChannelScan scan;
  scan.seconds = 60;
  scan.most_bytes = 170'000;  // at 7 counts that add up to 140 channels: c1 178 kB, c2 324 kB, c3 165 kB
  const auto costs = scan_channels(prepared, scan, nullptr, {});
  ASSERT_TRUE(costs.has_value()) << costs.error().message;
  ASSERT_EQ(costs->size(), 1U);
  EXPECT_TRUE(costs->contains("c3")) << "a convolution and the Gemm";
}

TEST(ChannelSteps, WithoutTimeNothingIsKnown) {
  const compress::PreparedModel prepared = model();
  ChannelScan scan;
  scan.seconds = -1;
  const auto costs = scan_channels(prepared, scan, nullptr, {});
  ASSERT_TRUE(costs.has_value());
  EXPECT_TRUE(costs->empty());
}

}  // namespace
}  // namespace kerf::measure
