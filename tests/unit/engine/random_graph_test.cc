// Random small networks: the executor with all its fusions against the plain kernels.
#include "tests/unit/engine/support.h"

namespace kerf::engine::testing {
namespace {

using Ints = std::vector<std::int64_t>;

struct Value {
  std::string name;
  std::int64_t channels, extent;
};

/// A network of convolutions, sums, pools, concatenations and activations with a Gemm at the end.
Builder network(Random& random, std::int64_t batch) {
  Builder b;
  std::vector<Value> values{{b.input({batch, 3, 12, 12}), 3, 12}};
  const std::int64_t steps = 6 + random.below(10);
  for (std::int64_t i = 0; i < steps; ++i) {
    const Value v = values[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(values.size())))];
    switch (random.below(9)) {
      case 0:
      case 1:
      case 2: {
        const std::int64_t to = 1 + random.below(20);
        const std::int64_t k = random.chance(0.5) ? 3 : 1;
        const std::int64_t stride = v.extent >= 6 && random.chance(0.3) ? 2 : 1;
        const float spread = 1.0F / std::sqrt(static_cast<float>(v.channels * k * k));
        std::vector<std::string> inputs{v.name, b.constant(random.f32({to, v.channels, k, k}, spread))};
        if (random.chance(0.5)) inputs.push_back(b.constant(random.f32({to})));
        std::string y = b.node("Conv", inputs, {{"pads", Ints(4, k / 2)}, {"strides", Ints{stride, stride}}});
        if (random.chance(0.5)) {
          const auto vector = [&](float low, float high) { return b.constant(random.positive({to}, low, high)); };
          y = b.node("BatchNormalization", {y, vector(0.5F, 1.5F), vector(-1, 1), vector(-1, 1), vector(0.5F, 2)});
        }
        values.push_back({y, to, (v.extent + 2 * (k / 2) - k) / stride + 1});
        break;
      }
      case 3: {
        const char* functions[] = {"Relu", "Sigmoid", "HardSwish", "Tanh"};
        values.push_back({b.node(functions[random.below(4)], {v.name}), v.channels, v.extent});
        break;
      }
      case 4:
      case 5: {
        for (std::size_t k = values.size(); k-- > 0;) {
          if (values[k].channels != v.channels || values[k].extent != v.extent || values[k].name == v.name) continue;
          values.push_back({b.node("Add", {v.name, values[k].name}), v.channels, v.extent});
          break;
        }
        break;
      }
      case 6: {
        if (v.extent < 4) break;
        const char* op = random.chance(0.5) ? "MaxPool" : "AveragePool";
        values.push_back({b.node(op, {v.name}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}), v.channels, (v.extent - 2) / 2 + 1});
        break;
      }
      case 7: {
        for (const Value& other : values) {
          if (other.extent != v.extent || other.channels + v.channels > 40) continue;
          values.push_back({b.node("Concat", {v.name, other.name}, {{"axis", std::int64_t{1}}}), v.channels + other.channels, v.extent});
          break;
        }
        break;
      }
      default: values.push_back({b.node("Mul", {v.name, b.constant(random.f32({v.channels, 1, 1}))}), v.channels, v.extent});
    }
  }
  const Value last = values.back();
  const bool mean = random.chance(0.5);
  const std::string flat = b.node("Flatten", {mean ? b.node("GlobalAveragePool", {last.name}) : last.name});
  const std::int64_t rows = mean ? last.channels : last.channels * last.extent * last.extent;
  b.output(b.node("Gemm", {flat, b.constant(random.f32({rows, 5}, 1.0F / std::sqrt(static_cast<float>(rows)))), b.constant(random.f32({5}))}));
  // A value from the middle stays visible.
  if (random.chance(0.5)) b.output(values[values.size() / 2].name == values[0].name ? last.name : values[values.size() / 2].name);
  return b;
}

TEST(RandomNetworks, GiveWhatThePlainKernelsGive) {
  for (std::uint32_t stream = 0; stream < 60; ++stream) {
    Random random(stream);
    SCOPED_TRACE("KERF_TEST_SEED=" + std::to_string(random.seed()));
    const Builder b = network(random, 1 + random.below(3));
    expect_like_reference(b.graph, random_inputs(b.graph, random), 2e-5F);
    if (::testing::Test::HasFatalFailure() || ::testing::Test::HasNonfatalFailure()) return;
  }
}

}  // namespace
}  // namespace kerf::engine::testing
