// Recurrent layers, rearrangements and functions against the plain kernels, and light operators'
// steps among others: nothing is allocated, and blocks of transformers run without plain kernels.
#include <cmath>

#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

Ran expect_no_plain_kernel(const Builder& b, const std::vector<Tensor>& inputs, float tolerance, int threads = 1) {
  Ran ran = expect_like_reference(b.graph, inputs, tolerance, threads);
  for (const StepInfo& step : ran.steps) EXPECT_NE(step.kernel, "kerf:reference") << step.op;
  return ran;
}

TEST(LightRecurrent, EveryKindDirectionAndState) {
  Random random(81);
  const char* ops[] = {"LSTM", "GRU", "RNN"};
  const char* directions[] = {"forward", "reverse", "bidirectional"};
  for (int round = 0; round < 54; ++round) {
    const std::string op = ops[round % 3];
    const std::string direction = directions[round / 3 % 3];
    const std::int64_t gates = op == "LSTM" ? 4 : op == "GRU" ? 3 : 1;
    const std::int64_t d = direction == "bidirectional" ? 2 : 1;
    const std::int64_t steps = 1 + random.below(7), batch = 1 + random.below(9), input = 1 + random.below(20), hidden = 1 + random.below(40);
    const bool rows = random.chance(0.3);
    const float spread = 0.7F / std::sqrt(static_cast<float>(hidden));
    Builder b;
    std::vector<Tensor> data{random.f32(rows ? Shape{batch, steps, input} : Shape{steps, batch, input})};
    const std::string x = b.input(data[0].shape());
    std::vector<std::string> inputs{x, b.constant(random.f32({d, gates * hidden, input}, spread)), b.constant(random.f32({d, gates * hidden, hidden}, spread))};
    inputs.push_back(random.chance(0.7) ? b.constant(random.f32({d, 2 * gates * hidden}, 0.3F)) : "");
    const bool lengths = random.chance(0.3);
    if (lengths) {
      Tensor ends(DType::kS32, {batch});
      for (auto& v : ends.mutable_as<std::int32_t>()) v = static_cast<std::int32_t>(random.below(steps + 1));
      inputs.push_back(b.input({batch}, DType::kS32));
      data.push_back(ends);
    } else {
      inputs.emplace_back("");
    }
    const Shape state = rows ? Shape{batch, d, hidden} : Shape{d, batch, hidden};
    if (random.chance(0.5)) {
      inputs.push_back(b.input(state));
      data.push_back(random.f32(state, 0.5F));
      if (op == "LSTM") {
        inputs.push_back(b.constant(random.f32(state, 0.5F)));
        if (random.chance(0.5)) inputs.push_back(b.constant(random.f32({d, 3 * hidden}, 0.3F)));
      }
    }
    std::map<std::string, Attribute> attributes{{"hidden_size", hidden}, {"direction", direction}, {"layout", std::int64_t{rows ? 1 : 0}}};
    if (op == "GRU") attributes["linear_before_reset"] = random.below(2);
    const std::size_t outputs = op == "LSTM" ? 3 : 2;
    b.node(op, inputs, attributes, outputs);
    for (const std::string& output : std::vector<std::string>(b.graph.nodes.back().outputs)) b.output(output);
    SCOPED_TRACE(op + " " + direction + ", round " + std::to_string(round));
    // Errors pass from step to step.
    expect_no_plain_kernel(b, data, static_cast<float>(steps) * sum_tolerance(input + hidden), 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightRecurrent, OtherFunctionsRunPlainly) {
  Random random(82);
  Builder b;
  const std::vector<std::string> names{"Relu"};
  b.node("RNN", {b.input({2, 3, 4}), b.constant(random.f32({1, 5, 4})), b.constant(random.f32({1, 5, 5}))}, {{"hidden_size", std::int64_t{5}}, {"activations", names}}, 2);
  b.output(b.graph.nodes.back().outputs[0]);
  expect_like_reference(b.graph, random_inputs(b.graph, random), 1e-5F);
}

TEST(LightFunctions, PowersQuotientsAndAngles) {
  Random random(83);
  Builder b;
  const std::string x = b.input({3, 700});
  const std::string positive = b.node("Add", {b.node("Abs", {x}), b.constant(Tensor::scalar(0.01F))});
  for (const float power : {2.0F, 3.0F, 0.5F, -1.0F, 1.7F}) b.output(b.node("Pow", {positive, b.constant(Tensor::scalar(power))}));
  b.output(b.node("Div", {x, b.constant(Tensor::scalar(3.0F))}));
  b.output(b.node("Div", {b.constant(Tensor::scalar(1.0F)), positive}));
  b.output(b.node("Div", {b.constant(Tensor::scalar(2.5F)), positive}));
  b.output(b.node("Gelu", {x}, {{"approximate", std::string("tanh")}}));
  b.output(b.node("Shrink", {x}, {{"bias", 0.2F}, {"lambd", 0.7F}}));
  expect_no_plain_kernel(b, {random.f32({3, 700}, 3.0F)}, 1e-6F);
  Builder angles;
  const std::string a = angles.input({1, 2000});
  angles.output(angles.node("Sin", {a}));
  angles.output(angles.node("Cos", {a}));
  expect_no_plain_kernel(angles, {random.f32({1, 2000}, 100.0F)}, 2e-6F);
  Tensor far = random.f32({1, 2000}, 100.0F);
  far.mutable_as<float>()[7] = 1e7F;
  far.mutable_as<float>()[1500] = INFINITY;
  expect_no_plain_kernel(angles, {far}, 2e-6F);
}

TEST(LightFunctions, ExtremeValues) {
  Builder b;
  const std::string x = b.input({1, 14});
  for (const char* op : {"Erf", "Softplus", "Softsign", "Mish", "Floor", "Ceil", "Round", "Sign", "Selu", "Celu", "Log", "Reciprocal"}) b.output(b.node(op, {x}));
  expect_no_plain_kernel(b, {Tensor::f32({1, 14}, {-1e30F, -100.0F, -20.5F, -0.5F, -1e-20F, 0.0F, 1e-30F, 1e-3F, 0.5F, 1.5F, 2.5F, 88.0F, 1e20F, INFINITY})}, 3e-7F);
}

TEST(LightFunctions, ManyOperandsInOnePass) {
  Random random(84);
  for (const char* op : {"Max", "Min", "Sum", "Mean"}) {
    for (const std::size_t count : {1U, 2U, 3U, 5U}) {
      Builder b;
      std::vector<std::string> inputs;
      for (std::size_t i = 0; i < count; ++i) inputs.push_back(b.input(i == 1 ? Shape{5, 1} : i == 2 ? Shape{7} : Shape{3, 5, 7}));
      b.output(b.node(op, inputs));
      expect_no_plain_kernel(b, random_inputs(b.graph, random), 1e-6F);
    }
  }
}

TEST(LightFunctions, IntegersAreClipped) {
  Builder b;
  const std::string x = b.input({6}, DType::kS64);
  const std::string y = b.node("Clip", {x, b.constant(Tensor::s64({}, {-2})), b.constant(Tensor::s64({}, {3}))});
  b.graph.outputs.push_back({y, DType::kS64, {}});
  b.graph.outputs.push_back({b.node("Clip", {x, "", b.constant(Tensor::s64({}, {1}))}), DType::kS64, {}});
  expect_no_plain_kernel(b, {Tensor::s64({6}, {-9, -2, 0, 2, 3, 100})}, 0.0F);
}

TEST(LightRearranging, TilesBlocksAndRepeatedEdges) {
  Random random(85);
  for (int round = 0; round < 60; ++round) {
    Builder b;
    const std::int64_t block = 1 + random.below(3);
    const std::int64_t channels = (1 + random.below(3)) * block * block;
    std::string x = b.input({1 + random.below(2), channels, 2 * block, 3 * block});
    if (round % 2 == 0) x = b.node("Conv", {x, b.constant(random.f32({channels, channels, 1, 1}))});
    const auto list = [&](const Ints& values) { return b.constant(Tensor::s64({static_cast<std::int64_t>(values.size())}, values)); };
    switch (round % 5) {
      case 0: b.output(b.node("DepthToSpace", {x}, {{"blocksize", block}, {"mode", std::string(round % 3 == 0 ? "DCR" : "CRD")}})); break;
      case 1: b.output(b.node("SpaceToDepth", {x}, {{"blocksize", block}})); break;
      case 2: b.output(b.node("Tile", {x, list({1 + random.below(2), 1 + random.below(3), 1 + random.below(3), 1})})); break;
      default: {
        const char* modes[] = {"reflect", "edge", "wrap"};
        b.output(b.node("Pad", {x, list({0, random.below(2), random.below(2), random.below(2), 0, 0, random.below(2), -1})}, {{"mode", std::string(modes[round % 3])}}));
      }
    }
    expect_no_plain_kernel(b, random_inputs(b.graph, random), sum_tolerance(channels), 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(LightRearranging, TransposesOfEveryOrder) {
  Random random(87);
  for (int round = 0; round < 60; ++round) {
    Builder b;
    Shape shape(static_cast<std::size_t>(2 + random.below(4)));
    for (auto& extent : shape) extent = 1 + random.below(shape.size() < 4 ? 50 : 19);
    Ints order(shape.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
    for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i) + 1))]);
    b.output(b.node("Transpose", {b.input(shape)}, {{"perm", order}}));
    SCOPED_TRACE(graph::to_string(shape) + " by " + graph::to_string(order));
    expect_no_plain_kernel(b, random_inputs(b.graph, random), 0.0F, 1 + round % 2);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(DynamicWeights, GemmWithEveryAttribute) {
  Random random(88);
  for (int round = 0; round < 48; ++round) {
    Builder b;
    const std::int64_t m = 1 + random.below(9), k = 1 + random.below(30), n = 1 + random.below(20);
    const bool ta = random.chance(0.5), tb = random.chance(0.5);
    const Shape right = tb ? Shape{n, k} : Shape{k, n};
    // Constant weights with a transposed left side are no layer either.
    const bool constant = ta && random.chance(0.5);
    std::vector<std::string> inputs{b.input(ta ? Shape{k, m} : Shape{m, k})};
    inputs.push_back(constant ? b.constant(random.f32(right)) : b.input(right));
    const Shape forms[] = {{m, n}, {n}, {1, n}, {m, 1}, {1}, {}};
    if (round % 7 > 0) inputs.push_back(round % 2 == 0 ? b.input(forms[round % 6]) : b.constant(random.f32(forms[round % 6])));
    std::map<std::string, Attribute> attributes{{"transA", std::int64_t{ta}}, {"transB", std::int64_t{tb}}};
    if (random.chance(0.5)) attributes["alpha"] = 0.7F;
    if (random.chance(0.3)) attributes["beta"] = random.chance(0.5) ? 0.0F : -1.5F;
    b.output(b.node("Relu", {b.node("Gemm", inputs, attributes)}));
    expect_no_plain_kernel(b, random_inputs(b.graph, random), 4 * sum_tolerance(k));
    if (::testing::Test::HasFailure()) return;
  }
}

/// One block of a transformer as exporters write it, with embeddings, a mask and a decomposed
/// normalization.
TEST(LightNetworks, AnAttentionBlockRunsWithoutPlainKernels) {
  Random random(86);
  Builder b;
  const std::int64_t length = 12, width = 24, heads = 4;
  const std::string tokens = b.input({2, length}, DType::kS64);
  const std::string table = b.constant(random.f32({50, width}));
  const auto list = [&](const Ints& values) { return b.constant(Tensor::s64({static_cast<std::int64_t>(values.size())}, values)); };
  const auto scalar = [&](float v) { return b.constant(Tensor::scalar(v)); };
  std::string x = b.node("Add", {b.node("Gather", {table, tokens}), b.constant(random.f32({length, width}))});
  const std::string padding = b.node("Equal", {tokens, b.constant(Tensor::s64({}, {0}))});
  const std::string mask = b.node("Where", {b.node("Unsqueeze", {padding, list({1, 2})}), scalar(-1e4F), scalar(0.0F)});
  const auto normalized = [&](const std::string& v) {
    const std::string centred = b.node("Sub", {v, b.node("ReduceMean", {v, list({-1})})});
    const std::string variance = b.node("ReduceMean", {b.node("Pow", {centred, scalar(2.0F)}), list({-1})});
    const std::string unit = b.node("Div", {centred, b.node("Sqrt", {b.node("Add", {variance, scalar(1e-5F)})})});
    return b.node("Add", {b.node("Mul", {unit, b.constant(random.f32({width}))}), b.constant(random.f32({width}))});
  };
  const auto dense = [&](const std::string& v, std::int64_t from, std::int64_t to) {
    return b.node("Add", {b.node("MatMul", {v, b.constant(random.f32({from, to}, 0.2F))}), b.constant(random.f32({to}))});
  };
  const auto split = [&](const std::string& v, const Ints& order) {
    return b.node("Transpose", {b.node("Reshape", {v, list({2, length, heads, width / heads})})}, {{"perm", order}});
  };
  const std::string n = normalized(x);
  const std::string q = split(dense(n, width, width), {0, 2, 1, 3});
  const std::string k = split(dense(n, width, width), {0, 2, 3, 1});
  const std::string v = split(dense(n, width, width), {0, 2, 1, 3});
  const std::string scores = b.node("Add", {b.node("Div", {b.node("MatMul", {q, k}), scalar(std::sqrt(6.0F))}), mask});
  const std::string mixed = b.node("MatMul", {b.node("Softmax", {scores}), v});
  x = b.node("Add", {x, dense(b.node("Reshape", {b.node("Transpose", {mixed}, {{"perm", Ints{0, 2, 1, 3}}}), list({2, length, width})}), width, width)});
  const std::string m = b.node("LayerNormalization", {x, b.constant(random.f32({width})), b.constant(random.f32({width}))});
  x = b.node("Add", {x, dense(b.node("Gelu", {dense(m, width, 4 * width)}), 4 * width, width)});
  b.output(b.node("ReduceMax", {x, list({1})}, {{"keepdims", std::int64_t{0}}}));
  Tensor ids(DType::kS64, {2, length});
  for (auto& id : ids.mutable_as<std::int64_t>()) id = random.below(50);
  ids.mutable_as<std::int64_t>()[3] = 0;
  expect_no_plain_kernel(b, {ids}, 8 * sum_tolerance(4 * width), 1);
}

}  // namespace
}  // namespace kerf::engine::testing
