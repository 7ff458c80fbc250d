// QDQ graphs run on integers, and give what integer arithmetic gives.
#include <algorithm>
#include <cmath>

#include "tests/unit/engine/support.h"
#include "workers/engine/geometry.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

int low_of(DType dtype) { return dtype == DType::kU8 ? 0 : -128; }
int high_of(DType dtype) { return dtype == DType::kU8 ? 255 : 127; }

/// Rounds a real value; `tie` is how near it was to the middle between two integers.
int quantized(double real, float scale, int zero, DType dtype, double* tie) {
  const double q = real / static_cast<double>(scale);
  *tie = std::fabs(q - std::floor(q) - 0.5);
  return static_cast<int>(std::clamp(std::nearbyint(q) + zero, static_cast<double>(low_of(dtype)), static_cast<double>(high_of(dtype))));
}

std::vector<int> integers(const Tensor& x, float scale, int zero, DType dtype) {
  std::vector<int> out;
  double tie = 0;
  for (const float v : x.to_floats()) out.push_back(quantized(static_cast<double>(v), scale, zero, dtype, &tie));
  return out;
}

struct Format {
  DType dtype;
  float scale;
  int zero;
};

struct ConvCase {
  Shape input, weights;
  std::int64_t groups, stride, pad;
  Format from, to;
  bool relu;
  int residual;  ///< 0 none, 1 quantized like the output's type, 2 f32
};

void PrintTo(const ConvCase& c, std::ostream* out) {
  *out << graph::to_string(c.input) << " * " << graph::to_string(c.weights) << " groups " << c.groups << " from "
       << graph::to_string(c.from.dtype) << " zero " << c.from.zero << " to " << graph::to_string(c.to.dtype) << " zero "
       << c.to.zero << " residual " << c.residual;
}

class IntegerConvolution : public ::testing::TestWithParam<ConvCase> {};

TEST_P(IntegerConvolution, GivesTheIntegersOfExactAccumulation) {
  const ConvCase& c = GetParam();
  Random random;
  Builder b;
  const Tensor weights = random.bytes(DType::kS8, c.weights, -127, 127);
  std::vector<float> scales;
  for (std::int64_t o = 0; o < c.weights[0]; ++o) scales.push_back(0.002F + 0.0005F * static_cast<float>(o));
  const Tensor bias = random.f32({c.weights[0]});
  const std::string x = b.rounded(b.input(c.input), c.from.scale, c.from.zero, c.from.dtype);
  std::string y = b.node("Conv", {x, b.integer_weights(weights, scales, 0), b.constant(bias)},
                         {{"group", c.groups}, {"strides", Ints{c.stride, c.stride}}, {"pads", Ints{c.pad, c.pad, c.pad, c.pad}}});
  Shape out{c.input[0], c.weights[0], (c.input[2] + 2 * c.pad - c.weights[2]) / c.stride + 1,
            (c.input[3] + 2 * c.pad - c.weights[3]) / c.stride + 1};
  const Format other{c.to.dtype, 0.031F, c.to.dtype == DType::kU8 ? 7 : 0};
  if (c.residual != 0) {
    std::string r = b.input(out);
    if (c.residual == 1) r = b.rounded(r, other.scale, other.zero, other.dtype);
    y = b.node("Add", {y, r});
  }
  if (c.relu) y = b.node("Relu", {y});
  b.output(b.rounded(y, c.to.scale, c.to.zero, c.to.dtype));
  const std::vector<Tensor> inputs = random_inputs(b.graph, random);
  const Ran ran = execute(b.graph, inputs);
  ASSERT_EQ(ran.outputs.size(), 1U);
  ASSERT_NE(layer_step(ran, "Conv"), nullptr);
  EXPECT_EQ(layer_step(ran, "Conv")->executes_as, full_bytes());
  EXPECT_EQ(count_steps(ran, "Add") + count_steps(ran, "Relu"), 0) << "they run inside the layer";

  const std::vector<int> xi = integers(inputs[0], c.from.scale, c.from.zero, c.from.dtype);
  const auto w = weights.as<std::int8_t>();
  std::vector<int> ri;
  if (c.residual == 1) ri = integers(inputs[1], other.scale, other.zero, other.dtype);
  const std::int64_t ic = c.input[1], icg = ic / c.groups, ocg = c.weights[0] / c.groups, k = c.weights[2];
  std::size_t at = 0;
  std::size_t ties = 0;
  const std::vector<float> got = ran.outputs[0].to_floats();
  for (std::int64_t n = 0; n < out[0]; ++n) {
    for (std::int64_t o = 0; o < out[1]; ++o) {
      for (std::int64_t oh = 0; oh < out[2]; ++oh) {
        for (std::int64_t ow = 0; ow < out[3]; ++ow, ++at) {
          std::int32_t sum = 0;
          for (std::int64_t i = 0; i < icg; ++i) {
            for (std::int64_t kh = 0; kh < k; ++kh) {
              for (std::int64_t kw = 0; kw < k; ++kw) {
                const std::int64_t h = oh * c.stride + kh - c.pad, v = ow * c.stride + kw - c.pad;
                if (h < 0 || v < 0 || h >= c.input[2] || v >= c.input[3]) continue;
                const auto from = static_cast<std::size_t>(((n * ic + o / ocg * icg + i) * c.input[2] + h) * c.input[3] + v);
                sum += (xi[from] - c.from.zero) * w[static_cast<std::size_t>(((o * icg + i) * k + kh) * k + kw)];
              }
            }
          }
          double real = static_cast<double>(sum) * static_cast<double>(c.from.scale) * static_cast<double>(scales[static_cast<std::size_t>(o)]) +
                        static_cast<double>(bias.as<float>()[static_cast<std::size_t>(o)]);
          if (c.residual == 1) real += (ri[at] - other.zero) * static_cast<double>(other.scale);
          if (c.residual == 2) real += static_cast<double>(inputs[1].as<float>()[at]);
          if (c.relu) real = std::max(real, 0.0);
          double tie = 0;
          const int wanted = quantized(real, c.to.scale, c.to.zero, c.to.dtype, &tie);
          const int given = static_cast<int>(std::lround(got[at] / c.to.scale)) + c.to.zero;
          if (given != wanted && std::abs(given - wanted) == 1 && tie < 1e-4) {
            ++ties;
            continue;
          }
          ASSERT_EQ(given, wanted) << "element " << at << ", seed " << random.seed();
        }
      }
    }
  }
  EXPECT_LT(ties * 100, got.size() + 100) << "only what falls between two integers may round either way";
}

