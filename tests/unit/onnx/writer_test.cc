#include "workers/onnx/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/onnx/model_builder.h"

namespace kerf {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;
using ::testing::HasSubstr;
using testing::ModelBuilder;
using testing::must_read;
using testing::TemporaryFolder;

::onnx::ModelProto proto_of(const Graph& graph) {
  const auto bytes = onnx::serialize_model(graph);
  if (!bytes.has_value()) throw std::runtime_error(bytes.error().message);
  ::onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(*bytes));
  return model;
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::equal(a.raw(), a.raw() + a.bytes(), b.raw());
}

void expect_equal(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.metadata, b.metadata);
  ASSERT_EQ(a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < a.nodes.size(); ++i) {
    EXPECT_EQ(a.nodes[i].name, b.nodes[i].name);
    EXPECT_EQ(a.nodes[i].op, b.nodes[i].op);
    EXPECT_EQ(a.nodes[i].outputs, b.nodes[i].outputs);
    EXPECT_EQ(a.nodes[i].attributes.size(), b.nodes[i].attributes.size()) << a.nodes[i].label();
    ASSERT_EQ(a.nodes[i].inputs.size(), b.nodes[i].inputs.size()) << a.nodes[i].label();
    for (std::size_t k = 0; k < a.nodes[i].inputs.size(); ++k) {
      const Tensor* left = a.constant(a.nodes[i].inputs[k]);
      const Tensor* right = b.constant(b.nodes[i].inputs[k]);
      ASSERT_EQ(left == nullptr, right == nullptr) << a.nodes[i].label();
      // Axes that were attributes in between get a name of their own.
      if (left == nullptr) {
        EXPECT_EQ(a.nodes[i].inputs[k], b.nodes[i].inputs[k]);
      } else {
        EXPECT_TRUE(equal(*left, *right)) << a.nodes[i].inputs[k];
      }
    }
  }
  ASSERT_EQ(a.outputs.size(), b.outputs.size());
  for (std::size_t i = 0; i < a.outputs.size(); ++i) {
    EXPECT_EQ(a.outputs[i].name, b.outputs[i].name);
    EXPECT_EQ(a.outputs[i].dtype, b.outputs[i].dtype);
    EXPECT_EQ(a.outputs[i].shape, b.outputs[i].shape);
  }
  EXPECT_EQ(a.initializers.size(), b.initializers.size());
}

ModelBuilder everything() {
  return ModelBuilder(13)
      .input("x", {-1, 3, 8, 8})
      .floats("w", {4, 3, 3, 3})
      .floats("b", {4})
      .floats("w2", {4, 5})
      .node("Conv", {"x", "w", "b"}, {"c"}, "conv")
      .set("pads", {1, 1, 1, 1})
      .set("auto_pad", "NOTSET")
      .node("LeakyRelu", {"c"}, {"r"}, "act")
      .set("alpha", 0.1F)
      .node("ReduceMean", {"r"}, {"m"}, "mean")
      .set("axes", {2, 3})
      .set("keepdims", 0)
      .node("MatMul", {"m", "w2"}, {"y"}, "fc")
      .output("y");
}

TEST(Writer, WhatIsWrittenReadsBackAsTheSameGraph) {
  Graph g = must_read(everything());
  g.metadata["kerf.plan"] = "{\"a\": 1}";
  const auto bytes = onnx::serialize_model(g);
  ASSERT_TRUE(bytes.has_value()) << bytes.error().message;
  const auto again = onnx::parse_model(*bytes, "again");
  ASSERT_TRUE(again.has_value()) << again.error().message;
  expect_equal(g, *again);
}

TEST(Writer, SaysOpset17AndWhoMadeIt) {
  const auto model = proto_of(must_read(everything()));
  EXPECT_EQ(model.ir_version(), 8);
  ASSERT_EQ(model.opset_import_size(), 1);
  EXPECT_EQ(model.opset_import(0).version(), 17);
  EXPECT_EQ(model.producer_name(), "kerf");
  const auto& input = model.graph().input(0).type().tensor_type();
  EXPECT_EQ(input.shape().dim(0).dim_param(), "N");
  EXPECT_EQ(input.shape().dim(1).dim_value(), 3);
  const auto& output = model.graph().output(0).type().tensor_type();
  EXPECT_EQ(output.shape().dim(0).dim_param(), "N");
  EXPECT_EQ(output.shape().dim(1).dim_value(), 5);
  for (const auto& tensor : model.graph().initializer())
    EXPECT_TRUE(tensor.has_raw_data()) << tensor.name();
}

