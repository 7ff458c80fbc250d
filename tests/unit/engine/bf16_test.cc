// Layers marked bf16 run in bf16, keep their values in it, and stay within its precision; in f32 where a processor
// has no kernels for it.
#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

Tensor rounded(Tensor tensor) {
  for (float& v : tensor.mutable_as<float>()) v = graph::bf16_to_f32(graph::f32_to_bf16(v));
  return tensor;
}

std::map<std::string, Attribute> with_pads(std::int64_t pad) {
  return {{"kerf_precision", std::string("bf16")}, {"pads", Ints{pad, pad, pad, pad}}};
}

/// Two significant bits less than the format's eight, for sums that cancel.
constexpr float kTolerance = 1.0F / 64.0F;

TEST(Bf16, ValuesStayBf16BetweenLayers) {
  Random random;
  Builder b;
  const std::string x = b.input({2, 3, 12, 12});
  const auto conv = [&](const std::string& v, std::int64_t from, std::int64_t to) {
    return b.node("Conv", {v, b.constant(rounded(random.f32({to, from, 3, 3}, 0.1F))), b.constant(random.f32({to}))}, with_pads(1));
  };
  const std::string a = b.node("Relu", {conv(x, 3, 16)});
  const std::string c = b.node("Relu", {b.node("Add", {conv(b.node("Relu", {conv(a, 16, 16)}), 16, 16), a})});
  const std::string p = b.node("MaxPool", {c}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  const std::string d = conv(p, 16, 8);
  const std::string flat = b.node("Flatten", {b.node("GlobalAveragePool", {d})});
  b.output(b.node("Gemm", {flat, b.constant(rounded(random.f32({8, 5})))}, {{"kerf_precision", std::string("bf16")}}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), kTolerance);
  for (const StepInfo& step : ran.steps) {
    if (step.is_layer) {
      EXPECT_EQ(step.executes_as, narrow_layer()) << step.name;
    }
    if (step.op == "MaxPool") {
      EXPECT_EQ(step.executes_as, has_bf16() ? "bf16" : "f32");
    }
  }
  EXPECT_EQ(count_steps(ran, "convert"), has_bf16() ? 2 : 0) << "at the entry, and after the mean, which is f32";
  EXPECT_EQ(count_steps(ran, "Add"), 0);
}

TEST(Bf16, MixesWithF32AndIntegerLayers) {
  Random random;
  Builder b;
  const std::string x = b.input({1, 8, 8, 8});
  const std::string a = b.node("Conv", {x, b.constant(random.f32({8, 8, 1, 1}, 0.3F))});
  const std::string c = b.node("Relu", {b.node("Conv", {a, b.constant(rounded(random.f32({8, 8, 1, 1}, 0.3F)))}, with_pads(0))});
  const std::string q = b.rounded(c, 0.05F, 0, DType::kU8);
  const std::string w = b.integer_weights(random.bytes(DType::kS8, {8, 8, 1, 1}, -127, 127), {0.002F}, 0);
  const std::string d = b.node("Relu", {b.node("Conv", {q, w})});
  b.output(b.node("Conv", {d, b.constant(rounded(random.f32({4, 8, 1, 1}, 0.3F)))}, with_pads(0)));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), kTolerance * 2);
  std::vector<std::string> formats;
  for (const StepInfo& step : ran.steps) {
    if (step.is_layer) formats.push_back(step.executes_as);
  }
  EXPECT_EQ(formats, (std::vector<std::string>{"f32", narrow_layer(), full_bytes(), narrow_layer()}));
}

}  // namespace
}  // namespace kerf::engine::testing