const Format kU8{DType::kU8, 0.02F, 0}, kU8Shifted{DType::kU8, 0.025F, 117}, kS8{DType::kS8, 0.03F, 0}, kS8Shifted{DType::kS8, 0.03F, -9};
const Format kToU8{DType::kU8, 0.09F, 0}, kToU8Shifted{DType::kU8, 0.11F, 131}, kToS8{DType::kS8, 0.1F, 0};

INSTANTIATE_TEST_SUITE_P(
    Forms, IntegerConvolution,
    ::testing::Values(ConvCase{{1, 3, 12, 12}, {16, 3, 3, 3}, 1, 1, 1, kS8, kToU8, true, 0},
                      ConvCase{{1, 16, 12, 12}, {16, 16, 3, 3}, 1, 1, 1, kU8, kToU8, true, 0},
                      ConvCase{{1, 16, 12, 12}, {16, 16, 3, 3}, 1, 1, 1, kU8, kToU8, true, 1},
                      ConvCase{{1, 16, 12, 12}, {16, 16, 3, 3}, 1, 1, 1, kU8, kToU8, true, 2},
                      ConvCase{{2, 16, 9, 9}, {24, 16, 3, 3}, 1, 2, 1, kU8Shifted, kToU8Shifted, false, 1},
                      ConvCase{{2, 16, 9, 9}, {24, 16, 1, 1}, 1, 2, 0, kU8Shifted, kToS8, false, 0},
                      ConvCase{{1, 13, 10, 10}, {11, 13, 3, 3}, 1, 1, 1, kS8Shifted, kToU8Shifted, true, 1},
                      ConvCase{{1, 16, 11, 11}, {16, 1, 3, 3}, 16, 1, 1, kU8, kToU8, true, 0},
                      ConvCase{{1, 16, 11, 11}, {16, 1, 3, 3}, 16, 2, 1, kU8Shifted, kToU8Shifted, false, 0},
                      ConvCase{{1, 12, 8, 8}, {18, 4, 3, 3}, 3, 1, 1, kU8, kToS8, false, 0},
                      ConvCase{{1, 16, 8, 8}, {16, 16, 3, 3}, 1, 1, 1, kS8, kToS8, false, 1},
                      ConvCase{{1, 64, 8, 8}, {32, 64, 1, 1}, 1, 1, 0, kU8, kToU8, true, 1}));