TEST(Writer, ReductionAxesAreAttributesInOpset17) {
  const auto model = proto_of(must_read(everything()));
  const auto& mean = model.graph().node(2);
  EXPECT_EQ(mean.op_type(), "ReduceMean");
  EXPECT_EQ(mean.input_size(), 1);
  bool found = false;
  for (const auto& attribute : mean.attribute()) found = found || attribute.name() == "axes";
  EXPECT_TRUE(found);
}

TEST(Writer, OwnAttributesStayOut) {
  Graph g = must_read(everything());
  g.nodes[0].attributes["kerf_precision"] = std::string("bf16");
  g.nodes[0].attributes["kerf_bits"] = std::int64_t{4};
  const auto model = proto_of(g);
  for (const auto& attribute : model.graph().node(0).attribute()) {
    EXPECT_FALSE(attribute.name().starts_with("kerf_"));
  }
}

TEST(Writer, UnusedInitializersStayOut) {
  Graph g = must_read(everything());
  g.initializers["unused"] = Tensor::f32({1000}, std::vector<float>(1000));
  const auto model = proto_of(g);
  for (const auto& tensor : model.graph().initializer()) EXPECT_NE(tensor.name(), "unused");
}

Graph four_bit() {
  Graph g = must_read(ModelBuilder(21)
                          .input("x", {-1, 3})
                          .raw("w", 22, {3, 1}, std::string("\x7F\x08", 2))
                          .floats("s", {}, {0.5F})
                          .node("DequantizeLinear", {"w", "s"}, {"wf"}, "dq")
                          .node("Split", {"x"}, {"a", "b", "c"}, "cut")
                          .set("axis", 1)
                          .set("num_outputs", 3)
                          .node("Concat", {"a", "b", "c"}, {"j"}, "join")
                          .set("axis", 1)
                          .node("ReduceMax", {"j", ""}, {"m"}, "max")
                          .node("MatMul", {"j", "wf"}, {"y"}, "fc")
                          .output("y")
                          .output("m"));
  return g;
}

TEST(Writer, FourBitTensorsArePackedInOpset21) {
  const auto model = proto_of(four_bit());
  EXPECT_EQ(model.opset_import(0).version(), 21);
  EXPECT_EQ(model.ir_version(), 10);
  for (const auto& tensor : model.graph().initializer()) {
    if (tensor.name() == "w") {
      EXPECT_EQ(tensor.raw_data(), std::string("\x7F\x08", 2));
    }
  }
  for (const auto& node : model.graph().node()) {
    if (node.op_type() == "Split") {
      EXPECT_EQ(node.attribute_size(), 2) << "num_outputs is missing";
    }
  }
  const auto again = onnx::parse_model(*onnx::serialize_model(four_bit()), "again");
  ASSERT_TRUE(again.has_value()) << again.error().message;
  expect_equal(four_bit(), *again);
}

TEST(Writer, BlockedScalesNeedOpset21) {
  const Graph g = must_read(ModelBuilder(21)
                                .input("x", {-1, 4})
                                .raw("w", 3, {4, 2}, std::string(8, '\x01'))
                                .floats("s", {2, 2})
                                .node("DequantizeLinear", {"w", "s"}, {"wf"})
                                .set("axis", 0)
                                .set("block_size", 2)
                                .node("MatMul", {"x", "wf"}, {"y"})
                                .output("y"));
  EXPECT_EQ(proto_of(g).opset_import(0).version(), 21);
}

TEST(Writer, EightBitQuantizationStaysInOpset17) {
  const Graph g = must_read(ModelBuilder(13)
                                .input("x", {-1, 4})
                                .floats("s", {}, {0.1F})
                                .raw("z", 2, {}, std::string(1, '\0'))
                                .node("QuantizeLinear", {"x", "s", "z"}, {"q"})
                                .node("DequantizeLinear", {"q", "s", "z"}, {"y"})
                                .output("y"));
  EXPECT_EQ(proto_of(g).opset_import(0).version(), 17);
}

