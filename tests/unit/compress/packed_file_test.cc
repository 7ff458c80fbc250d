#include "workers/compress/packed/packed_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/compress/graph_builder.h"
#include "workers/compress/packed/crc32c.h"
#include "workers/compress/packed/wire.h"

namespace kerf::compress {
namespace {

using ::testing::HasSubstr;
using testing::Graph;
using testing::GraphBuilder;
using testing::Node;
using testing::Tensor;

/// Every kind of attribute, several types, tensors large and small, metadata.
Graph rich_graph() {
  GraphBuilder b(41);
  auto x = b.relu("r", b.conv("conv", b.input("x", {-1, 3, 5, 5}), 3, 8));
  b.gemm("fc", b.flatten("flat", x), 200, 3);
  Node& odd = b.node("odd", "Custom", {"fc", "", "small"});
  odd.domain = "ai.example";
  odd.attributes["i"] = std::int64_t{-5};
  odd.attributes["f"] = -0.25F;
  odd.attributes["s"] = std::string("two\nlines");
  odd.attributes["ints"] = std::vector<std::int64_t>{1, -1, 1LL << 62};
  odd.attributes["floats"] = std::vector<float>{1, -0.0F};
  odd.attributes["strings"] = std::vector<std::string>{"", "b"};
  odd.attributes["tensor"] = Tensor::s64({2}, {7, -9});
  odd.attributes["kerf_note"] = std::string("ours");
  const auto inner = std::make_shared<Graph>();
  inner->name = "inner";
  inner->initializers["c"] = Tensor::scalar(1);
  inner->outputs.push_back({"c", graph::DType::kF32, {}});
  odd.attributes["graph"] = std::shared_ptr<const Graph>(inner);
  b.constant("small", Tensor::of<std::int8_t>(graph::DType::kS4, {3}, {-8, 0, 7}));
  Graph graph = b.graph;
  graph.outputs.push_back({"odd", graph::DType::kF32, {-1, 3}});
  graph.name = "rich";
  graph.opset = 21;
  graph.metadata = {{"kerf.source", "sha256:" + std::string(62, '0') + "9f"}, {"author", "nobody"}};
  return graph;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

TEST(PackedFile, GivesTheWholeGraphBack) {
  const Graph graph = rich_graph();
  const auto bytes = pack(graph);
  ASSERT_TRUE(bytes.has_value()) << bytes.error().message;
  const auto back = unpack(*bytes);
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->name, "rich");
  EXPECT_EQ(back->opset, 21);
  EXPECT_EQ(back->metadata, graph.metadata);
  ASSERT_EQ(back->inputs.size(), 1U);
  EXPECT_EQ(back->inputs[0].shape, (graph::Shape{-1, 3, 5, 5}));
  EXPECT_EQ(back->outputs[0].name, "odd");
  ASSERT_EQ(back->initializers.size(), graph.initializers.size());
  for (const auto& [name, tensor] : graph.initializers) EXPECT_TRUE(same_bytes(tensor, back->initializers.at(name))) << name;
  ASSERT_EQ(back->nodes.size(), graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    EXPECT_EQ(back->nodes[i].name, graph.nodes[i].name);
    EXPECT_EQ(back->nodes[i].op, graph.nodes[i].op);
    EXPECT_EQ(back->nodes[i].domain, graph.nodes[i].domain);
    EXPECT_EQ(back->nodes[i].inputs, graph.nodes[i].inputs);
    EXPECT_EQ(back->nodes[i].outputs, graph.nodes[i].outputs);
  }
  const Node& odd = back->nodes.back();
  EXPECT_FALSE(odd.attributes.contains("kerf_note"));
  EXPECT_EQ(odd.attributes.size(), graph.nodes.back().attributes.size() - 1);
  EXPECT_EQ(odd.integer("i", 0), -5);
  EXPECT_EQ(odd.real("f", 0), -0.25F);
  EXPECT_EQ(odd.text("s", ""), "two\nlines");
  EXPECT_EQ(odd.integers("ints"), (std::vector<std::int64_t>{1, -1, 1LL << 62}));
  EXPECT_TRUE(same_bytes(std::get<Tensor>(odd.attributes.at("tensor")), Tensor::s64({2}, {7, -9})));
  const auto& inner = std::get<std::shared_ptr<const Graph>>(odd.attributes.at("graph"));
  EXPECT_TRUE(same_bytes(inner->initializers.at("c"), Tensor::scalar(1)));
}

TEST(PackedFile, SizeIsKnownWithoutWriting) {
  Graph graph = rich_graph();
  EXPECT_EQ(packed_size(graph), static_cast<std::int64_t>(pack(graph)->size()));
  const auto size = packed_size(graph);
  graph.metadata["kerf.source"] = "sha256:" + std::string(64, 'f');
  EXPECT_EQ(packed_size(graph), size);
  graph.metadata.erase("kerf.source");  // whether it is known yet or not
  EXPECT_EQ(packed_size(graph), size);
  EXPECT_EQ(packed_size(graph), static_cast<std::int64_t>(pack(graph)->size()));
}

TEST(PackedFile, EveryDamagedByteAndEveryCutIsRefused) {
  const std::string bytes = *pack(rich_graph());
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    const auto out = unpack(damaged);
    ASSERT_FALSE(out.has_value()) << at;
    EXPECT_EQ(out.error().message.find('\n'), std::string::npos);
  }
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    ASSERT_FALSE(unpack(bytes.substr(0, cut)).has_value()) << cut;
  }
  EXPECT_THAT(unpack(bytes + "x").error().message, HasSubstr("goes on for 1 bytes"));
  EXPECT_THAT(unpack("PK").error().message, HasSubstr("not a packed model"));
  EXPECT_THAT(unpack("").error().message, HasSubstr("not a packed model"));
}

/// Puts the checksums right again, so that what lies behind them is what is tried.
void renew_checksums(std::string& bytes) {
  std::string sum;
  packed::Writer(sum).u32(packed::crc32c(std::string_view(bytes).substr(0, 48)));
  bytes.replace(48, 4, sum);
  for (std::size_t at = 52; at < bytes.size();) {
    packed::Reader in(std::string_view(bytes).substr(at));
    in.u8();
    in.bytes(in.varint());
    if (!in.ok() || in.left() < 4) return;
    const std::size_t covered = bytes.size() - at - in.left();
    sum.clear();
    packed::Writer(sum).u32(packed::crc32c(std::string_view(bytes).substr(at, covered)));
    bytes.replace(at + covered, 4, sum);
    at += covered + 4;
  }
}

TEST(PackedFile, DamageBehindRightChecksumsDoesNoHarm) {
  const std::string bytes = *pack(rich_graph());
  for (std::size_t at = 8; at < bytes.size(); ++at) {
    for (const int flip : {1, 0x40, 0x80, 0xFF}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      renew_checksums(damaged);
      const auto out = unpack(damaged);
      if (out.has_value()) {
        EXPECT_TRUE(out->check().has_value()) << at;
      }
    }
  }
}

TEST(PackedFile, ALaterVersionIsNamed) {
  std::string bytes = *pack(rich_graph());
  bytes[8] = 2;
  renew_checksums(bytes);
  const auto out = unpack(bytes);
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(out.error().message, HasSubstr("version 2"));
}

TEST(PackedFile, AHashThatIsNoneIsRefused) {
  Graph graph = rich_graph();
  graph.metadata["kerf.source"] = "elsewhere";
  const auto out = pack(graph);
  ASSERT_FALSE(out.has_value());
  EXPECT_THAT(out.error().message, HasSubstr("kerf.source"));
}

}  // namespace
}  // namespace kerf::compress
