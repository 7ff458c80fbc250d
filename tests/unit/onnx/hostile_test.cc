// Files that lie, are damaged, or ask for too much: each gets one line that says what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <functional>
#include <limits>
#include <random>

#include "core/sanitized.h"
#include "tests/unit/onnx/model_builder.h"

namespace kerf {
namespace {

using ::testing::HasSubstr;
using testing::ModelBuilder;
using testing::TemporaryFolder;

/// A varint as protobuf writes it.
std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7U) out += static_cast<char>((value & 0x7FU) | 0x80U);
  return out + static_cast<char>(value);
}
/// A length-delimited field.
std::string field(std::uint64_t number, const std::string& body) {
  return varint(number << 3U | 2U) + varint(body.size()) + body;
}
std::string repeat(const std::string& text, std::size_t times) {
  std::string out;
  out.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}
/// A model of opset 13 around the bytes of a GraphProto.
std::string model_around(const std::string& graph) {
  return field(8, std::string("\x10\x0D")) + field(7, graph);
}

/// x [1, 4] -> Relu -> y, to be spoilt.
ModelBuilder good() {
  return ModelBuilder(13)
      .input("x", {1, 4})
      .floats("w", {4})
      .node("Mul", {"x", "w"}, {"m"}, "mul")
      .node("Relu", {"m"}, {"y"}, "relu")
      .output("y");
}
std::string spoilt(const std::function<void(::onnx::GraphProto&)>& change) {
  ModelBuilder builder = good();
  change(*builder.model.mutable_graph());
  return builder.bytes();
}
std::string spoilt_tensor(const std::function<void(::onnx::TensorProto&)>& change) {
  return spoilt([&](::onnx::GraphProto& g) { change(*g.mutable_initializer(0)); });
}
std::string spoilt_model(const std::function<void(::onnx::ModelProto&)>& change) {
  ModelBuilder builder = good();
  change(builder.model);
  return builder.bytes();
}
ModelBuilder one(const std::string& op, const std::vector<std::int64_t>& shape) {
  return ModelBuilder(13).input("x", shape).node(op, {"x"}, {"y"}, "n").output("y");
}

