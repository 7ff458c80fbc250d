// The vectorized kernels of light operators against the plain ones, on random shapes: that they
// give the same, and that they are what runs.
#include <cmath>

#include "tests/unit/engine/support.h"
#include "workers/engine/kernels/lookup.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

/// The graph's nodes are what is tested: none of them runs as a plain kernel.
void expect_light(const Builder& b, const std::vector<Tensor>& inputs, float tolerance, int threads = 1) {
  const Ran ran = expect_like_reference(b.graph, inputs, tolerance, threads);
  for (const StepInfo& step : ran.steps) EXPECT_NE(step.kernel, "kerf:reference") << step.op;
}

Tensor whole(Random& random, DType dtype, const Shape& shape, std::int64_t low, std::int64_t high) {
  Tensor out(dtype, shape);
  const auto fill = [&]<class T>(T) {
    for (T& v : out.mutable_as<T>()) v = static_cast<T>(low + random.below(high - low + 1));
  };
  switch (graph::element_size(dtype)) {
    case 1: fill(std::int8_t{}); break;
    case 4: fill(std::int32_t{}); break;
    default: fill(std::int64_t{}); break;
  }
  return out;
}

Shape some_shape(Random& random, std::int64_t least_rank, std::int64_t most_rank, std::int64_t most) {
  Shape shape(static_cast<std::size_t>(least_rank + random.below(most_rank - least_rank + 1)));
  for (auto& extent : shape) extent = 1 + random.below(most);
  return shape;
}

std::string whole_constant(Builder& b, const Ints& values) {
  return b.constant(Tensor::s64({static_cast<std::int64_t>(values.size())}, values));
}

/// One output of each type that a graph may give.
void give(Builder& b, const std::string& value, DType dtype = DType::kF32) { b.graph.outputs.push_back({value, dtype, {}}); }

TEST(BytePooling, EveryWindowAndChannelCountGivesTheMaximum) {
  Random random(11);
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE("round " + std::to_string(round) + ", seed " + std::to_string(random.seed()));
    const bool planar = random.chance(0.8);
    const DType dtype = random.chance(0.5) ? DType::kU8 : DType::kS8;
    Shape shape{1 + random.below(3), 1 + random.below(random.chance(0.3) ? 80 : 12)};
    Ints kernel, strides, dilations, pads;
    for (int d = 0; d < (planar ? 2 : 1); ++d) {
      shape.push_back(4 + random.below(14));
      kernel.push_back(1 + random.below(4));
      strides.push_back(1 + random.below(3));
      dilations.push_back(kernel.back() > 1 && shape.back() > 7 ? 1 + random.below(2) : 1);
      pads.push_back(random.below(kernel.back()));
    }
    for (std::size_t d = 0, n = pads.size(); d < n; ++d) pads.push_back(random.below(kernel[d]));
    Builder b;
    const std::string x = b.quantize(b.input(shape), 0.05F, dtype == DType::kU8 ? 100 : -3, dtype);
    const std::string y = b.node("MaxPool", {x}, {{"kernel_shape", kernel}, {"strides", strides}, {"dilations", dilations}, {"pads", pads},
                                                  {"ceil_mode", random.below(2)}});
    b.output(b.dequantize(y, 0.05F, dtype == DType::kU8 ? 100 : -3, dtype));
    expect_light(b, random_inputs(b.graph, random), 0.0F, 1 + static_cast<int>(random.below(2)));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(ByteTables, EveryByteAtEveryLengthAndInPlace) {
  Random random(15);
  std::vector<std::uint8_t> table(256);
  for (auto& v : table) v = static_cast<std::uint8_t>(random.below(256));
  for (const std::size_t n : {1U, 63U, 64U, 65U, 128U, 700U}) {
    std::vector<std::uint8_t> from(n);
    for (std::size_t i = 0; i < n; ++i) from[i] = static_cast<std::uint8_t>(n > 256 ? i : 255 - static_cast<std::size_t>(random.below(256)));
    std::vector<std::uint8_t> wanted;
    for (const std::uint8_t v : from) wanted.push_back(table[v]);
    std::vector<std::uint8_t> to(n);
    look_up(from.data(), n, table.data(), to.data());
    EXPECT_EQ(to, wanted) << n;
    look_up(from.data(), n, table.data(), from.data());
    EXPECT_EQ(from, wanted) << n;
  }
}

TEST(QuantizedImages, RoundedAndInterleavedInOneStep) {
  Random random(12);
  for (const std::int64_t channels : {1, 2, 3, 4, 5}) {
    for (const DType dtype : {DType::kU8, DType::kS8}) {
      Builder b;
      const std::string x = b.input({2, channels, 37, 41});
      const std::string q = b.rounded(x, 0.03F, dtype == DType::kU8 ? 117 : -4, dtype);
      const std::string w = b.integer_weights(random.bytes(DType::kS8, {6, channels, 3, 3}, -127, 127), {0.01F}, 0);
      b.output(b.node("Conv", {q, w}));
      const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(9 * channels));
      EXPECT_EQ(count_steps(ran, "reorder") > 1, channels == 5) << channels;
      EXPECT_EQ(std::count_if(ran.steps.begin(), ran.steps.end(), [](const StepInfo& s) { return s.kernel == "kerf:quantize_pixels"; }),
                channels > 1 && channels < 5 ? 1 : 0);
    }
  }
}

