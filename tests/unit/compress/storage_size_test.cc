#include "workers/compress/storage_size.h"

#include <gtest/gtest.h>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/bf16.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/prune_unstructured.h"

namespace kerf::compress {
namespace {

using testing::Graph;
using testing::GraphBuilder;
using testing::Tensor;

/// One Gemm [40, 100] with bias.
Graph one_layer() {
  GraphBuilder b;
  b.gemm("fc", b.input("x", {1, 100}), 100, 40);
  return b.finish({"fc"});
}

/// The size of everything but the weights' payload, counted by hand from the formula.
std::int64_t structure() {
  const std::int64_t ports = (4 + 1 + 16) + (4 + 2 + 16);
  const std::int64_t node = 8 + 4 * 4 + 2 + (2 + 8);  // 3 inputs, 1 output, "fc", transB
  const std::int64_t bias = 8 + 4 + 160;
  return 64 + ports + node + bias + (8 + 8);  // and the header of the weights
}

TEST(StorageSize, OfAnF32ModelIsItsWeightsAndItsStructure) {
  EXPECT_EQ(storage_size(one_layer()), structure() + 16000);
}

TEST(StorageSize, HalvesWithBf16AndShrinksWithBits) {
  Graph graph = one_layer();
  ASSERT_TRUE(make_bf16(graph, "fc"));
  EXPECT_EQ(storage_size(graph), structure() + 8000);

  const Graph plain = one_layer();
  for (const int bits : {8, 4, 3, 2}) {
    const auto weights = quantize_weights(*plain.constant("fc.weight"), 0, {bits, true, "mse"});
    const auto quantized = insert_qdq(plain, {{"fc", {*weights, bits, false}}}, {});
    ASSERT_TRUE(quantized.has_value());
    const std::int64_t scales = 8 + 4 + 160;
    const std::int64_t node = 8 + 4 * 4 + (2 + 8);  // DequantizeLinear with its axis
    std::int64_t zeros = 0;
    for (const std::int64_t v : weights->values.to_integers()) zeros += v == 0 ? 1 : 0;
    const std::int64_t dense = (4000 * bits + 7) / 8;
    const std::int64_t sparse = 500 + ((4000 - zeros) * bits + 7) / 8;
    EXPECT_EQ(storage_size(*quantized), structure() + scales + node + std::min(dense, sparse))
        << bits;
  }
}

TEST(StorageSize, SparseWeightsAreABitmaskAndTheRest) {
  Graph graph = one_layer();
  graph.initializers["fc.weight"] = prune_by_magnitude(*graph.constant("fc.weight"), 0.9);
  EXPECT_EQ(storage_size(graph), structure() + 500 + 1600);
}

TEST(StorageSize, IsTheSameEveryTimeAndIgnoresOurAttributes) {
  Graph graph = one_layer();
  const auto size = storage_size(graph);
  graph.nodes[0].attributes["kerf_note"] = std::string("nothing of this is stored");
  EXPECT_EQ(storage_size(graph), size);
}

}  // namespace
}  // namespace kerf::compress