TEST(Writer, OpsThatOpset17LacksAreSpelledOut) {
  for (const char* op : {"Gelu", "Mish"}) {
    const Graph g =
        must_read(ModelBuilder(20).input("x", {-1, 4}).node(op, {"x"}, {"y"}, "act").output("y"));
    EXPECT_EQ(g.nodes[0].op, op);
    const auto model = proto_of(g);
    for (const auto& node : model.graph().node()) EXPECT_NE(node.op_type(), op);
    EXPECT_EQ(model.graph().node(model.graph().node_size() - 1).output(0), "y");
    EXPECT_TRUE(onnx::parse_model(model.SerializeAsString(), "again").has_value());
  }
  const Graph group = must_read(ModelBuilder(21)
                                    .input("x", {-1, 4, 2, 2})
                                    .floats("s", {4})
                                    .floats("b", {4})
                                    .node("GroupNormalization", {"x", "s", "b"}, {"y"})
                                    .set("num_groups", 2)
                                    .output("y"));
  const auto again = onnx::parse_model(*onnx::serialize_model(group), "again");
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->outputs[0].shape, (Shape{-1, 4, 2, 2}));
}

TEST(Writer, RmsNormalizationIsSpelledOutInBothOpsets) {
  for (const bool newer : {false, true}) {
    ModelBuilder builder(23);
    builder.input("x", {-1, 4, 3}).floats("s", {3});
    builder.node("RMSNormalization", {"x", "s"}, {newer ? "z" : "y"}, "rms");
    if (newer) {
      builder.integers("pads", {6}, {0, 0, 1, 0, 0, 1});
      builder.node("Pad", {"z", "pads"}, {"y"}).set("mode", "wrap");
    }
    const Graph g = must_read(builder.output("y"));
    const auto model = proto_of(g);
    EXPECT_EQ(model.opset_import(0).version(), newer ? 21 : 17);
    for (const auto& node : model.graph().node()) EXPECT_NE(node.op_type(), "RMSNormalization");
    const auto again = onnx::parse_model(model.SerializeAsString(), "again");
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->outputs[0].shape, newer ? (Shape{-1, 4, 5}) : (Shape{-1, 4, 3}));
  }
}

TEST(Writer, ModesAndAttributesThatCameAfterOpset17AskForANewerOne) {
  const auto version = [](const ModelBuilder& builder) {
    return proto_of(must_read(builder)).opset_import(0).version();
  };
  const auto resize = [](const char* attribute) {
    ModelBuilder builder(19);
    builder.input("x", {1, 1, 4, 4}).floats("f", {4}, {1, 1, 0.5F, 0.5F});
    builder.node("Resize", {"x", "", "f"}, {"y"}).set("mode", "linear");
    if (*attribute != '\0') builder.set(attribute, 1);
    return builder.output("y");
  };
  EXPECT_EQ(version(resize("")), 17);
  EXPECT_EQ(version(resize("antialias")), 21);
  EXPECT_EQ(version(ModelBuilder(20)
                        .input("x", {1, 1, 4, 4})
                        .node("AveragePool", {"x"}, {"y"})
                        .set("kernel_shape", {2, 2})
                        .set("dilations", {2, 2})
                        .output("y")),
            21);
  const auto model = proto_of(must_read(ModelBuilder(20)
                                            .input("x", {1, 1, 4, 4})
                                            .input("g", {1, 2, 2, 2})
                                            .node("GridSample", {"x", "g"}, {"y"})
                                            .set("mode", "cubic")
                                            .output("y")));
  EXPECT_EQ(model.opset_import(0).version(), 17);
  EXPECT_EQ(model.graph().node(0).attribute(0).s(), "bicubic");
}

TEST(Writer, FileIsWholeOrUntouched) {
  const TemporaryFolder folder;
  const std::string path = folder.write("m.onnx", "what was there before");
  Graph broken = must_read(everything());
  broken.nodes[0].inputs[0] = "ghost";
  const auto failed = onnx::write_model(broken, path);
  ASSERT_FALSE(failed.has_value());
  EXPECT_THAT(failed.error().message, HasSubstr("ghost"));
  EXPECT_EQ(std::filesystem::file_size(path), 21U);

  ASSERT_TRUE(onnx::write_model(must_read(everything()), path).has_value());
  EXPECT_TRUE(onnx::read_model(path).has_value());
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path))
    ++files;
  EXPECT_EQ(files, 1U) << "a temporary file was left behind";
}

TEST(Writer, FolderThatIsNotThereIsNamed) {
  const auto failed = onnx::write_model(must_read(everything()), "/nonexistent/folder/m.onnx");
  ASSERT_FALSE(failed.has_value());
  EXPECT_THAT(failed.error().message, HasSubstr("/nonexistent/folder/m.onnx"));
}

}  // namespace
}  // namespace kerf