TEST(IntegerGemm, GivesTheIntegersOfExactAccumulation) {
  Random random;
  for (const bool transposed : {true, false}) {
    for (const Format& from : {kU8, kU8Shifted, kS8}) {
      Builder b;
      const Tensor weights = random.bytes(DType::kS8, transposed ? Shape{9, 40} : Shape{40, 9}, -127, 127);
      std::vector<float> scales;
      for (int o = 0; o < 9; ++o) scales.push_back(0.001F + 0.0004F * static_cast<float>(o));
      const Tensor bias = random.f32({9});
      const std::string x = b.rounded(b.input({5, 40}), from.scale, from.zero, from.dtype);
      b.output(b.node("Gemm", {x, b.integer_weights(weights, scales, transposed ? 0 : 1), b.constant(bias)}, {{"transB", std::int64_t{transposed}}}));
      const std::vector<Tensor> inputs = random_inputs(b.graph, random);
      const Ran ran = execute(b.graph, inputs);
      ASSERT_EQ(ran.outputs.size(), 1U);
      EXPECT_EQ(layer_step(ran, "Gemm")->executes_as, full_bytes());
      const std::vector<int> xi = integers(inputs[0], from.scale, from.zero, from.dtype);
      for (std::size_t m = 0; m < 5; ++m) {
        for (std::size_t n = 0; n < 9; ++n) {
          std::int32_t sum = 0;
          for (std::size_t k = 0; k < 40; ++k) {
            sum += (xi[m * 40 + k] - from.zero) * weights.as<std::int8_t>()[transposed ? n * 40 + k : k * 9 + n];
          }
          const float wanted = static_cast<float>(sum) * (from.scale * scales[n]) + bias.as<float>()[n];
          ASSERT_NEAR(ran.outputs[0].as<float>()[m * 9 + n], wanted, 1e-5F * (1.0F + std::fabs(wanted)));
        }
      }
    }
  }
}

/// Compares with the reference kernels, which round each value as the graph says, in steps of the
/// output's scale: where sums fall next to a tie, a value may move by a step.
Ran expect_within_steps(const Graph& graph, const std::vector<Tensor>& inputs, float scale, double share_off = 0.02) {
  const auto wanted = run_reference(graph, inputs);
  EXPECT_TRUE(wanted.has_value());
  Ran ran = execute(graph, inputs);
  if (!wanted.has_value() || ran.outputs.empty()) return ran;
  for (std::size_t o = 0; o < ran.outputs.size(); ++o) {
    const std::vector<float> got = ran.outputs[o].to_floats();
    const std::vector<float> want = (*wanted)[o].to_floats();
    EXPECT_EQ(got.size(), want.size());
    std::size_t off = 0;
    for (std::size_t i = 0; i < got.size() && i < want.size(); ++i) {
      if (std::fabs(got[i] - want[i]) > 1e-4F * scale + 1e-6F) ++off;
      EXPECT_LE(std::fabs(got[i] - want[i]), 1.01F * scale) << "output " << o << " element " << i;
    }
    EXPECT_LE(static_cast<double>(off), share_off * static_cast<double>(got.size()) + 1) << "output " << o;
  }
  return ran;
}

TEST(IntegerFlow, BytesStayBytesThroughPoolConcatFlattenAndMean) {
  Random random;
  Builder b;
  const std::string x = b.rounded(b.input({2, 3, 16, 16}), 0.03F, 0, DType::kS8);
  const auto conv = [&](const std::string& v, std::int64_t from, std::int64_t to) {
    const std::string w = b.integer_weights(random.bytes(DType::kS8, {to, from, 3, 3}, -127, 127), std::vector<float>(static_cast<std::size_t>(to), 0.002F), 0);
    return b.node("Relu", {b.node("Conv", {v, w, b.constant(random.f32({to}))}, {{"pads", Ints{1, 1, 1, 1}}})});
  };
  const std::string a = b.rounded(conv(x, 3, 16), 0.02F, 0, DType::kU8);
  // The pair stands behind the pool here, and before it there.
  const std::string pooled = b.rounded(b.node("MaxPool", {conv(a, 16, 16)}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}), 0.1F, 0, DType::kU8);
  const std::string p2 = b.node("MaxPool", {b.rounded(conv(a, 16, 8), 0.1F, 0, DType::kU8)}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  const std::string both = b.node("Concat", {pooled, p2}, {{"axis", std::int64_t{1}}});
  const std::string c = b.rounded(conv(both, 24, 8), 0.3F, 0, DType::kU8);
  const std::string flat = b.node("Flatten", {c});
  const std::string w = b.integer_weights(random.bytes(DType::kS8, {4, 512}, -127, 127), std::vector<float>(4, 0.001F), 0);
  b.output(b.node("Gemm", {flat, w, b.constant(random.f32({4}))}, {{"transB", std::int64_t{1}}}));
  b.output(b.node("GlobalAveragePool", {c}));
  const Ran ran = expect_within_steps(b.graph, random_inputs(b.graph, random), 1.0F, 1.0);
  for (const StepInfo& step : ran.steps) {
    if (step.is_layer) {
      EXPECT_EQ(step.executes_as, full_bytes()) << step.name;
    }
    if (has_vnni()) {
      EXPECT_NE(step.op, "dequantize") << step.name << ": nothing needs the values as f32";
    }
    if (step.op == "MaxPool" || step.op == "Concat") {
      EXPECT_EQ(step.executes_as, "u8");
    }
  }
  EXPECT_EQ(count_steps(ran, "quantize"), 1) << "at the entry only";
}

