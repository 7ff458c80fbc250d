// Kernels of the rarer ops where ONNX's own node tests say nothing.
#include <cmath>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

Tensor waves(const Shape& shape, float phase) {
  Tensor out(DType::kF32, shape);
  for (float& v : out.mutable_as<float>()) v = std::sin(phase += 0.7F);
  return out;
}

Tensor part(const Tensor& x, std::int64_t axis, std::int64_t begin, std::int64_t end) {
  return eval("Slice", {x, Tensor::s64({1}, {begin}), Tensor::s64({1}, {end}), Tensor::s64({1}, {axis})})[0];
}

Tensor backwards(const Tensor& x) {
  return eval("Slice", {x, Tensor::s64({1}, {-1}), Tensor::s64({1}, {INT64_MIN}), Tensor::s64({1}, {0}),
                        Tensor::s64({1}, {-1})})[0];
}

void expect_near(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    EXPECT_NEAR(a.as<float>()[i], b.as<float>()[i], 1e-6F) << i;
  }
}

TEST(ReferenceOps, BothDirectionsAreOneForwardsAndOneBackwards) {
  for (const auto& [op, gates] : {std::pair<const char*, std::int64_t>{"RNN", 1}, {"GRU", 3}, {"LSTM", 4}}) {
    SCOPED_TRACE(op);
    const Tensor x = waves({5, 2, 3}, 0.1F);
    const Tensor w = waves({2, gates * 4, 3}, 0.2F);
    const Tensor r = waves({2, gates * 4, 4}, 0.3F);
    const Tensor b = waves({2, gates * 8}, 0.4F);
    const auto both = eval(op, {x, w, r, b}, {{"direction", std::string("bidirectional")}}, 2);
    const auto forward = eval(op, {x, part(w, 0, 0, 1), part(r, 0, 0, 1), part(b, 0, 0, 1)}, {}, 2);
    const auto back = eval(op, {backwards(x), part(w, 0, 1, 2), part(r, 0, 1, 2), part(b, 0, 1, 2)}, {}, 2);
    const auto reverse = eval(op, {x, part(w, 0, 1, 2), part(r, 0, 1, 2), part(b, 0, 1, 2)},
                              {{"direction", std::string("reverse")}}, 2);
    expect_near(part(both[0], 1, 0, 1), forward[0]);
    expect_near(part(both[0], 1, 1, 2), backwards(back[0]));
    expect_near(reverse[0], backwards(back[0]));
    expect_near(part(both[1], 0, 1, 2), back[1]);
  }
}

TEST(ReferenceOps, RecurrentStateOfAShortSequenceIsItsLastStep) {
  const Tensor x = waves({4, 1, 2}, 0.5F);
  const Tensor w = waves({1, 9, 2}, 0.6F);
  const Tensor r = waves({1, 9, 3}, 0.7F);
  const Tensor two = Tensor::of<std::int32_t>(DType::kS32, {1}, {2});
  const auto cut = eval("GRU", {x, w, r, Tensor(), two}, {}, 2);
  const auto shorter = eval("GRU", {part(x, 0, 0, 2), w, r}, {}, 2);
  expect_near(cut[1], shorter[1]);
  expect_near(part(cut[0], 0, 2, 4), Tensor(DType::kF32, {2, 1, 1, 3}));
}

TEST(ReferenceOps, RmsNormalizationDividesByTheRootMeanSquare) {
  const auto out = eval("RMSNormalization", {Tensor::f32({1, 4}, {1, -1, 3, 5}), Tensor::f32({4}, {1, 2, 1, 1})},
                        {{"epsilon", 0.0F}});
  EXPECT_EQ(out[0].to_floats(), (std::vector<float>{1 / 3.0F, -2 / 3.0F, 1, 5 / 3.0F}));
}

TEST(ReferenceOps, SumsOfLargeIntegersAreExact) {
  const std::int64_t large = (std::int64_t{1} << 60U) + 1;
  const auto out = eval("ReduceSum", {Tensor::s64({2}, {large, 1}), Tensor::s64({1}, {0})});
  EXPECT_EQ(out[0].to_integers(), std::vector<std::int64_t>{large + 1});
  EXPECT_EQ(eval("ArgMax", {Tensor::s64({2}, {large, large + 1})})[0].to_integers(), std::vector<std::int64_t>{1});
}

TEST(ReferenceOps, TransposedConvolutionFillsAWantedExtentBeyondItsReach) {
  const auto out = eval("ConvTranspose", {Tensor::f32({1, 1, 2}, {1, 2}), Tensor::f32({1, 1, 1}, {1})},
                        {{"strides", Ints{2}}, {"output_shape", Ints{5}}});
  EXPECT_EQ(out[0].to_floats(), (std::vector<float>{1, 0, 2, 0, 0}));
}

TEST(ReferenceOps, ScatterRefusesPlacesOutside) {
  Node node;
  node.op = "ScatterND";
  node.name = "node";
  node.inputs = {"x", "i", "u"};
  node.outputs = {"y"};
  const std::vector<Tensor> inputs{Tensor::f32({2, 2}, {1, 2, 3, 4}), Tensor::s64({1, 1}, {7}), Tensor::f32({1, 2}, {5, 6})};
  EXPECT_FALSE(evaluate(node, inputs).has_value());
}

TEST(ReferenceOps, ShiftsByAllBitsGiveZero) {
  const auto out = eval("BitShift", {Tensor::of<std::uint8_t>(DType::kU8, {2}, {255, 255}), Tensor::of<std::uint8_t>(DType::kU8, {2}, {7, 8})},
                        {{"direction", std::string("RIGHT")}});
  EXPECT_EQ(out[0].to_integers(), (std::vector<std::int64_t>{1, 0}));
}

TEST(ReferenceOps, EinsumWithRepeatedLettersAndWithoutAnArrow) {
  const Tensor x = Tensor::f32({2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(eval("Einsum", {x}, {{"equation", std::string("ii")}})[0].to_floats(), std::vector<float>{5});
  EXPECT_EQ(eval("Einsum", {x, x}, {{"equation", std::string("ij,jk")}})[0].to_floats(), (std::vector<float>{7, 10, 15, 22}));
}

TEST(ReferenceOps, PReluOfIntegersMultipliesWhatIsNegative) {
  const Tensor x = Tensor::of<std::int32_t>(DType::kS32, {4}, {-3, 0, 5, -1});
  const Tensor slope = Tensor::of<std::int32_t>(DType::kS32, {1}, {4});
  EXPECT_EQ(eval("PRelu", {x, slope})[0].to_integers(), (std::vector<std::int64_t>{-12, 0, 5, -4}));
}

TEST(ReferenceOps, OneBlockAlongAnAxisOfExtentOneHasAScaleForEachElement) {
  const Tensor x = Tensor::of<std::int8_t>(DType::kS8, {1, 3}, {10, 10, 10});
  const Tensor scales = Tensor::f32({1, 3}, {1, 2, 3});
  EXPECT_EQ(eval("DequantizeLinear", {x, scales}, {{"axis", std::int64_t{0}}, {"block_size", std::int64_t{4}}})[0].to_floats(), (std::vector<float>{10, 20, 30}));
}

}  // namespace
}  // namespace kerf::engine::testing
