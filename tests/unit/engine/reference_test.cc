// The plain kernels against numbers worked out by hand, or taken from ONNX's operator tests.
#include <cmath>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

std::vector<float> floats(const std::vector<Tensor>& tensors) { return tensors[0].to_floats(); }

Tensor counting(const Shape& shape) {
  Tensor out(DType::kF32, shape);
  float next = 0;
  for (float& v : out.mutable_as<float>()) v = next++;
  return out;
}

TEST(Reference, ConvolutionWithPaddingAndStride) {
  const Tensor ones = Tensor::f32({1, 1, 3, 3}, std::vector<float>(9, 1.0F));
  EXPECT_EQ(floats(eval("Conv", {counting({1, 1, 5, 5}), ones}, {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}})),
            (std::vector<float>{12, 27, 24, 63, 108, 81, 72, 117, 84}));
}

TEST(Reference, TransposedConvolution) {
  const Tensor ones = Tensor::f32({1, 2, 3, 3}, std::vector<float>(18, 1.0F));
  const auto out = eval("ConvTranspose", {counting({1, 1, 3, 3}), ones});
  EXPECT_EQ(out[0].shape(), (Shape{1, 2, 5, 5}));
  const std::vector<float> plane{0, 1, 3, 3, 2, 3, 8, 15, 12, 7, 9, 21, 36, 27, 15, 9, 20, 33, 24, 13, 6, 13, 21, 15, 8};
  const std::vector<float> values = floats(out);
  EXPECT_EQ(std::vector<float>(values.begin(), values.begin() + 25), plane);
}

TEST(Reference, AveragePoolCountsPaddingOnlyWhenAsked) {
  const Tensor x = Tensor::f32({1, 1, 2, 2}, {1, 2, 3, 4});
  const std::map<std::string, Attribute> attributes{{"kernel_shape", Ints{2, 2}}, {"pads", Ints{1, 1, 0, 0}}};
  EXPECT_EQ(floats(eval("AveragePool", {x}, attributes)), (std::vector<float>{1, 1.5F, 2, 2.5F}));
  auto counted = attributes;
  counted["count_include_pad"] = std::int64_t{1};
  EXPECT_EQ(floats(eval("AveragePool", {x}, counted)), (std::vector<float>{0.25F, 0.75F, 1, 2.5F}));
}

TEST(Reference, MaxPoolInCeilModeTakesTheRest) {
  EXPECT_EQ(floats(eval("MaxPool", {counting({1, 1, 4, 4})}, {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t{1}}})),
            (std::vector<float>{10, 11, 14, 15}));
}

TEST(Reference, QuantizeLinearRoundsTiesToEvenAndSaturates) {
  const Tensor x = Tensor::f32({7}, {0, 2, 3, 5, 1000, -254, -1000});
  const auto q = eval("QuantizeLinear", {x, Tensor::scalar(2.0F), Tensor::of<std::uint8_t>(DType::kU8, {}, {128})});
  EXPECT_EQ(q[0].to_integers(), (Ints{128, 129, 130, 130, 255, 1, 0}));
  EXPECT_EQ(floats(eval("DequantizeLinear", {q[0], Tensor::scalar(2.0F), Tensor::of<std::uint8_t>(DType::kU8, {}, {128})})),
            (std::vector<float>{0, 2, 4, 4, 254, -254, -256}));
}