// Values before a mean over places may be bf16, which integer kernels of a processor without AVX-512 don't give.
TEST(IntegerFlow, TheLastConvolutionBeforeAMeanHasAKernelOfItsOwnOnEveryProcessor) {
  Random random;
  Builder b;
  const std::string x = b.rounded(b.input({1, 32, 8, 8}), 0.03F, 0, DType::kU8);
  const auto conv = [&](std::int64_t k) {
    const std::string w = b.integer_weights(random.bytes(DType::kS8, {32, 32, k, k}, -64, 63), std::vector<float>(32, 0.004F), 0);
    return b.node("Conv", {x, w, b.constant(random.f32({32}))}, {{"pads", Ints{k / 2, k / 2, k / 2, k / 2}}});
  };
  b.output(b.node("GlobalAveragePool", {conv(3)}));
  b.output(b.node("GlobalAveragePool", {b.node("Relu", {b.node("Add", {conv(3), conv(1)})})}));
  // Means of what bf16 may hold, with eight bits.
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), 1.0F / 256);
  EXPECT_EQ(count_steps(ran, "Conv"), 3);
  for (const StepInfo& step : ran.steps) EXPECT_FALSE(step.kernel.starts_with("ref")) << step.name << ": " << step.kernel;
}

TEST(IntegerFlow, ResidualOfAnotherLayerWithoutRoundingIsAddedAsF32) {
  Random random;
  Builder b;
  const std::string x = b.rounded(b.input({1, 16, 8, 8}), 0.03F, 0, DType::kU8);
  const auto conv = [&](const std::string& v, std::int64_t k) {
    const std::string w = b.integer_weights(random.bytes(DType::kS8, {16, 16, k, k}, -127, 127), std::vector<float>(16, 0.002F), 0);
    return b.node("Conv", {v, w}, {{"pads", Ints{k / 2, k / 2, k / 2, k / 2}}});
  };
  const std::string sum = b.node("Relu", {b.node("Add", {conv(x, 3), conv(x, 1)})});
  b.output(b.rounded(sum, 0.1F, 0, DType::kU8));
  const Ran ran = expect_within_steps(b.graph, random_inputs(b.graph, random), 0.1F);
  EXPECT_EQ(count_steps(ran, "Add"), 0);
}

TEST(IntegerFlow, PairsAroundEveryOperatorAsOnnxRuntimeWritesThem) {
  Random random;
  Builder b;
  const auto round = [&](const std::string& v, float scale, int zero) { return b.rounded(v, scale, zero, DType::kU8); };
  const std::string x = round(b.input({1, 8, 10, 10}), 0.03F, 120);
  const auto conv = [&](const std::string& v) {
    const std::string w = b.integer_weights(random.bytes(DType::kS8, {8, 8, 3, 3}, -127, 127), {0.003F}, 0);
    const std::string bias = b.node("DequantizeLinear", {b.constant(Tensor::of<std::int32_t>(DType::kS32, {8}, {100, -50, 7, 8, 9, -1000, 3, 2})), b.constant(Tensor::scalar(0.00009F))});
    return b.node("Conv", {v, w, bias}, {{"pads", Ints{1, 1, 1, 1}}});
  };
  const std::string a = round(b.node("Relu", {conv(x)}), 0.05F, 3);
  const std::string c = round(conv(a), 0.07F, 130);
  const std::string sum = round(b.node("Add", {c, x}), 0.08F, 125);
  const std::string act = round(b.node("Sigmoid", {sum}), 0.004F, 0);
  const std::string pool = round(b.node("AveragePool", {act}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}), 0.004F, 0);
  const std::string both = round(b.node("Concat", {pool, round(b.node("MaxPool", {sum}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}), 0.08F, 125)}, {{"axis", std::int64_t{1}}}), 0.09F, 111);
  const std::string mean = round(b.node("GlobalAveragePool", {both}), 0.05F, 100);
  b.output(b.node("Flatten", {mean}));
  const Ran ran = expect_within_steps(b.graph, random_inputs(b.graph, random), 0.1F, 0.2);
  for (const StepInfo& step : ran.steps) {
    if (step.is_layer) {
      EXPECT_EQ(step.executes_as, full_bytes()) << step.name;
    }
  }
}

