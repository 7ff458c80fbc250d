#include "tests/unit/engine/support.h"

#include <cmath>
#include <cstdlib>

#include "workers/graph/shape_inference.h"

namespace kerf::engine::testing {

Random::Random(std::uint32_t stream) {
  const char* wanted = std::getenv("KERF_TEST_SEED");
  seed_ = (wanted != nullptr ? static_cast<std::uint32_t>(std::strtoul(wanted, nullptr, 10)) : 20240229U) + stream;
  engine_.seed(seed_);
}

Tensor Random::f32(const Shape& shape, float deviation, float mean) {
  Tensor out(DType::kF32, shape);
  for (float& v : out.mutable_as<float>()) v = mean + deviation * normal();
  return out;
}

Tensor Random::positive(const Shape& shape, float low, float high) {
  Tensor out(DType::kF32, shape);
  std::uniform_real_distribution<float> uniform(low, high);
  for (float& v : out.mutable_as<float>()) v = uniform(engine_);
  return out;
}

Tensor Random::bytes(DType dtype, const Shape& shape, int low, int high) {
  Tensor out(dtype, shape);
  for (auto& v : out.mutable_as<std::uint8_t>()) v = static_cast<std::uint8_t>(low + below(high - low + 1));
  return out;
}

std::string Builder::input(const Shape& shape, DType dtype) {
  const std::string name = fresh("input");
  graph.inputs.push_back({name, dtype, shape});
  return name;
}

std::string Builder::constant(Tensor tensor) {
  const std::string name = fresh("constant");
  graph.initializers[name] = std::move(tensor);
  return name;
}

std::string Builder::node(const std::string& op, const std::vector<std::string>& inputs,
                          std::map<std::string, Attribute> attributes, std::size_t outputs) {
  Node made;
  made.op = op;
  made.name = fresh(op);
  made.inputs = inputs;
  made.attributes = std::move(attributes);
  for (std::size_t i = 0; i < outputs; ++i) made.outputs.push_back(made.name + "_out" + std::to_string(i));
  graph.nodes.push_back(made);
  return made.outputs[0];
}

std::string Builder::quantize(const std::string& value, float scale, int zero, DType dtype) {
  Tensor zero_point(dtype, {});
  zero_point.mutable_as<std::uint8_t>()[0] = static_cast<std::uint8_t>(zero);
  return node("QuantizeLinear", {value, constant(Tensor::scalar(scale)), constant(zero_point)});
}

std::string Builder::dequantize(const std::string& value, float scale, int zero, DType dtype) {
  Tensor zero_point(dtype, {});
  zero_point.mutable_as<std::uint8_t>()[0] = static_cast<std::uint8_t>(zero);
  return node("DequantizeLinear", {value, constant(Tensor::scalar(scale)), constant(zero_point)});
}

std::string Builder::integer_weights(const Tensor& values, const std::vector<float>& scales, std::int64_t axis, int bits) {
  const bool many = scales.size() > 1;
  const Shape shape = many ? Shape{static_cast<std::int64_t>(scales.size())} : Shape{};
  return node("DequantizeLinear", {constant(values), constant(Tensor::f32(shape, scales)), constant(Tensor(values.dtype(), shape))},
              {{"axis", axis}, {"kerf_bits", std::int64_t{bits}}});
}

std::vector<Tensor> random_inputs(const Graph& graph, Random& random) {
  std::vector<Tensor> inputs;
  for (const graph::ValueInfo& input : graph.inputs) inputs.push_back(random.f32(input.shape));
  return inputs;
}

Ran execute(const Graph& graph, const std::vector<Tensor>& inputs, int threads, const PassOptions& passes) {
  Ran ran;
  auto simple = simplify(graph, passes);
  if (!simple.has_value()) {
    ADD_FAILURE() << "simplify: " << simple.error().message;
    return ran;
  }
  auto executor = Executor::compile(*simple, {0, threads});
  if (!executor.has_value()) {
    ADD_FAILURE() << "compile: " << executor.error().message;
    return ran;
  }
  std::vector<const void*> from;
  std::vector<void*> to;
  for (const Tensor& input : inputs) from.push_back(input.raw());
  for (const graph::ValueInfo& output : (*executor)->outputs()) ran.outputs.emplace_back(output.dtype, output.shape);
  for (Tensor& output : ran.outputs) to.push_back(output.mutable_raw());
  // Twice: a run must not depend on what the one before left in memory.
  (*executor)->run(from, to);
  const std::vector<Tensor> first = ran.outputs;
  to.clear();
  for (Tensor& output : ran.outputs) to.push_back(output.mutable_raw());
  (*executor)->run(from, to);
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(std::vector<std::byte>(first[i].raw(), first[i].raw() + first[i].bytes()),
              std::vector<std::byte>(ran.outputs[i].raw(), ran.outputs[i].raw() + ran.outputs[i].bytes()))
        << "the second run differs from the first";
  }
  ran.steps = (*executor)->steps();
  return ran;
}

void expect_close(const Tensor& got, const Tensor& wanted, float tolerance, const std::string& what) {
  ASSERT_EQ(got.dtype(), wanted.dtype()) << what;
  ASSERT_EQ(got.shape(), wanted.shape()) << what;
  const std::vector<float> a = got.to_floats();
  const std::vector<float> b = wanted.to_floats();
  float largest = 1.0F;
  for (const float v : b) largest = std::max(largest, std::isfinite(v) ? std::fabs(v) : 0.0F);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    ASSERT_NEAR(a[i], b[i], tolerance * largest) << what << ", element " << i << " of " << a.size();
  }
}

Ran expect_like_reference(const Graph& graph, const std::vector<Tensor>& inputs, float tolerance, int threads) {
  const auto wanted = run_reference(graph, inputs);
  if (!wanted.has_value()) {
    ADD_FAILURE() << "reference: " << wanted.error().message;
    return {};
  }
  Ran ran = execute(graph, inputs, threads);
  EXPECT_EQ(ran.outputs.size(), wanted->size());
  for (std::size_t i = 0; i < ran.outputs.size(); ++i) {
    expect_close(ran.outputs[i], (*wanted)[i], tolerance, "output " + std::to_string(i));
  }
  return ran;
}

std::vector<Tensor> eval(const std::string& op, const std::vector<Tensor>& inputs,
                         std::map<std::string, Attribute> attributes, std::size_t outputs) {
  Node node;
  node.op = op;
  node.name = "node";
  for (std::size_t i = 0; i < inputs.size(); ++i) node.inputs.push_back(inputs[i].raw() == nullptr ? "" : "in" + std::to_string(i));
  for (std::size_t i = 0; i < outputs; ++i) node.outputs.push_back("out" + std::to_string(i));
  node.attributes = std::move(attributes);
  auto result = evaluate(node, inputs);
  EXPECT_TRUE(result.has_value()) << (result.has_value() ? "" : result.error().message);
  return result.has_value() ? *result : std::vector<Tensor>(outputs);
}

const StepInfo* layer_step(const Ran& ran, const std::string& op) {
  for (const StepInfo& step : ran.steps) {
    if (step.is_layer && step.op == op) return &step;
  }
  return nullptr;
}

std::int64_t count_steps(const Ran& ran, const std::string& op) {
  return std::count_if(ran.steps.begin(), ran.steps.end(), [&](const StepInfo& step) { return step.op == op; });
}

}  // namespace kerf::engine::testing
