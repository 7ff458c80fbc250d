#include "workers/data/bind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace kerf::data {
namespace {

using graph::DType;
using graph::Graph;
using graph::Shape;
using graph::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;

Graph model(const Shape& input, const Shape& output, DType dtype = DType::kF32) {
  Graph graph;
  graph.inputs = {{"input", dtype, input}};
  graph.outputs = {{"output", DType::kF32, output}};
  return graph;
}

DataSet set_of(Tensor x, std::optional<Tensor> y = std::nullopt) {
  DataSet data;
  data.samples = x.dim(0);
  data.inputs["x"] = std::move(x);
  data.labels = std::move(y);
  return data;
}

Tensor counting(DType dtype, const Shape& shape) {
  Tensor tensor(dtype, shape);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    if (dtype == DType::kU8) tensor.mutable_as<std::uint8_t>()[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i);
    if (dtype == DType::kF32) tensor.mutable_as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(i);
  }
  return tensor;
}

std::string error_of(const DataSet& data, const Graph& graph,
                     const std::optional<Preprocess>& preprocess = std::nullopt) {
  const auto bound = data::bind(data, graph, preprocess, "eval.npz");
  if (bound.has_value()) return "no error";
  EXPECT_EQ(bound.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(bound.error().message.find('\n'), std::string::npos);
  return bound.error().message;
}

TEST(Bind, FloatsThatFitAreSharedNotCopied) {
  const Tensor x = counting(DType::kF32, {5, 64});
  const auto bound = data::bind(set_of(x), model({-1, 64}, {-1, 10}), std::nullopt, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  EXPECT_EQ(bound->samples, 5);
  EXPECT_EQ(bound->inputs[0].raw(), x.raw());
}

TEST(Bind, AFixedBatchTakesAnyNumberOfSamples) {
  EXPECT_EQ(error_of(set_of(counting(DType::kF32, {7, 4})), model({1, 4}, {1, 2})), "no error");
}

TEST(Bind, DimensionsOfOneMayBeMissingOrExtra) {
  const auto shape = [](const Shape& data, const Shape& input) {
    const auto bound = data::bind(set_of(counting(DType::kF32, data)), model(input, {-1, 10}), std::nullopt, "f");
    return bound.has_value() ? bound->inputs[0].shape() : Shape{};
  };
  EXPECT_THAT(shape({2, 3, 4}, {-1, 1, 3, 4}), ElementsAre(2, 1, 3, 4));
  EXPECT_THAT(shape({2, 3, 4, 1}, {-1, 1, 3, 4}), ElementsAre(2, 1, 3, 4));
  EXPECT_THAT(shape({2, 1, 5}, {-1, 5}), ElementsAre(2, 5));
  EXPECT_THAT(shape({2, 5}, {-1, -1, 5}), ElementsAre(2, 1, 5));
  EXPECT_THAT(shape({2, 3, 5}, {-1, -1, -1, 5}), ElementsAre(2, 3, 1, 5));
  EXPECT_THAT(shape({2}, {-1, 1}), ElementsAre(2, 1));
  EXPECT_THAT(shape({2, 12}, {-1, 3, 4}), ElementsAre()) << "same elements, other meaning";
  EXPECT_THAT(shape({2, 4, 3}, {-1, 1, 3, 4}), ElementsAre());
}

TEST(Bind, AShapeThatDoesNotFitIsNamed) {
  EXPECT_EQ(error_of(set_of(Tensor(DType::kF32, {500, 3, 28, 28})), model({1, 3, 32, 32}, {1, 10})),
            "eval.npz: x has shape [500, 3, 28, 28]; the model's input 'input' takes [?, 3, 32, 32]");
  EXPECT_THAT(error_of(set_of(Tensor(DType::kU8, {5, 32, 32, 3})), model({-1, 3, 32, 32}, {1, 10})),
              HasSubstr("(preprocess with \"layout\": \"NHWC\" would turn it)"));
}

TEST(Bind, AMissingArrayIsNamed) {
  DataSet data = set_of(counting(DType::kF32, {2, 4}), Tensor::s64({2}, {0, 1}));
  data.inputs["pixels"] = data.inputs.extract("x").mapped();
  EXPECT_EQ(error_of(data, model({-1, 4}, {-1, 2})),
            "eval.npz: no array 'input' and no 'x'; expected one for the model's input (found: pixels, y)");
  data.left_out["x"] = "x has dtype '<U3'; expected numbers";
  EXPECT_EQ(error_of(data, model({-1, 4}, {-1, 2})), "eval.npz: x has dtype '<U3'; expected numbers");
}

TEST(Bind, SeveralInputsAreTakenByName) {
  Graph graph = model({-1, 2}, {-1, 2});
  graph.inputs.push_back({"mask", DType::kS64, {-1, 3}});
  DataSet data;
  data.samples = 2;
  data.inputs["mask"] = Tensor::of<std::int32_t>(DType::kS32, {2, 3}, {1, 0, 1, 0, 1, 0});
  data.inputs["input"] = counting(DType::kF32, {2, 2});
  const auto bound = data::bind(data, graph, std::nullopt, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  ASSERT_EQ(bound->inputs.size(), 2U);
  EXPECT_EQ(bound->inputs[0].dtype(), DType::kF32);
  EXPECT_EQ(bound->inputs[1].dtype(), DType::kS64);
  EXPECT_THAT(bound->inputs[1].to_integers(), ElementsAre(1, 0, 1, 0, 1, 0));

  data.inputs["mask"] = Tensor::s64({3, 3}, std::vector<std::int64_t>(9));
  EXPECT_EQ(error_of(data, graph), "eval.npz: mask has 3 samples; expected 2 as input has");
  data.inputs.erase("mask");
  EXPECT_EQ(error_of(data, graph),
            "eval.npz: no array 'mask'; expected one for the model's input (found: input)");
}

TEST(Bind, PreprocessWorksPerChannel) {
  Preprocess preprocess;
  preprocess.scale = 0.5;
  preprocess.mean = {1, 2};
  preprocess.std = {2, 4};
  const DataSet data = set_of(counting(DType::kU8, {1, 2, 1, 2}));
  const auto bound = data::bind(data, model({-1, 2, 1, 2}, {-1, 2}), preprocess, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  EXPECT_THAT(bound->inputs[0].to_floats(),
              ElementsAre(-0.5F, -0.25F, (1.0F - 2) / 4, (1.5F - 2) / 4));
}

TEST(Bind, BytesAndFloatsAreConvertedAlike) {
  Preprocess preprocess;
  preprocess.scale = 0.00392157;
  preprocess.mean = {0.485, 0.456, 0.406};
  preprocess.std = {0.229, 0.224, 0.225};
  const Tensor bytes = counting(DType::kU8, {3, 3, 8, 8});
  const Graph graph = model({-1, 3, 8, 8}, {-1, 10});
  const auto from_bytes = data::bind(set_of(bytes), graph, preprocess, "f");
  const auto from_floats = data::bind(set_of(bytes.to_f32()), graph, preprocess, "f");
  ASSERT_TRUE(from_bytes.has_value() && from_floats.has_value());
  EXPECT_EQ(from_bytes->inputs[0].to_floats(), from_floats->inputs[0].to_floats());
}

TEST(Bind, OneMeanServesAllChannelsAndAnotherCountIsRefused) {
  Preprocess preprocess;
  preprocess.mean = {1};
  const DataSet data = set_of(counting(DType::kU8, {1, 2, 1, 2}));
  const Graph graph = model({-1, 2, 1, 2}, {-1, 2});
  const auto bound = data::bind(data, graph, preprocess, "f");
  ASSERT_TRUE(bound.has_value());
  EXPECT_THAT(bound->inputs[0].to_floats(), ElementsAre(-1, 0, 1, 2));
  preprocess.mean = {1, 2, 3};
  EXPECT_EQ(error_of(data, graph, preprocess),
            "preprocess.mean has 3 values; expected 1 or 2, the channels of the model's input 'input'");
  preprocess.mean = {};
  preprocess.std = {1, 2, 3};
  EXPECT_THAT(error_of(data, graph, preprocess), HasSubstr("preprocess.std has 3 values"));
}

TEST(Bind, NhwcIsTurnedToWhatTheModelTakes) {
  Preprocess preprocess;
  preprocess.layout = "NHWC";
  preprocess.mean = {0, 100};
  const DataSet data = set_of(counting(DType::kU8, {1, 2, 2, 2}));
  const auto turned = data::bind(data, model({-1, 2, 2, 2}, {-1, 2}), preprocess, "f");
  ASSERT_TRUE(turned.has_value()) << turned.error().message;
  EXPECT_THAT(turned->inputs[0].to_floats(), ElementsAre(0, 2, 4, 6, -99, -97, -95, -93));

  const DataSet wide = set_of(counting(DType::kU8, {1, 1, 3, 2}));
  const auto kept = data::bind(wide, model({-1, 1, 3, 2}, {-1, 2}), preprocess, "f");
  ASSERT_TRUE(kept.has_value()) << kept.error().message;
  EXPECT_THAT(kept->inputs[0].shape(), ElementsAre(1, 1, 3, 2));
  EXPECT_THAT(kept->inputs[0].to_floats(), ElementsAre(0, -99, 2, -97, 4, -95));
}

TEST(Bind, DecodedPicturesArePlanesWhateverTheLayoutSays) {
  Preprocess preprocess;
  preprocess.layout = "NHWC";
  preprocess.mean = {0, 10, 20};
  DataSet data = set_of(counting(DType::kU8, {1, 3, 1, 2}));
  data.images = true;
  const auto planes = data::bind(data, model({-1, 3, 1, 2}, {-1, 2}), preprocess, "f");
  ASSERT_TRUE(planes.has_value()) << planes.error().message;
  EXPECT_THAT(planes->inputs[0].to_floats(), ElementsAre(0, 1, -8, -7, -16, -15));
  const auto interleaved = data::bind(data, model({-1, 1, 2, 3}, {-1, 2}), preprocess, "f");
  ASSERT_TRUE(interleaved.has_value()) << interleaved.error().message;
  EXPECT_THAT(interleaved->inputs[0].to_floats(), ElementsAre(0, -8, -16, 1, -7, -15));
}

TEST(Bind, NotANumberIsNamedByItsSample) {
  Tensor x = counting(DType::kF32, {5, 4});
  x.mutable_as<float>()[13] = std::nanf("");
  EXPECT_EQ(error_of(set_of(x), model({-1, 4}, {-1, 2})), "eval.npz: x[3] holds NaN");
  x.mutable_as<float>()[13] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(error_of(set_of(x), model({-1, 4}, {-1, 2})), "eval.npz: x[3] holds Inf");
  x.mutable_as<float>()[13] = 3e38F;
  Preprocess preprocess;
  preprocess.scale = 1000;
  EXPECT_EQ(error_of(set_of(x), model({-1, 4}, {-1, 2}), preprocess),
            "eval.npz: x[3] leaves the range of f32 after preprocessing");
}

TEST(Bind, EveryNumberTypeBecomesF32) {
  const std::vector<Tensor> all = {
      Tensor::of<double>(DType::kF64, {1, 2}, {1, 2}),
      Tensor::of<std::uint16_t>(DType::kF16, {1, 2}, {0x3C00, 0x4000}),
      Tensor::of<std::int8_t>(DType::kS8, {1, 2}, {1, 2}),
      Tensor::of<std::uint16_t>(DType::kU16, {1, 2}, {1, 2}),
      Tensor::s64({1, 2}, {1, 2}),
      Tensor::of<std::uint64_t>(DType::kU64, {1, 2}, {1, 2})};
  for (const Tensor& x : all) {
    const auto bound = data::bind(set_of(x), model({-1, 2}, {-1, 2}), std::nullopt, "f");
    ASSERT_TRUE(bound.has_value()) << bound.error().message;
    EXPECT_THAT(bound->inputs[0].to_floats(), ElementsAre(1, 2)) << to_string(x.dtype());
  }
}

TEST(Bind, IntegerInputsTakeWholeNumbersInRange) {
  const Graph graph = model({-1, 2}, {-1, 2}, DType::kS8);
  const auto bound = data::bind(set_of(Tensor::f32({1, 2}, {-128, 127})), graph, std::nullopt, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  EXPECT_THAT(bound->inputs[0].to_integers(), ElementsAre(-128, 127));
  EXPECT_THAT(error_of(set_of(Tensor::f32({2, 2}, {0, 0, 0, 0.5})), graph),
              HasSubstr("eval.npz: x[1] holds 0.5"));
  EXPECT_THAT(error_of(set_of(Tensor::s64({2, 2}, {0, 0, 128, 0})), graph),
              HasSubstr("eval.npz: x[1] holds 128"));
  EXPECT_THAT(error_of(set_of(Tensor::f32({1, 2}, {0, 9.3e18F})), model({-1, 2}, {-1, 2}, DType::kS64)),
              HasSubstr("expected s64"));
  EXPECT_THAT(error_of(set_of(Tensor::f32({1, 2}, {0, 1})), graph, Preprocess{}),
              HasSubstr("expected a float input"));
}

TEST(Bind, ClassesOutOfRangeAreNamed) {
  std::vector<std::int64_t> y(20, 1);
  y[17] = 12;
  EXPECT_EQ(error_of(set_of(counting(DType::kF32, {20, 4}), Tensor::s64({20}, y)), model({-1, 4}, {-1, 10})),
            "eval.npz: y[17] = 12; expected a class from 0 to 9");
  y[17] = -1;
  EXPECT_EQ(error_of(set_of(counting(DType::kF32, {20, 4}), Tensor::s64({20}, y)), model({-1, 4}, {-1, 10, 1, 1})),
            "eval.npz: y[17] = -1; expected a class from 0 to 9");
}

TEST(Bind, LabelsInAColumnCount) {
  const auto bound = data::bind(set_of(counting(DType::kF32, {2, 4}), Tensor::of<std::uint8_t>(DType::kU8, {2, 1}, {3, 4})),
                          model({-1, 4}, {-1, 10}), std::nullopt, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  EXPECT_THAT(bound->classes, ElementsAre(3, 4));
  EXPECT_TRUE(bound->targets.empty());
}

TEST(Bind, LabelsThatDoNotSuitTheModelAreRefused) {
  const Tensor x = counting(DType::kF32, {2, 4});
  EXPECT_THAT(error_of(set_of(x, Tensor::s64({2, 10}, std::vector<std::int64_t>(20))), model({-1, 4}, {-1, 10})),
              HasSubstr("eval.npz: y has shape [2, 10]; expected [2]"));
  EXPECT_THAT(error_of(set_of(x, Tensor::f32({2}, {1, 2})), model({-1, 4}, {-1, 10})),
              HasSubstr("expected integers (classes from 0 to 9) or 10 floats a sample"));
  EXPECT_THAT(error_of(set_of(x, Tensor::s64({2}, {1, 2})), model({-1, 4}, {-1, 1})),
              HasSubstr("expected floats (regression targets)"));
  EXPECT_THAT(error_of(set_of(x, Tensor::s64({3}, {1, 2, 3})), model({-1, 4}, {-1, 10})),
              HasSubstr("eval.npz: y has 3 entries; expected 2"));
  EXPECT_THAT(error_of(set_of(x, Tensor::f32({2}, {1, std::nanf("")})), model({-1, 4}, {-1, 1})),
              HasSubstr("eval.npz: y[1] holds NaN"));
  EXPECT_THAT(error_of(set_of(x, Tensor::s64({2}, {1, 2})), model({-1, 4}, {-1, 21, 8, 8})),
              HasSubstr("scores many places of a sample"));
}

TEST(Bind, FloatLabelsAreTargets) {
  const auto bound = data::bind(set_of(counting(DType::kF32, {2, 4}), Tensor::of<double>(DType::kF64, {2, 3}, {1, 2, 3, 4, 5, 6})),
                          model({-1, 4}, {-1, 3}), std::nullopt, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  EXPECT_THAT(bound->targets, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(bound->targets_per_sample(), 3);
}

TEST(Bind, NoSamplesAreRefused) {
  EXPECT_EQ(error_of(set_of(Tensor(DType::kF32, {0, 4})), model({-1, 4}, {-1, 10})),
            "eval.npz: x holds no samples");
}

TEST(Bind, ACsvsLastColumnIsTheLabelWhereTheModelTakesOneLess) {
  DataSet data = set_of(Tensor::f32({2, 3}, {1, 2, 0, 3, 4, 1}));
  data.last_column = Tensor::s64({2}, {0, 1});
  const auto labelled = data::bind(data, model({-1, 2}, {-1, 2}), std::nullopt, "f");
  ASSERT_TRUE(labelled.has_value()) << labelled.error().message;
  EXPECT_THAT(labelled->inputs[0].to_floats(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(labelled->classes, ElementsAre(0, 1));
  const auto bare = data::bind(data, model({-1, 3}, {-1, 2}), std::nullopt, "f");
  ASSERT_TRUE(bare.has_value());
  EXPECT_FALSE(bare->labelled());
}

TEST(Bind, AnInputCalledYIsAnInput) {
  Graph graph = model({-1, 2}, {-1, 2});
  graph.inputs[0].name = "y";
  DataSet data;
  data.samples = 1;
  data.labels = Tensor::f32({1, 2}, {5, 6});
  const auto bound = data::bind(data, graph, std::nullopt, "f");
  ASSERT_TRUE(bound.has_value()) << bound.error().message;
  EXPECT_THAT(bound->inputs[0].to_floats(), ElementsAre(5, 6));
  EXPECT_FALSE(bound->labelled());
}

TEST(BoundData, SliceTakesInputsAndLabelsTogether) {
  BoundData data;
  data.samples = 4;
  data.inputs = {counting(DType::kF32, {4, 2})};
  data.classes = {5, 6, 7, 8};
  const BoundData middle = data.slice(1, 3);
  EXPECT_EQ(middle.samples, 2);
  EXPECT_THAT(middle.inputs[0].to_floats(), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(middle.classes, ElementsAre(6, 7));
  EXPECT_EQ(data.slice(3, 99).samples, 1);
}

}  // namespace
}  // namespace kerf::data
