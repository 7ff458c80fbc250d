#include "workers/compress/second_moments.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/layer.h"
#include "workers/engine/reference/reference.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Numbers;
using testing::Tensor;

/// Rows times weights plus bias is what the layer computes, whatever its geometry.
void expect_rows_give_the_output(const Graph& graph, const Tensor& x) {
  const Node& node = *find_node(graph, "layer");
  const auto input = LayerInput::of(graph, node);
  ASSERT_TRUE(input.has_value());
  const auto y = engine::run_reference(graph, {x});
  ASSERT_TRUE(y.has_value()) << y.error().message;
  const auto expected = (*y)[0].to_floats();
  const std::vector<double> w = weight_matrix(node, *graph.constant(node.inputs[1]));
  const auto data = x.as<float>();
  const std::size_t items = data.size() / input->item_size();
  const std::size_t output_size = expected.size() / items;
  std::vector<float> row(input->depth());
  for (std::size_t i = 0; i < items; ++i) {
    for (std::size_t g = 0; g < input->groups(); ++g) {
      for (std::size_t p = 0; p < input->positions(); ++p) {
        input->read(data.data() + i * input->item_size(), g, p, row.data());
        for (std::size_t o = 0; o < input->outputs(); ++o) {
          const std::size_t channel = g * input->outputs() + o;
          double sum = 0;
          for (std::size_t k = 0; k < row.size(); ++k)
            sum += static_cast<double>(row[k]) * w[channel * row.size() + k];
          EXPECT_NEAR(expected[i * output_size + input->output_place(channel, p)], sum, 1e-4);
        }
      }
    }
  }
}

TEST(LayerInput, RowsTimesWeightsIsTheLayer) {
  for (const std::int64_t group : {1, 2, 4}) {
    for (const std::int64_t stride : {1, 2}) {
      GraphBuilder b(71);
      b.conv("layer", b.input("x", {-1, 4, 5, 6}), 4, 8, 3, group, stride);
      b.constant("layer.bias", Tensor(graph::DType::kF32, {8}));
      expect_rows_give_the_output(b.finish({"layer"}), Numbers(72).tensor({2, 4, 5, 6}));
    }
  }
  {
    GraphBuilder b(73);  // other strides, pads and dilations an axis
    Node& made = b.node("layer", "Conv", {b.input("x", {-1, 2, 9, 8}), "w"});
    made.attributes["kernel_shape"] = std::vector<std::int64_t>{3, 2};
    made.attributes["strides"] = std::vector<std::int64_t>{1, 3};
    made.attributes["dilations"] = std::vector<std::int64_t>{2, 1};
    made.attributes["pads"] = std::vector<std::int64_t>{1, 0, 2, 1};
    b.constant("w", b.numbers.tensor({3, 2, 3, 2}));
    expect_rows_give_the_output(b.finish({"layer"}), Numbers(74).tensor({2, 2, 9, 8}));
  }
  for (const std::string pad : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
    GraphBuilder b(75);
    Node& made = b.node("layer", "Conv", {b.input("x", {-1, 2, 7, 6}), "w"});
    made.attributes["auto_pad"] = pad;
    made.attributes["strides"] = std::vector<std::int64_t>{2, 2};
    b.constant("w", b.numbers.tensor({3, 2, 4, 3}));
    expect_rows_give_the_output(b.finish({"layer"}), Numbers(76).tensor({2, 2, 7, 6}));
  }
  {
    GraphBuilder b(77);
    b.node("layer", "Conv", {b.input("x", {-1, 3, 12}), b.constant("w", b.numbers.tensor({4, 3, 5}))});
    expect_rows_give_the_output(b.finish({"layer"}), Numbers(78).tensor({2, 3, 12}));
  }
  for (const bool transposed : {true, false}) {
    GraphBuilder b(79);
    b.gemm("layer", b.input("x", {-1, 7}), 7, 3, transposed);
    b.constant("layer.bias", Tensor(graph::DType::kF32, {3}));
    expect_rows_give_the_output(b.finish({"layer"}), Numbers(80).tensor({4, 7}));
  }
}