TEST(WeightOnly, RoundedWeightsRunInF32AndSaySo) {
  Random random;
  Builder b;
  const std::string x = b.input({1, 4, 6, 6});
  const std::string w = b.integer_weights(random.bytes(DType::kS8, {5, 4, 3, 3}, -7, 7), {0.1F, 0.2F, 0.1F, 0.3F, 0.1F}, 0, 4);
  b.output(b.node("Conv", {x, w}));
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(36));
  EXPECT_EQ(layer_step(ran, "Conv")->executes_as, "f32 (4-bit weights)");
}

TEST(IntegerWeights, FormsThatIntegerKernelsCannotTakeRunInF32) {
  Random random;
  const auto run_with = [&](const Tensor& values, const Tensor& zeros, std::int64_t axis) {
    Builder b;
    const std::string x = b.rounded(b.input({2, 6}), 0.03F, 128, DType::kU8);
    const std::string scale = b.constant(random.positive(zeros.shape(), 0.01F, 0.02F));
    const std::string w = b.node("DequantizeLinear", {b.constant(values), scale, b.constant(zeros)}, {{"axis", axis}});
    b.output(b.node("MatMul", {x, w}));
    return expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(6) + 1e-6F);
  };
  const Tensor uneven = Tensor::of<std::uint8_t>(DType::kU8, {5}, {100, 100, 90, 100, 100});
  EXPECT_EQ(layer_step(run_with(random.bytes(DType::kU8, {6, 5}, 0, 255), uneven, 1), "MatMul")->executes_as, "f32 (8-bit weights)");
  const Tensor shifted = Tensor::of<std::uint8_t>(DType::kU8, {}, {100});
  EXPECT_EQ(layer_step(run_with(random.bytes(DType::kU8, {6, 5}, 0, 255), shifted, 1), "MatMul")->executes_as, full_bytes());
  EXPECT_EQ(layer_step(run_with(random.bytes(DType::kS8, {6, 5}, -127, 127), Tensor(DType::kS8, {6}), 0), "MatMul")->executes_as, "f32 (8-bit weights)");
  const Tensor middle = Tensor::of<std::uint8_t>(DType::kU8, {}, {128});
  EXPECT_EQ(layer_step(run_with(random.bytes(DType::kU8, {6, 5}, 0, 255), middle, 1), "MatMul")->executes_as, full_bytes());
}

TEST(Quantize, TiesToEvenSaturationAndOddFormats) {
  Builder b;
  const std::string x = b.input({1, 9});
  b.output(b.rounded(x, 1.0F, 10, DType::kU8));
  b.output(b.rounded(x, 2.0F, -3, DType::kS8));
  const Tensor zeros = Tensor::of<std::int16_t>(DType::kS16, {}, {5});
  const std::string wide = b.node("QuantizeLinear", {x, b.constant(Tensor::scalar(0.01F)), b.constant(zeros)});
  b.output(b.node("DequantizeLinear", {wide, b.constant(Tensor::scalar(0.01F)), b.constant(zeros)}));
  expect_like_reference(b.graph, {Tensor::f32({1, 9}, {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 1e9F, -1e9F, 3.0F, -7.0F})}, 0.0F);
}

TEST(DynamicQuantization, GivesWhatThePlainKernelsGive) {
  Random random;
  Builder b;
  const std::string x = b.input({3, 8});
  b.node("DynamicQuantizeLinear", {x}, {}, 3);
  const std::vector<std::string> q = b.graph.nodes.back().outputs;
  const std::string w = b.constant(random.bytes(DType::kS8, {8, 4}, -127, 127));
  const std::string product = b.node("MatMulInteger", {q[0], w, q[2], b.constant(Tensor(DType::kS8, {}))});
  const std::string real = b.node("Cast", {product}, {{"to", std::int64_t{1}}});
  b.output(b.node("Mul", {real, b.node("Mul", {q[1], b.constant(Tensor::scalar(0.01F))})}));
  expect_like_reference(b.graph, random_inputs(b.graph, random), 1e-6F);
}

}  // namespace
}  // namespace kerf::engine::testing