TEST(FloatImages, OfFewChannelsAreInterleaved) {
  Random random(13);
  for (const std::int64_t channels : {2, 3, 4}) {
    Builder b;
    const std::string x = b.input({3, channels, 29, 70});
    b.output(b.node("Conv", {x, b.constant(random.f32({5, channels, 3, 3}))}));
    expect_like_reference(b.graph, random_inputs(b.graph, random), sum_tolerance(9 * channels), 2);
  }
}

TEST(LightNormalization, RowsOfEveryLength) {
  Random random(21);
  for (int round = 0; round < 40; ++round) {
    Builder b;
    const Shape shape = some_shape(random, 1, 4, round % 4 == 0 ? 70 : 9);
    const std::int64_t axis = random.below(static_cast<std::int64_t>(shape.size()));
    const Shape tail(shape.begin() + axis, shape.end());
    const bool rms = random.chance(0.3);
    std::vector<std::string> inputs{b.input(shape), b.constant(random.f32(tail))};
    if (!rms && random.chance(0.6)) inputs.push_back(b.constant(random.f32(tail)));
    const bool moments = !rms && random.chance(0.4);
    const std::string y = b.node(rms ? "RMSNormalization" : "LayerNormalization", inputs, {{"axis", axis}, {"epsilon", 1e-3F}}, moments ? 3 : 1);
    b.output(y);
    if (moments) {
      b.output(b.graph.nodes.back().outputs[1]);
      b.output(b.graph.nodes.back().outputs[2]);
    }
    std::int64_t depth = 1;
    for (const std::int64_t extent : tail) depth *= extent;
    expect_light(b, random_inputs(b.graph, random), 4 * sum_tolerance(depth), 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightNormalization, GroupsAndInstancesInBothLayouts) {
  Random random(22);
  for (int round = 0; round < 40; ++round) {
    Builder b;
    const std::int64_t groups = 1 + random.below(4);
    const std::int64_t channels = groups * (1 + random.below(5));
    Shape shape{1 + random.below(3), channels, 2 + random.below(9), 2 + random.below(9)};
    std::string x = b.input(shape);
    // After a convolution the value lies in channels-last order.
    if (round % 2 == 0) x = b.node("Conv", {x, b.constant(random.f32({channels, channels, 1, 1}))});
    const std::vector<std::string> inputs{x, b.constant(random.f32({channels})), b.constant(random.f32({channels}))};
    if (round % 3 == 0) b.output(b.node("InstanceNormalization", inputs, {{"epsilon", 1e-2F}}));
    else b.output(b.node("GroupNormalization", inputs, {{"num_groups", groups}, {"epsilon", 1e-2F}}));
    expect_light(b, random_inputs(b.graph, random), 20 * sum_tolerance(channels * 100), 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightNormalization, LocalResponse) {
  Random random(23);
  for (const std::int64_t size : {1, 2, 3, 5, 8}) {
    for (const float beta : {0.75F, 0.5F, 1.3F}) {
      Builder b;
      b.output(b.node("LRN", {b.input({2, 4 + random.below(30), 5, 3})}, {{"size", size}, {"alpha", 0.3F}, {"beta", beta}, {"bias", 1.5F}}));
      expect_light(b, random_inputs(b.graph, random), 2e-6F);
    }
  }
}

TEST(LightReduction, EveryFoldOverEveryAxes) {
  Random random(31);
  const char* ops[] = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"};
  for (int round = 0; round < 150; ++round) {
    const std::string op = ops[round % 10];
    Builder b;
    const Shape shape = some_shape(random, 1, 5, round % 3 == 0 ? 40 : 5);
    if (*graph::element_count(shape) > 2000000) continue;
    Ints axes;
    std::int64_t depth = 1;
    bool mixed = false;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      // LogSumExp over axes with others between them stays plain.
      const bool apart = !axes.empty() && axes.back() + 1 != static_cast<std::int64_t>(i);
      if (!random.chance(0.5) || (op == "ReduceLogSumExp" && apart)) continue;
      mixed = mixed || apart;
      axes.push_back(static_cast<std::int64_t>(i));
      depth *= shape[i];
    }
    if (axes.empty()) {
      for (const std::int64_t extent : shape) depth *= extent;
    }
    std::vector<std::string> inputs{b.input(shape)};
    if (!axes.empty()) inputs.push_back(whole_constant(b, axes));
    b.output(b.node(op, inputs, {{"keepdims", random.below(2)}}));
    SCOPED_TRACE(op + " of " + graph::to_string(shape) + " over " + graph::to_string(axes));
    std::vector<Tensor> data{op == "ReduceProd" || op == "ReduceLogSum" ? random.positive(shape, 0.9F, 1.1F) : random.f32(shape)};
    expect_light(b, data, (op == "ReduceLogSum" || op == "ReduceLogSumExp" ? 2 : 1) * sum_tolerance(depth) * (op == "ReduceProd" ? std::sqrt(static_cast<float>(depth)) : 1), 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightReduction, IntegersAreExact) {
  Random random(32);
  const char* ops[] = {"ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare"};
  for (int round = 0; round < 48; ++round) {
    const DType dtype = round % 2 == 0 ? DType::kS32 : DType::kS64;
    Builder b;
    const Shape shape = some_shape(random, 1, 4, 9);
    const std::string y = b.node(ops[round % 6], {b.input(shape, dtype), whole_constant(b, {random.below(static_cast<std::int64_t>(shape.size()))})});
    give(b, y, dtype);
    expect_light(b, {whole(random, dtype, shape, -50, 50)}, 0.0F);
  }
}

TEST(LightReduction, ExtremaAndTheirPlaces) {
  Random random(33);
  for (int round = 0; round < 64; ++round) {
    const DType dtypes[] = {DType::kF32, DType::kS32, DType::kS64, DType::kF32};
    const DType dtype = dtypes[round % 4];
    Builder b;
    const Shape shape = some_shape(random, 1, 4, round % 5 == 0 ? 60 : 7);
    const std::string y = b.node(round % 8 < 4 ? "ArgMax" : "ArgMin", {b.input(shape, dtype)},
                                 {{"axis", random.below(static_cast<std::int64_t>(shape.size()))}, {"keepdims", random.below(2)}, {"select_last_index", random.below(2)}});
    give(b, y, DType::kS64);
    // Few values, so that many are equal.
    Tensor x = whole(random, dtype == DType::kF32 ? DType::kS32 : dtype, shape, -3, 3);
    if (dtype == DType::kF32) x = x.to_f32();
    expect_light(b, {x}, 0.0F, 1 + round % 2);
  }
}

TEST(LightLogic, ComparisonsWithBroadcasting) {
  Random random(41);
  const char* ops[] = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"};
  for (int round = 0; round < 96; ++round) {
    const std::string op = ops[round % 8];
    const bool logical = round % 8 > 4;
    const DType dtypes[] = {DType::kF32, DType::kS64, DType::kS32};
    const DType dtype = logical ? DType::kBool : dtypes[round / 8 % 3];
    Shape left = some_shape(random, 1, 4, round % 5 == 0 ? 33 : 6);
    Shape right = left;
    for (auto& extent : left) extent = random.chance(0.25) ? 1 : extent;
    for (auto& extent : right) extent = random.chance(0.25) ? 1 : extent;
    if (random.chance(0.3)) right.erase(right.begin());
    const auto made = [&](const Shape& shape) {
      if (dtype == DType::kF32) return whole(random, DType::kS32, shape, -2, 2).to_f32();
      return logical ? random.bytes(DType::kBool, shape, 0, 1) : whole(random, dtype, shape, -2, 2);
    };
    Builder b;
    const std::string y = b.node(op, {b.input(left, dtype), b.input(right, dtype)});
    give(b, y, DType::kBool);
    give(b, b.node("Not", {y}), DType::kBool);
    expect_light(b, {made(left), made(right)}, 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightLogic, WhereSpreadsAllThree) {
  Random random(42);
  for (int round = 0; round < 48; ++round) {
    const DType dtypes[] = {DType::kF32, DType::kS64, DType::kS32, DType::kU8};
    const DType dtype = dtypes[round % 4];
    const Shape shape = some_shape(random, 1, 4, round % 5 == 0 ? 40 : 6);
    const auto part = [&] {
      Shape out = shape;
      for (auto& extent : out) extent = random.chance(0.3) ? 1 : extent;
      return out;
    };
    const Shape a = part();
    const Shape c = part();
    Builder b;
    const std::string y = b.node("Where", {b.input(c, DType::kBool), b.input(a, dtype), b.input(shape, dtype)});
    give(b, y, dtype);
    const auto made = [&](const Shape& s) { return dtype == DType::kF32 ? random.f32(s) : whole(random, dtype, s, 0, 100); };
    expect_light(b, {random.bytes(DType::kBool, c, 0, 1), made(a), made(shape)}, 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightLogic, IntegerArithmeticWithBroadcasting) {
  Random random(43);
  const char* ops[] = {"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"};
  for (int round = 0; round < 84; ++round) {
    const DType dtypes[] = {DType::kS64, DType::kS32};
    const DType dtype = dtypes[round / 7 % 2];
    Shape left = some_shape(random, 1, 4, round % 5 == 0 ? 33 : 6);
    Shape right = left;
    for (auto& extent : left) extent = random.chance(0.3) ? 1 : extent;
    for (auto& extent : right) extent = random.chance(0.3) ? 1 : extent;
    Builder b;
    give(b, b.node(ops[round % 7], {b.input(left, dtype), b.input(right, dtype)}), dtype);
    expect_light(b, {whole(random, dtype, left, -40, 40), whole(random, dtype, right, -5, 5)}, 0.0F);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightCast, BetweenAllTypesItKnows) {
  Random random(44);
  // ONNX's numbers of them.
  const std::pair<DType, std::int64_t> types[] = {{DType::kF32, 1}, {DType::kU8, 2}, {DType::kS8, 3}, {DType::kS32, 6}, {DType::kS64, 7}, {DType::kBool, 9}};
  for (const auto& [from, from_code] : types) {
    for (const auto& [to, to_code] : types) {
      if (from == to) continue;
      Builder b;
      give(b, b.node("Cast", {b.input({3, 501}, from)}, {{"to", to_code}}), to);
      Tensor x(from, {3, 501});
      if (from == DType::kF32) {
        x = random.f32({3, 501}, 200.0F);
        const float odd[] = {NAN, INFINITY, -INFINITY, 1e20F, -1e20F, 2147483648.0F, -0.0F, 255.5F, -128.7F};
        std::copy(std::begin(odd), std::end(odd), x.mutable_as<float>().begin());
      } else {
        x = from == DType::kBool ? random.bytes(from, {3, 501}, 0, 1) : whole(random, from, {3, 501}, from == DType::kU8 ? 0 : -100, 100);
      }
      expect_light(b, {x}, 0.0F);
    }
  }
}

TEST(LightGather, RowsElementsAndTuples) {
  Random random(51);
  for (int round = 0; round < 60; ++round) {
    const Shape shape = some_shape(random, 1, 4, 7);
    const auto rank = static_cast<std::int64_t>(shape.size());
    const DType index = random.chance(0.5) ? DType::kS64 : DType::kS32;
    const std::int64_t axis = random.below(rank);
    const std::int64_t extent = shape[static_cast<std::size_t>(axis)];
    Builder b;
    const std::string x = b.input(shape);
    Shape wanted;
    std::string y;
    Tensor indices;
    if (round % 3 == 0) {
      wanted = some_shape(random, 0, 3, 5);
      indices = whole(random, index, wanted, -extent, extent - 1);
      y = b.node("Gather", {x, b.input(wanted, index)}, {{"axis", axis}});
    } else if (round % 3 == 1) {
      wanted = shape;
      wanted[static_cast<std::size_t>(axis)] = 1 + random.below(9);
      indices = whole(random, index, wanted, -extent, extent - 1);
      y = b.node("GatherElements", {x, b.input(wanted, index)}, {{"axis", axis}});
    } else {
      const std::int64_t batch = random.below(rank);
      const std::int64_t depth = 1 + random.below(rank - batch);
      wanted.assign(shape.begin(), shape.begin() + batch);
      wanted.push_back(1 + random.below(4));
      wanted.push_back(depth);
      std::int64_t least = 1000;
      for (std::int64_t d = batch; d < batch + depth; ++d) least = std::min(least, shape[static_cast<std::size_t>(d)]);
      indices = whole(random, DType::kS64, wanted, -least, least - 1);
      y = b.node("GatherND", {x, b.input(wanted, DType::kS64)}, {{"batch_dims", batch}});
    }
    b.output(y);
    expect_light(b, {random.f32(shape), indices}, 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightGather, AnIndexOutsideIsSaid) {
  Builder b;
  b.output(b.node("Gather", {b.input({4, 2}), b.input({3}, DType::kS64)}));
  const auto simple = simplify(b.graph);
  ASSERT_TRUE(simple.has_value());
  auto executor = Executor::compile(*simple, {0, 1});
  ASSERT_TRUE(executor.has_value()) << executor.error().message;
  const Tensor x(DType::kF32, {4, 2});
  const Tensor i = Tensor::s64({3}, {0, 4, 1});
  Tensor y(DType::kF32, {3, 2});
  const void* from[] = {x.raw(), i.raw()};
  void* to[] = {y.mutable_raw()};
  EXPECT_THROW((*executor)->run(from, to), std::runtime_error);
}

TEST(LightScatter, ElementsTuplesOneHotAndTriangles) {
  Random random(52);
  for (int round = 0; round < 60; ++round) {
    const Shape shape = some_shape(random, 2, 4, 7);
    const auto rank = static_cast<std::int64_t>(shape.size());
    const std::int64_t axis = random.below(rank);
    const std::int64_t extent = shape[static_cast<std::size_t>(axis)];
    Builder b;
    const std::string x = b.input(shape);
    std::vector<Tensor> data{random.f32(shape)};
    if (round % 4 == 0) {
      Shape wanted = shape;
      wanted[static_cast<std::size_t>(axis)] = 1 + random.below(extent);
      b.output(b.node("ScatterElements", {x, b.input(wanted, DType::kS64), b.input(wanted)}, {{"axis", axis}}));
      data.push_back(whole(random, DType::kS64, wanted, -extent, extent - 1));
      data.push_back(random.f32(wanted));
    } else if (round % 4 == 1) {
      const std::int64_t depth = 1 + random.below(rank);
      const Shape wanted{3, depth};
      Shape updates{3};
      updates.insert(updates.end(), shape.begin() + depth, shape.end());
      const std::int64_t least = *std::min_element(shape.begin(), shape.end());
      b.output(b.node("ScatterND", {b.node("Relu", {x}), b.input(wanted, DType::kS64), b.input(updates)}));
      data.push_back(whole(random, DType::kS64, wanted, -least, least - 1));
      data.push_back(random.f32(updates));
    } else if (round % 4 == 2) {
      b.graph.inputs.clear();
      const std::string y = b.node("OneHot", {b.input(shape, DType::kS64), b.constant(Tensor::s64({}, {6})), b.constant(Tensor::f32({2}, {-1, 3}))},
                                   {{"axis", random.below(rank + 1)}});
      b.output(y);
      data = {whole(random, DType::kS64, shape, -8, 8)};
    } else {
      b.output(b.node("Trilu", {x, b.constant(Tensor::s64({}, {random.below(9) - 4}))}, {{"upper", random.below(2)}}));
    }
    expect_light(b, data, 0.0F);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightOrdering, TopKAndRunningSums) {
  Random random(53);
  for (int round = 0; round < 60; ++round) {
    const Shape shape = some_shape(random, 1, 3, round % 4 == 0 ? 60 : 8);
    const std::int64_t axis = random.below(static_cast<std::int64_t>(shape.size()));
    const std::int64_t extent = shape[static_cast<std::size_t>(axis)];
    Builder b;
    const std::string x = b.input(shape);
    // Few values, so that many are equal.
    Tensor data = whole(random, DType::kS32, shape, -4, 4).to_f32();
    if (round % 2 == 0) {
      b.output(b.node("TopK", {x, whole_constant(b, {1 + random.below(extent)})}, {{"axis", axis}, {"largest", random.below(2)}}, 2));
      give(b, b.graph.nodes.back().outputs[1], DType::kS64);
      if (random.chance(0.3)) data.mutable_as<float>()[0] = NAN;
      if (random.chance(0.3)) data.mutable_as<float>().back() = -0.0F;
    } else {
      b.output(b.node("CumSum", {x, b.constant(Tensor::s64({}, {axis}))}, {{"exclusive", random.below(2)}, {"reverse", random.below(2)}}));
    }
    expect_light(b, {data}, 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightResize, EveryModeInBothLayouts) {
  Random random(61);
  const char* modes[] = {"nearest", "linear", "cubic"};
  const char* positions[] = {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"};
  for (int round = 0; round < 72; ++round) {
    const std::string mode = modes[round % 3];
    Builder b;
    std::string x = b.input({1 + random.below(2), 1 + random.below(6), 3 + random.below(7), 3 + random.below(7)});
    const Shape shape = b.graph.inputs[0].shape;
    if (round % 2 == 0) x = b.node("Conv", {x, b.constant(random.f32({shape[1], shape[1], 1, 1}))});
    std::map<std::string, Attribute> attributes{{"mode", mode}, {"coordinate_transformation_mode", std::string(positions[round / 3 % 4])},
                                                {"nearest_mode", std::string(round % 5 == 0 ? "floor" : "round_prefer_floor")}};
    std::vector<std::string> inputs{x, "", ""};
    if (round % 4 < 2) {
      inputs[2] = b.constant(Tensor::f32({4}, {1, 1, 0.5F + 0.25F * static_cast<float>(random.below(10)), 2.0F}));
    } else {
      inputs.push_back(whole_constant(b, {shape[0], shape[1], 1 + random.below(20), 1 + random.below(20)}));
    }
    b.output(b.node("Resize", inputs, attributes));
    expect_light(b, random_inputs(b.graph, random), mode == "nearest" ? sum_tolerance(shape[1]) : 2e-6F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightResize, BytesStayBytes) {
  Random random(62);
  Builder b;
  const std::string x = b.quantize(b.input({2, 5, 6, 7}), 0.1F, 3, DType::kU8);
  const std::string y = b.node("Resize", {x, "", b.constant(Tensor::f32({4}, {1, 1, 2, 2}))}, {{"coordinate_transformation_mode", std::string("asymmetric")}});
  b.output(b.dequantize(y, 0.1F, 3, DType::kU8));
  expect_light(b, random_inputs(b.graph, random), 0.0F);
}

TEST(DynamicQuantization, ProductsRunInIntegers) {
  Random random(71);
  for (int round = 0; round < 12; ++round) {
    const std::int64_t m = 1 + random.below(9), k = 1 + random.below(70), n = 1 + random.below(40);
    const DType dtype = round % 2 == 0 ? DType::kU8 : DType::kS8;
    Builder b;
    const std::string q = b.node("DynamicQuantizeLinear", {b.input({2, m, k})}, {}, 3);
    const std::string scale = b.graph.nodes.back().outputs[1];
    const std::string zero = b.graph.nodes.back().outputs[2];
    Tensor weights = random.bytes(dtype, {k, n}, dtype == DType::kU8 ? 0 : -127, dtype == DType::kU8 ? 255 : 127);
    Tensor weights_zero(dtype, {});
    weights_zero.mutable_as<std::uint8_t>()[0] = round % 3 == 0 ? 128 : round % 3 == 1 ? 0 : 121;
    if (dtype == DType::kS8) weights_zero.mutable_as<std::uint8_t>()[0] = round % 3 == 0 ? 5 : 0;
    const std::string y = b.node("MatMulInteger", {q, b.constant(weights), zero, b.constant(weights_zero)});
    give(b, y, DType::kS32);
    b.output(b.node("Mul", {b.node("Cast", {y}, {{"to", std::int64_t{1}}}), b.node("Mul", {scale, b.constant(Tensor::scalar(0.01F))})}));
    expect_light(b, random_inputs(b.graph, random), 1e-6F);
    if (::testing::Test::HasFailure()) return;
  }
}

/// Zero points of any integer type.
Tensor some_zeros(Random& random, DType dtype, const Shape& shape) {
  Tensor out(dtype, shape);
  const auto fill = [&]<class T>(T, std::int64_t low, std::int64_t high) {
    for (T& v : out.mutable_as<T>()) v = static_cast<T>(low + random.below(high - low + 1));
  };
  switch (dtype) {
    case DType::kS8: fill(std::int8_t{}, -128, 127); break;
    case DType::kU8: fill(std::uint8_t{}, 0, 255); break;
    case DType::kS16: fill(std::int16_t{}, -32768, 32767); break;
    case DType::kU16: fill(std::uint16_t{}, 0, 65535); break;
    case DType::kS4: fill(std::int8_t{}, -8, 7); break;
    default: fill(std::uint8_t{}, 0, 15); break;
  }
  return out;
}

TEST(LightQuantization, EveryTypeAndSpreadOfScales) {
  Random random(71);
  const DType types[] = {DType::kS8, DType::kU8, DType::kS16, DType::kU16, DType::kS4, DType::kU4};
  for (int round = 0; round < 96; ++round) {
    const DType dtype = types[round % 6];
    const int kind = round / 6 % 4;  // one scale, one an index of an axis, blocks, blocks whose parameters come later
    Shape shape = some_shape(random, 1, 4, round % 5 == 0 ? 60 : 9);
    const std::int64_t axis = random.below(static_cast<std::int64_t>(shape.size()));
    Shape spread;
    std::map<std::string, Attribute> attributes{{"axis", axis}};
    if (kind == 1) spread = {shape[static_cast<std::size_t>(axis)]};
    if (kind > 1) {
      const std::int64_t block = 1 + random.below(4);
      spread = shape;
      spread[static_cast<std::size_t>(axis)] = (spread[static_cast<std::size_t>(axis)] + block - 1) / block;
      attributes["block_size"] = block;
    }
    const bool wide = dtype == DType::kS16 || dtype == DType::kU16;
    const bool narrow = dtype == DType::kS4 || dtype == DType::kU4;
    Builder b;
    std::vector<Tensor> data{random.f32(shape, 2.0F)};
    const std::string x = b.input(shape);
    const Tensor scales = random.positive(spread, wide ? 1e-4F : narrow ? 0.2F : 0.02F, wide ? 2e-4F : narrow ? 0.4F : 0.03F);
    const Tensor zeros = some_zeros(random, dtype, spread);
    std::string scale;
    if (kind == 3 || (kind == 1 && round % 2 == 0)) {
      scale = b.input(spread);
      data.push_back(scales);
    } else {
      scale = b.constant(scales);
    }
    const std::string zero = b.constant(zeros);
    const std::string q = b.node("QuantizeLinear", {x, scale, zero}, attributes);
    b.output(b.node("DequantizeLinear", {q, scale, zero}, attributes));
    give(b, q, dtype);
    SCOPED_TRACE(std::string(graph::to_string(dtype)) + " of " + graph::to_string(shape) + ", kind " + std::to_string(kind));
    expect_light(b, data, 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightQuantization, PerChannelOfImagesThatLieChannelsLast) {
  Random random(72);
  Builder b;
  const std::string y = b.node("Conv", {b.input({2, 3, 9, 9}), b.constant(random.f32({7, 3, 3, 3}))});
  const std::string scale = b.constant(random.positive({7}, 0.05F, 0.1F));
  const std::string zero = b.constant(some_zeros(random, DType::kU8, {7}));
  const std::string q = b.node("QuantizeLinear", {y, scale, zero});
  b.output(b.node("Relu", {b.node("DequantizeLinear", {q, scale, zero})}));
  // A sum's rounding may move a value over the middle between two steps.
  const Ran ran = expect_like_reference(b.graph, random_inputs(b.graph, random), 0.02F);
  EXPECT_EQ(count_steps(ran, "reorder"), 2);  // the image on its way in, the result on its way out
}

TEST(LightIntegers, FunctionsOfOneAndPRelu) {
  Random random(73);
  const char* ops[] = {"Relu", "Neg", "Abs", "Sign", "BitwiseNot", "PRelu"};
  for (int round = 0; round < 72; ++round) {
    const std::string op = ops[round % 6];
    const DType types[] = {DType::kS8, DType::kS32, DType::kS64, DType::kU8};
    const DType dtype = types[round / 6 % 4];
    if (dtype == DType::kU8 && (op == "Neg" || op == "Abs")) continue;
    const Shape shape = some_shape(random, 1, 4, round % 5 == 0 ? 40 : 7);
    Shape slopes = shape;
    for (auto& extent : slopes) extent = random.chance(0.4) ? 1 : extent;
    Builder b;
    const std::int64_t low = dtype == DType::kU8 ? 0 : -10;
    std::vector<std::string> inputs{b.input(shape, dtype)};
    std::vector<Tensor> data{whole(random, dtype, shape, low, 10)};
    if (op == "PRelu") {
      inputs.push_back(b.input(slopes, dtype));
      data.push_back(whole(random, dtype, slopes, low, 10));
    }
    give(b, b.node(op, inputs), dtype);
    SCOPED_TRACE(op + " of " + std::string(graph::to_string(dtype)) + " " + graph::to_string(shape));
    expect_light(b, data, 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightPooling, LpNormsOfWindowsAndOfAll) {
  Random random(74);
  for (int round = 0; round < 48; ++round) {
    const std::int64_t p = 1 + round % 3;
    const std::int64_t spatial = 1 + random.below(3);
    Shape shape{1 + random.below(2), 1 + random.below(20)};
    Ints kernel, strides, pads, dilations;
    for (std::int64_t d = 0; d < spatial; ++d) {
      shape.push_back(5 + random.below(6));
      kernel.push_back(1 + random.below(3));
      strides.push_back(1 + random.below(2));
      dilations.push_back(1 + random.below(2));
      pads.push_back(random.below(kernel.back()));
    }
    for (std::int64_t d = 0; d < spatial; ++d) pads.push_back(random.below(kernel[static_cast<std::size_t>(d)]));
    Builder b;
    const std::string x = b.input(shape);
    if (round % 4 == 3) b.output(b.node("GlobalLpPool", {x}, {{"p", p}}));
    else b.output(b.node("LpPool", {x}, {{"p", p}, {"kernel_shape", kernel}, {"strides", strides}, {"pads", pads}, {"dilations", dilations}, {"ceil_mode", random.below(2)}}));
    SCOPED_TRACE("p " + std::to_string(p) + " of " + graph::to_string(shape));
    expect_light(b, random_inputs(b.graph, random), 4 * sum_tolerance(1000), 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace kerf::engine::testing