struct Case {
  std::string name;
  std::string bytes;
  std::string expected;

  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

std::vector<Case> damaged() {
  std::mt19937 random(7);
  std::string noise(4096, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  return {
      {"Empty", "", ""},
      {"OneByte", "\x0a", "cut off"},
      {"RandomBytes", noise, "not a readable ONNX file"},
      {"Text", "this is no model at all, but a text of some length", "not a readable ONNX file"},
      {"Png", std::string("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16), "not a readable ONNX file"},
      {"Zeros", std::string(64, '\0'), "impossible field number"},
      {"LengthPastTheEnd", varint(7U << 3U | 2U) + varint(1ULL << 40U) + "x", "truncated?"},
      {"EndlessVarint", std::string(64, '\xff'), "cut off"},
      {"GroupWireType", std::string("\x3b\x3c"), "wire type 3"},
      {"NoGraph", spoilt_model([](auto& m) { m.clear_graph(); }), "holds no graph"},
      {"NameNotUtf8", spoilt([](auto& g) { g.mutable_node(0)->set_name("a\xff\xfe"); }),
       "isn't UTF-8"},
      {"WrongTypeOfField", field(7, field(1, field(4, "Relu")) + varint(1U << 3U) + varint(5)), ""},
  };
}

std::vector<Case> models() {
  return {
      {"NoOpset", spoilt_model([](auto& m) { m.clear_opset_import(); }), "imports no opset"},
      {"OldOpset", spoilt_model([](auto& m) { m.mutable_opset_import(0)->set_version(6); }),
       "opset 6 is not supported"},
      {"NewOpset", spoilt_model([](auto& m) { m.mutable_opset_import(0)->set_version(999); }),
       "opset 999 is not supported"},
      {"NegativeOpset", spoilt_model([](auto& m) { m.mutable_opset_import(0)->set_version(-1); }),
       "opset -1"},
      {"OpsetTwice", spoilt_model([](auto& m) { m.add_opset_import()->set_version(12); }),
       "imported twice"},
      {"LocalFunctionTwice", spoilt_model([](auto& m) {
         m.add_functions()->set_name("f");
         m.add_functions()->set_name("f");
       }),
       "local function 'f' stands twice"},
      {"TrainingInfo", spoilt_model([](auto& m) { m.add_training_info(); }), "training"},
      {"UnknownOp", spoilt([](auto& g) { g.mutable_node(1)->set_op_type("Wibble"); }),
       "node Wibble 'relu': op Wibble is not supported (opset 13)"},
      {"UnknownDomain", spoilt([](auto& g) { g.mutable_node(1)->set_domain("evil.corp"); }),
       "op evil.corp.Relu is not supported"},
      {"NoOp", spoilt([](auto& g) { g.mutable_node(1)->clear_op_type(); }), "has no op"},
      {"SparseInitializer",
       spoilt([](auto& g) { g.add_sparse_initializer()->mutable_values()->set_name("s"); }),
       "sparse initializer 's'"},
      {"NoOutputs", spoilt([](auto& g) { g.clear_output(); }), "no outputs"},
      {"OutputTwice", spoilt([](auto& g) { *g.add_output() = g.output(0); }), "stands twice"},
      {"OutputWithoutProducer", spoilt([](auto& g) { g.mutable_output(0)->set_name("ghost"); }),
       "graph output 'ghost' has no producer"},
      {"MissingProducer", spoilt([](auto& g) { g.mutable_node(1)->set_input(0, "ghost"); }),
       "reads 'ghost', which nothing before it produces"},
      {"NodeNameTwice", spoilt([](auto& g) { g.mutable_node(1)->set_name("mul"); }),
       "two nodes are called 'mul'"},
      {"ValueTwice", spoilt([](auto& g) {
         g.mutable_node(1)->set_output(0, "m");
         g.mutable_node(1)->set_input(0, "x");
         g.mutable_output(0)->set_name("m");
       }),
       "has a producer already"},
      {"InputTwice", spoilt([](auto& g) { *g.add_input() = g.input(0); }), "stands twice"},
      {"InitializerTwice", spoilt([](auto& g) { *g.add_initializer() = g.initializer(0); }),
       "initializer 'w': stands twice"},
      {"InitializerIsAlsoAnOutput", spoilt([](auto& g) {
         g.mutable_node(0)->set_output(0, "w");
         g.mutable_node(0)->set_input(1, "x");
         g.mutable_node(1)->set_input(0, "w");
       }),
       "produces 'w', which has a producer already"},
      {"Cycle", spoilt([](auto& g) { g.mutable_node(0)->set_input(1, "y"); }),
       "is part of a cycle"},
      {"NodeReadsItself", spoilt([](auto& g) { g.mutable_node(0)->set_input(1, "m"); }),
       "is part of a cycle"},
      {"AttributeTwice", spoilt([](auto& g) {
         for (int i = 0; i < 2; ++i) {
           auto* a = g.mutable_node(1)->add_attribute();
           a->set_name("k");
           a->set_type(::onnx::AttributeProto::INT);
         }
       }),
       "attribute 'k': stands twice"},
      {"InputWithoutType", spoilt([](auto& g) { g.mutable_input(0)->clear_type(); }),
       "graph input 'x': has no type"},
      {"InputWithoutShape", spoilt([](auto& g) {
         g.mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape();
       }),
       "graph input 'x': has no shape"},
      {"InputWithoutName", spoilt([](auto& g) { g.mutable_input(0)->set_name(""); }),
       "has no name"},
      {"SequenceInput",
       spoilt([](auto& g) { g.mutable_input(0)->mutable_type()->mutable_sequence_type(); }),
       "only tensors are supported"},
      {"StringInput", spoilt([](auto& g) {
         g.mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(8);
       }),
       "element type 8"},
      {"NegativeInputDimension", spoilt([](auto& g) {
         g.mutable_input(0)
             ->mutable_type()
             ->mutable_tensor_type()
             ->mutable_shape()
             ->mutable_dim(0)
             ->set_dim_value(-5);
       }),
       "dimension -5"},
      {"HugeInput", one("Relu", {1LL << 30, 1LL << 30}).bytes(), "2^40 elements"},
      {"RankOf17", one("Relu", std::vector<std::int64_t>(17, 1)).bytes(), "rank 17"},
      {"If", spoilt([](auto& g) {
         auto* n = g.mutable_node(1);
         n->set_op_type("If");
         auto* a = n->add_attribute();
         a->set_name("then_branch");
         a->set_type(::onnx::AttributeProto::GRAPH);
         a->mutable_g()->set_name("sub");
       }),
       "If 'relu': its condition"},
      {"NewlineInName", spoilt([](auto& g) {
         g.mutable_node(1)->set_name("a\nb<script>'; DROP TABLE");
         g.mutable_node(1)->set_op_type("Nope");
       }),
       "a\\x0ab<script>"},
  };
}

std::vector<Case> tensors() {
  const auto dims = [](std::vector<std::int64_t> values) {
    return spoilt_tensor([&](auto& t) {
      t.clear_dims();
      for (const auto d : values) t.add_dims(d);
    });
  };
  return {
      {"NegativeDimension", dims({-4}), "initializer 'w': has the negative dimension -4"},
      {"OverflowingDimensions", dims({1LL << 62, 1LL << 62, 4}), "overflows"},
      {"HugeDimensions", dims({1LL << 39}), "values, but 4 are there"},
      {"DimensionsPastTheLimit", dims({1LL << 41}), "overflows"},
      {"TooFewValues", dims({5}), "needs 5 values, but 4 are there"},
      {"TooManyValues", dims({3}), "needs 3 values, but 4 are there"},
      {"ZeroTimesHuge", dims({0, 1LL << 62, 1LL << 62}), "overflows"},
      {"RankOf17Tensor", dims(std::vector<std::int64_t>(17, 1)), "more than 16 dimensions"},
      {"RawTooShort", spoilt_tensor([](auto& t) {
         t.clear_float_data();
         t.set_raw_data("abc");
       }),
       "needs 16 bytes, but 3 are there"},
      {"RawTooLong", spoilt_tensor([](auto& t) {
         t.clear_float_data();
         t.set_raw_data(std::string(17, 'a'));
       }),
       "needs 16 bytes, but 17 are there"},
      {"NoData", spoilt_tensor([](auto& t) { t.clear_float_data(); }), "but 0 are there"},
      {"StringTensor", spoilt_tensor([](auto& t) { t.set_data_type(8); }),
       "element type 8 (string)"},
      {"UnknownType", spoilt_tensor([](auto& t) { t.set_data_type(77); }), "element type 77"},
      {"UndefinedType", spoilt_tensor([](auto& t) { t.set_data_type(0); }), "element type 0"},
      {"Complex", spoilt_tensor([](auto& t) { t.set_data_type(14); }), "element type 14"},
      {"Segmented", spoilt_tensor([](auto& t) { t.mutable_segment()->set_begin(0); }), "segmented"},
      {"NoName", spoilt_tensor([](auto& t) { t.clear_name(); }), "has no name"},
      {"NaN",
       spoilt_tensor([](auto& t) { t.set_float_data(2, std::numeric_limits<float>::quiet_NaN()); }),
       "initializer 'w': element 2 is NaN"},
      {"Infinite",
       spoilt_tensor([](auto& t) { t.set_float_data(1, std::numeric_limits<float>::infinity()); }),
       "initializer 'w': element 1 is infinite"},
      {"HalfNaN", spoilt_tensor([](auto& t) {
         t.clear_float_data();
         t.set_data_type(10);
         t.set_raw_data(std::string("\x00\x7e\0\0\0\0\0\0", 8));
       }),
       "element 0 is NaN"},
      {"ByteOutOfRange", spoilt_tensor([](auto& t) {
         t.clear_float_data();
         t.set_data_type(3);
         for (int i = 0; i < 4; ++i) t.add_int32_data(300);
       }),
       "value 300 doesn't fit s8"},
      {"ExternalWithoutFolder", spoilt_tensor([](auto& t) {
         t.clear_float_data();
         t.set_data_location(::onnx::TensorProto::EXTERNAL);
         auto* e = t.add_external_data();
         e->set_key("location");
         e->set_value("w.bin");
       }),
       "external data is not allowed here"},
  };
}

std::vector<Case> nodes() {
  const auto conv = [](std::vector<std::int64_t> w) {
    return ModelBuilder(13)
        .input("x", {1, 3, 8, 8})
        .floats("w", w)
        .node("Conv", {"x", "w"}, {"y"}, "c")
        .output("y");
  };
  const auto reshape = [](std::vector<std::int64_t> target) {
    return ModelBuilder(13)
        .input("x", {1, 8})
        .integers("t", {static_cast<std::int64_t>(target.size())}, target)
        .node("Reshape", {"x", "t"}, {"y"}, "r")
        .output("y")
        .bytes();
  };
  return {
      {"ConvChannels", conv({4, 2, 3, 3}).bytes(), "node Conv 'c': input has 3 channels"},
      {"ConvRank", conv({4, 3, 3}).bytes(),
       "weights have rank 3, expected the input's 4 (inputs x [1, 3, 8, 8], w [4, 3, 3])"},
      {"ConvZeroStride", conv({4, 3, 3, 3}).set("strides", {0, 1}).bytes(), "must be positive"},
      {"ConvHugeDilation",
       conv({4, 3, 3, 3}).set("dilations", {std::numeric_limits<std::int64_t>::max(), 1}).bytes(),
       "must be positive"},
      {"ConvNegativePad", conv({4, 3, 3, 3}).set("pads", {-9, 0, 0, 0}).bytes(),
       "pads must not be negative"},
      {"ConvWindowTooLarge", conv({4, 3, 30, 3}).bytes(), "doesn't fit into 8"},
      {"ConvGroup", conv({4, 3, 3, 3}).set("group", 0).bytes(), "group must be positive"},
      {"ConvHugeGroup",
       conv({4, 3, 3, 3}).set("group", std::numeric_limits<std::int64_t>::max()).bytes(),
       "group is too large"},
      {"ConvWithoutWeights",
       ModelBuilder(13)
           .input("x", {1, 3, 8, 8})
           .node("Conv", {"x"}, {"y"}, "c")
           .output("y")
           .bytes(),
       "has 1 inputs, expected 2 to 3"},
      {"ConvEmptyWeights",
       ModelBuilder(13)
           .input("x", {1, 3, 8, 8})
           .node("Conv", {"x", ""}, {"y"}, "c")
           .output("y")
           .bytes(),
       "expected 2 to 3"},
      {"AddDoesNotBroadcast",
       ModelBuilder(13)
           .input("x", {1, 3})
           .floats("w", {4})
           .node("Add", {"x", "w"}, {"y"})
           .output("y")
           .bytes(),
       "shapes [1, 3] and [4] don't broadcast"},
      {"AddTypes",
       ModelBuilder(13)
           .input("x", {1, 3})
           .integers("w", {3}, {1, 2, 3})
           .node("Add", {"x", "w"}, {"y"})
           .output("y")
           .bytes(),
       "types f32 and s64"},
      {"MatMulInner",
       ModelBuilder(13)
           .input("x", {2, 3})
           .floats("w", {4, 2})
           .node("MatMul", {"x", "w"}, {"y"})
           .output("y")
           .bytes(),
       "inner dimensions 3 and 4 differ"},
      {"ReshapeMismatch", reshape({3, 3}), "cannot reshape [1, 8] to [3, 3]"},
      {"ReshapeTwoOpen", reshape({-1, -1}), "-1 twice"},
      {"ReshapeNegative", reshape({-7, 8}), "holds -7"},
      {"ReshapeOverflow", reshape({1LL << 39, 1LL << 39}), "overflows"},
      {"ReshapeZeroOutOfRange", reshape({1, 8, 0}), "isn't there"},
      {"ReshapeToData",
       ModelBuilder(13)
           .input("x", {1, 8})
           .input("t", {2}, 7)
           .node("Reshape", {"x", "t"}, {"y"})
           .output("y")
           .bytes(),
       "must be a constant or follow from shapes"},
      {"TransposePerm", one("Transpose", {2, 3}).set("perm", {0, 0}).bytes(),
       "isn't an order of the 2 axes"},
      {"SoftmaxAxis", one("Softmax", {2, 3}).set("axis", 5).bytes(),
       "axis 5 doesn't exist in rank 2"},
      {"TileBomb",
       ModelBuilder(13)
           .input("x", {1, 8})
           .integers("r", {2}, {1LL << 39, 1LL << 39})
           .node("Tile", {"x", "r"}, {"y"})
           .output("y")
           .bytes(),
       "overflow"},
      {"ExpandBomb",
       ModelBuilder(13)
           .input("x", {1})
           .integers("t", {3}, {1LL << 20, 1LL << 20, 1LL << 20})
           .node("Expand", {"x", "t"}, {"y"})
           .output("y")
           .bytes(),
       "2^40"},
      {"RangeBomb",
       ModelBuilder(13)
           .input("x", {1})
           .integers("a", {}, {0})
           .integers("b", {}, {std::numeric_limits<std::int64_t>::max()})
           .integers("c", {}, {1})
           .node("Range", {"a", "b", "c"}, {"y"})
           .output("y", 7)
           .bytes(),
       "overflow"},
      {"PadBomb",
       ModelBuilder(13)
           .input("x", {1})
           .integers("p", {2}, {std::numeric_limits<std::int64_t>::min(), 1})
           .node("Pad", {"x", "p"}, {"y"})
           .output("y")
           .bytes(),
       "pads overflow"},
      {"GatherIndex",
       ModelBuilder(13)
           .input("x", {4})
           .integers("i", {1}, {9})
           .node("Gather", {"x", "i"}, {"y"})
           .output("y")
           .bytes(),
       "index 9 is not within dimension 4"},
      {"SliceZeroStep",
       ModelBuilder(13)
           .input("x", {4})
           .integers("s", {1}, {0})
           .integers("e", {1}, {4})
           .integers("a", {1}, {0})
           .integers("t", {1}, {0})
           .node("Slice", {"x", "s", "e", "a", "t"}, {"y"})
           .output("y")
           .bytes(),
       "a step is 0"},
      {"ResizeNaN",
       ModelBuilder(13)
           .input("x", {1, 1, 2, 2})
           .floats("s", {4}, {1, 1, -2, 2})
           .node("Resize", {"x", "", "s"}, {"y"})
           .output("y")
           .bytes(),
       "scales must be positive"},
      {"ManyUnsqueezes",
       ModelBuilder(13)
           .input("x", {1})
           .integers("a", {17}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
           .node("Unsqueeze", {"x", "a"}, {"y"})
           .output("y")
           .bytes(),
       "rank would be above 16"},
  };
}

class Hostile : public ::testing::TestWithParam<Case> {};

TEST_P(Hostile, IsRefusedInOneLine) {
  const Case& c = GetParam();
  const auto graph = onnx::parse_model(c.bytes, c.name + ".onnx");
  ASSERT_FALSE(graph.has_value());
  EXPECT_THAT(graph.error().message, HasSubstr("model '" + c.name + ".onnx': "));
  EXPECT_THAT(graph.error().message, HasSubstr(c.expected));
  EXPECT_EQ(graph.error().message.find('\n'), std::string::npos);
  EXPECT_EQ(exit_code(graph.error().code), 2);
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Damaged, Hostile, ::testing::ValuesIn(damaged()), name_of);
INSTANTIATE_TEST_SUITE_P(Model, Hostile, ::testing::ValuesIn(models()), name_of);
INSTANTIATE_TEST_SUITE_P(Tensor, Hostile, ::testing::ValuesIn(tensors()), name_of);
INSTANTIATE_TEST_SUITE_P(Node, Hostile, ::testing::ValuesIn(nodes()), name_of);

TEST(HostileFile, GoodModelOfThisCorpusIsRead) {
  const auto graph = good().read();
  ASSERT_TRUE(graph.has_value()) << graph.error().message;
}

TEST(HostileFile, EveryTruncationIsRefused) {
  const std::string whole = good().bytes();
  for (std::size_t size = 0; size + 1 < whole.size(); ++size) {
    const auto graph = onnx::parse_model(std::string_view(whole).substr(0, size), "cut");
    if (graph.has_value()) ADD_FAILURE() << "read " << size << " of " << whole.size() << " bytes";
  }
}

TEST(HostileFile, FlippedBytesNeverCrash) {
  const std::string whole = good().bytes();
  std::mt19937 random(11);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = whole;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto graph = onnx::parse_model(bytes, "flipped");
    if (!graph.has_value()) {
      EXPECT_EQ(graph.error().message.find('\n'), std::string::npos);
    }
  }
}

/// Peak of this process so far, in MiB.
long peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

/// Reads a large hostile file from disk; memory is bounded whatever the file asks for.
void expect_refused_cheaply(const std::string& bytes, const std::string& expected) {
  const TemporaryFolder folder;
  const std::string path = folder.write("m.onnx", bytes);
  const long before = peak_mib();
  const auto graph = onnx::read_model(path);
  ASSERT_FALSE(graph.has_value());
  EXPECT_THAT(graph.error().message, HasSubstr(expected));
  if (!kSanitized) EXPECT_LE(peak_mib() - before, 256);
}

TEST(HostileFile, TenMillionNodesAreRefused) {
  const std::string node = field(1, field(4, "Relu"));
  expect_refused_cheaply(model_around(repeat(node, 10'000'000)), "more than 100000 nodes");
}

TEST(HostileFile, TenThousandNestedGraphsAreRefused) {
  std::string graph;
  for (int i = 0; i < 10'000; ++i)
    graph = field(1, field(4, "If") + field(5, field(1, "g") + field(6, graph)));
  expect_refused_cheaply(model_around(graph), "nested");
}

TEST(HostileFile, ABillionDimensionsAreRefused) {
  // Packed, one byte each: a small file that would take eight bytes a dimension.
  expect_refused_cheaply(model_around(field(5, field(1, std::string(20'000'000, '\x01')))),
                         "more than 16 dimensions");
  expect_refused_cheaply(model_around(field(5, repeat("\x08\x01", 5'000'000))),
                         "more than 16 dimensions");
}

TEST(HostileFile, MillionsOfEmptyPartsAreRefused) {
  expect_refused_cheaply(model_around(repeat(field(5, ""), 5'000'000)), "MiB of memory");
  expect_refused_cheaply(model_around(repeat(field(13, ""), 5'000'000)), "MiB of memory");
  expect_refused_cheaply(model_around(field(1, repeat(field(5, ""), 5'000'000))), "MiB of memory");
  expect_refused_cheaply(
      model_around(field(1, field(5, field(8, std::string(60'000'000, '\x01'))))), "MiB of memory");
  expect_refused_cheaply(repeat(field(14, ""), 5'000'000), "MiB of memory");
  expect_refused_cheaply(repeat(varint(99U << 3U) + "\x01", 20'000'000), "MiB of memory");
  expect_refused_cheaply(model_around(field(5, field(7, std::string(70'000'000, '\x01')))),
                         "raw_data");
}

TEST(HostileFile, MillionsOfNamesAreRefused) {
  expect_refused_cheaply(model_around(field(1, field(4, "Split") + repeat(field(2, "y"), 1'000'000))),
                         "more than 500000 inputs and outputs");
}

TEST(HostileFile, ManyNodesOfShapeArithmeticStayCheap) {
  // As many nodes as are allowed, each over as many elements as are followed.
  std::vector<std::int64_t> values(1024, 1);
  ModelBuilder builder = ModelBuilder(13).input("x", {1}).integers("a", {1024}, values);
  for (int i = 0; i < 20'000; ++i) {
    builder.node("Add", {i == 0 ? "a" : "v" + std::to_string(i), "a"}, {"v" + std::to_string(i + 1)});
  }
  const long before = peak_mib();
  const auto graph = builder.output("v20000", 7).read();
  ASSERT_TRUE(graph.has_value()) << graph.error().message;
  if (!kSanitized) EXPECT_LE(peak_mib() - before, 400);
}

TEST(HostileFile, AFileAboveTheLimitIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.write("m.onnx", good().bytes());
  const auto graph = onnx::read_model(path, {.allow_external_data = true, .max_bytes = 20});
  ASSERT_FALSE(graph.has_value());
  EXPECT_THAT(graph.error().message, HasSubstr("at most 20 are read"));
}

TEST(HostileFile, WhatIsNoRegularFileIsRefused) {
  const TemporaryFolder folder;
  EXPECT_THAT(onnx::read_model(folder.path.string()).error().message,
              HasSubstr("not a regular file"));
  const std::string fifo = (folder.path / "fifo").string();
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(onnx::read_model(fifo).error().message, HasSubstr("not a regular file"));
  EXPECT_EQ(onnx::read_model((folder.path / "missing").string()).error().code,
            ErrorCode::kNotFound);
  EXPECT_THAT(onnx::read_model(folder.write("empty", "")).error().message, HasSubstr("is empty"));
}

TEST(HostileFile, InfiniteBoundsAreNoWeights) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto mask = ModelBuilder(13)
                        .input("x", {1, 4})
                        .input("c", {1, 4}, 9)
                        .floats("inf", {}, {-infinity})
                        .node("Where", {"c", "x", "inf"}, {"y"})
                        .output("y")
                        .read();
  EXPECT_TRUE(mask.has_value());
  const auto weight = ModelBuilder(13)
                          .input("x", {1, 4})
                          .floats("inf", {}, {-infinity})
                          .node("Mul", {"x", "inf"}, {"y"})
                          .output("y")
                          .read();
  EXPECT_FALSE(weight.has_value());
}

}  // namespace
}  // namespace kerf