TEST(Reference, DequantizeLinearAlongAnAxis) {
  const Tensor q = Tensor::of<std::int8_t>(DType::kS8, {2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(floats(eval("DequantizeLinear", {q, Tensor::f32({2}, {1, 10}), Tensor::of<std::int8_t>(DType::kS8, {2}, {0, 1})}, {{"axis", std::int64_t{0}}})),
            (std::vector<float>{1, 2, 20, 30}));
}

TEST(Reference, DynamicQuantizeLinearAsOnnxSaysIt) {
  const auto out = eval("DynamicQuantizeLinear", {Tensor::f32({6}, {0, 2, -3, -2.5F, 1.34F, 0.5F})}, {}, 3);
  EXPECT_EQ(out[0].to_integers(), (Ints{153, 255, 0, 26, 221, 179}));
  EXPECT_NEAR(out[1].as<float>()[0], 0.0196078438F, 1e-9F);
  EXPECT_EQ(out[2].to_integers(), (Ints{153}));
}

TEST(Reference, IntegerMatMulWithZeroPoints) {
  const Tensor a = Tensor::of<std::uint8_t>(DType::kU8, {4, 3}, {11, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0});
  const Tensor b = Tensor::of<std::uint8_t>(DType::kU8, {3, 2}, {1, 4, 2, 5, 3, 6});
  const auto out = eval("MatMulInteger", {a, b, Tensor::of<std::uint8_t>(DType::kU8, {}, {12}), Tensor::of<std::uint8_t>(DType::kU8, {}, {0})});
  EXPECT_EQ(out[0].to_integers(), (Ints{-38, -83, -44, -98, -50, -113, -56, -128}));
}

TEST(Reference, PadReflectsEdgesAndWraps) {
  const Tensor x = Tensor::f32({4}, {1, 2, 3, 4});
  const Tensor pads = Tensor::s64({2}, {2, 3});
  EXPECT_EQ(floats(eval("Pad", {x, pads}, {{"mode", std::string("reflect")}})), (std::vector<float>{3, 2, 1, 2, 3, 4, 3, 2, 1}));
  EXPECT_EQ(floats(eval("Pad", {x, pads}, {{"mode", std::string("edge")}})), (std::vector<float>{1, 1, 1, 2, 3, 4, 4, 4, 4}));
  EXPECT_EQ(floats(eval("Pad", {x, pads}, {{"mode", std::string("wrap")}})), (std::vector<float>{3, 4, 1, 2, 3, 4, 1, 2, 3}));
  EXPECT_EQ(floats(eval("Pad", {x, pads, Tensor::scalar(9)})), (std::vector<float>{9, 9, 1, 2, 3, 4, 9, 9, 9}));
}

TEST(Reference, ResizeLinearHalfPixel) {
  const Tensor x = Tensor::f32({1, 1, 2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(floats(eval("Resize", {x, Tensor(), Tensor::f32({4}, {1, 1, 2, 2})}, {{"mode", std::string("linear")}})),
            (std::vector<float>{1, 1.25F, 1.75F, 2, 1.5F, 1.75F, 2.25F, 2.5F, 2.5F, 2.75F, 3.25F, 3.5F, 3, 3.25F, 3.75F, 4}));
}

TEST(Reference, ResizeNearestRepeats) {
  const Tensor x = Tensor::f32({1, 1, 2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(floats(eval("Resize", {x, Tensor(), Tensor::f32({4}, {1, 1, 2, 3})})),
            (std::vector<float>{1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4}));
}

TEST(Reference, SliceBackwards) {
  EXPECT_EQ(floats(eval("Slice", {counting({5}), Tensor::s64({1}, {-1}), Tensor::s64({1}, {-100}), Tensor::s64({1}, {0}), Tensor::s64({1}, {-2})})),
            (std::vector<float>{4, 2, 0}));
}

TEST(Reference, ReductionsKeepOrDropAxes) {
  const Tensor x = counting({2, 3});
  EXPECT_EQ(floats(eval("ReduceMean", {x, Tensor::s64({1}, {1})})), (std::vector<float>{1, 4}));
  EXPECT_EQ(eval("ReduceSum", {x, Tensor::s64({1}, {0})}, {{"keepdims", std::int64_t{0}}})[0].shape(), (Shape{3}));
  EXPECT_EQ(floats(eval("ReduceMax", {x})), (std::vector<float>{5}));
  EXPECT_EQ(eval("ArgMax", {x}, {{"axis", std::int64_t{1}}})[0].to_integers(), (Ints{2, 2}));
}

TEST(Reference, IntegerDivisionAndModuloDontTrap) {
  const auto s32 = [](const std::vector<std::int32_t>& v) { return Tensor::of<std::int32_t>(DType::kS32, {static_cast<std::int64_t>(v.size())}, v); };
  const Tensor x = s32({7, -7, std::numeric_limits<std::int32_t>::min(), 5});
  const Tensor y = s32({2, 2, -1, 0});
  EXPECT_EQ(eval("Div", {x, y})[0].to_integers()[0], 3);
  EXPECT_EQ(eval("Mod", {x, y})[0].to_integers()[1], 1);
}

TEST(Reference, DepthToSpaceBothModes) {
  const Tensor x = counting({1, 8, 1, 1});
  EXPECT_EQ(floats(eval("DepthToSpace", {x}, {{"blocksize", std::int64_t{2}}})), (std::vector<float>{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_EQ(floats(eval("DepthToSpace", {x}, {{"blocksize", std::int64_t{2}}, {"mode", std::string("CRD")}})), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Reference, RefusesWhatDoesntFitWithTheNodesName) {
  Node node;
  node.op = "Conv";
  node.name = "stem";
  node.inputs = {"x", "w"};
  node.outputs = {"y"};
  const std::vector<Tensor> inputs{counting({1, 3, 4, 4}), counting({2, 2, 3, 3})};
  const auto result = evaluate(node, inputs);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message.find("Conv 'stem'"), std::string::npos);
  node.op = "NoSuchOp";
  EXPECT_EQ(evaluate(node, inputs).error().code, ErrorCode::kUnimplemented);
}

}  // namespace
}  // namespace kerf::engine::testing