TEST(SecondMoments, AreTheMeansOverAllRowsOfEveryGroup) {
  GraphBuilder b(81);
  b.conv("layer", b.input("x", {-1, 4, 4, 4}), 4, 6, 3, 2);
  const Graph graph = b.finish({"layer"});
  const Tensor x = Numbers(82).tensor({3, 4, 4, 4});
  const auto y = engine::run_reference(graph, {x});
  ASSERT_TRUE(y.has_value());
  const auto input = LayerInput::of(graph, *find_node(graph, "layer"));
  MomentCollector collector(*input, 3, {0, 1, 2, 3, 4, 5}, 6);
  ASSERT_TRUE(collector.add(x.as<float>().first(64), (*y)[0].as<float>().first(96)));
  ASSERT_TRUE(collector.add(x.as<float>().subspan(64), (*y)[0].as<float>().subspan(96)));
  const SecondMoments moments = collector.finish();
  EXPECT_EQ(moments.rows, 48);
  ASSERT_EQ(moments.blocks.size(), 2U);
  std::vector<float> row(18);
  for (const MomentBlock& block : moments.blocks) {
    std::vector<double> gram(18 * 18, 0.0);
    std::vector<double> mean(18, 0.0);
    std::vector<double> cross(18 * 3, 0.0);
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t p = 0; p < 16; ++p) {
        input->read(x.as<float>().data() + i * 64, block.group, p, row.data());
        for (std::size_t a = 0; a < 18; ++a) {
          mean[a] += static_cast<double>(row[a]) / 48;
          for (std::size_t c = 0; c < 18; ++c)
            gram[a * 18 + c] += static_cast<double>(row[a]) * static_cast<double>(row[c]) / 48;
          for (std::size_t o = 0; o < 3; ++o) {
            const double out = (*y)[0].as<float>()[i * 96 + (block.group * 3 + o) * 16 + p];
            cross[a * 3 + o] += static_cast<double>(row[a]) * out / 48;
          }
        }
      }
    }
    for (std::size_t i = 0; i < gram.size(); ++i) EXPECT_NEAR(block.gram[i], gram[i], 1e-5);
    for (std::size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(block.mean[i], mean[i], 1e-5);
    for (std::size_t i = 0; i < cross.size(); ++i) EXPECT_NEAR(block.cross[i], cross[i], 1e-4);
  }
}

TEST(SecondMoments, WideRowsFallIntoBlocks) {
  GraphBuilder b(83);
  b.gemm("layer", b.input("x", {-1, 5000}), 5000, 2);
  const Graph graph = b.finish({"layer"});
  MomentCollector collector(*LayerInput::of(graph, *find_node(graph, "layer")), 2);
  ASSERT_TRUE(collector.add(Numbers(84).tensor({2, 5000}).as<float>()));
  const SecondMoments moments = collector.finish();
  ASSERT_EQ(moments.blocks.size(), 2U);
  EXPECT_EQ(moments.blocks[0].columns + moments.blocks[1].columns, 5000U);
  EXPECT_EQ(moments.blocks[1].begin, moments.blocks[0].columns);
}

TEST(SecondMoments, WhatIsNotFiniteIsRefused) {
  GraphBuilder b(85);
  b.gemm("layer", b.input("x", {-1, 3}), 3, 2);
  const Graph graph = b.finish({"layer"});
  MomentCollector collector(*LayerInput::of(graph, *find_node(graph, "layer")), 2);
  EXPECT_FALSE(collector.add(std::vector<float>{1, INFINITY, 2}));
  EXPECT_FALSE(collector.add(std::vector<float>{1, 2}));
  EXPECT_TRUE(collector.add(std::vector<float>{1, 2, 3}));
  EXPECT_EQ(collector.finish().rows, 1);
}

}  // namespace
}  // namespace kerf::compress
