#include "workers/graph/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kerf::graph {
namespace {

TEST(Tensor, WritingToACopyLeavesTheOriginal) {
  const Tensor a = Tensor::f32({2}, {1, 2});
  Tensor b = a;
  b.mutable_as<float>()[0] = 9;
  EXPECT_EQ(a.as<float>()[0], 1);
  EXPECT_EQ(b.as<float>()[0], 9);
}

TEST(Tensor, HalfPrecisionRoundTripsEveryFiniteValue) {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_f32(half);
    if (std::isnan(value)) continue;
    ASSERT_EQ(f32_to_f16(value), half) << bits;
  }
}

TEST(Tensor, BrainFloatRoundsTiesToEven) {
  EXPECT_EQ(f32_to_bf16(1.0F), 0x3F80);
  EXPECT_EQ(f32_to_bf16(1.00390625F), 0x3F80);  // half-way, even below
  EXPECT_EQ(f32_to_bf16(1.01171875F), 0x3F82);  // half-way, even above
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(NAN))));
}

TEST(Tensor, ShapesThatOverflowAreRefused) {
  EXPECT_EQ(element_count({1LL << 40, 1LL << 40}), std::nullopt);
  EXPECT_EQ(element_count({-1, 3}), std::nullopt);
  EXPECT_EQ(element_count({}), 1);
  EXPECT_THROW(Tensor(DType::kF32, {1LL << 41}), std::length_error);
}

}  // namespace
}  // namespace kerf::graph
