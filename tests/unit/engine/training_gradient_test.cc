// Gradients against central finite differences of the forward pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/unit/engine/support.h"
#include "workers/engine/training/trainer.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {
namespace {

using testing::Builder;
using testing::Random;
using graph::Attribute;
using graph::Graph;
using graph::Shape;
using graph::Tensor;
using Ints = std::vector<std::int64_t>;

std::unique_ptr<Trainer> trainer_of(const Graph& graph, std::int64_t batch, int threads = 1) {
  Graph simplified = graph;
  for (auto& output : simplified.outputs) output.shape.clear();
  auto checked = graph::infer_shapes(simplified);
  EXPECT_TRUE(checked.has_value()) << (checked.has_value() ? "" : checked.error().message);
  auto made = Trainer::make(simplified, {batch, threads});
  if (!made.has_value()) {
    ADD_FAILURE() << made.error().message;
    return nullptr;
  }
  return std::move(*made);
}

void fill(std::span<float> to, Random& random) {
  for (float& value : to) value = random.normal();
}

/// Σ c · output, with fixed random c, so that every output matters.
class Probe {
 public:
  Probe(Trainer& trainer, Random& random) : trainer_(trainer) {
    for (std::size_t i = 0; i < trainer.outputs(); ++i) {
      factors_.emplace_back(trainer.output(i).size());
      fill(factors_.back(), random);
    }
  }
  double loss() {
    trainer_.forward();
    double sum = 0;
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      const auto output = trainer_.output(i);
      for (std::size_t k = 0; k < output.size(); ++k) {
        sum += static_cast<double>(factors_[i][k]) * static_cast<double>(output[k]);
      }
    }
    return sum;
  }
  void backward() {
    trainer_.forward();
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      std::copy(factors_[i].begin(), factors_[i].end(), trainer_.output_gradient(i).begin());
    }
    trainer_.backward();
  }
  /// Whether the slope along `direction` is what the gradient says; with a smaller step too, where a
  /// kink may lie within the first.
  ::testing::AssertionResult agrees(Trainer::Parameter& p, const std::vector<float>& direction, double wanted,
                                    double tolerance) {
    double slopes[3] = {};
    for (int i = 0; i < 3; ++i) {
      slopes[i] = slope(p, direction, 1e-3F / static_cast<float>(1 << (2 * i)));
      if (std::abs(slopes[i] - wanted) <= tolerance) return ::testing::AssertionSuccess();
    }
    return ::testing::AssertionFailure() << "slopes " << slopes[0] << ", " << slopes[1] << ", " << slopes[2]
                                         << "; gradient " << wanted << " ± " << tolerance;
  }

 private:
  /// Slope of the loss when parameter p moves along `direction`.
  double slope(Trainer::Parameter& p, const std::vector<float>& direction, float step) {
    const std::vector<float> kept(p.value.begin(), p.value.end());
    const auto at = [&](float by) {
      for (std::size_t i = 0; i < kept.size(); ++i) p.value[i] = kept[i] + by * direction[i];
      return loss();
    };
    const double up = at(step);
    const double down = at(-step);
    std::copy(kept.begin(), kept.end(), p.value.begin());
    return (up - down) / (2.0 * static_cast<double>(step));
  }

  Trainer& trainer_;
  std::vector<std::vector<float>> factors_;
};

/// Every parameter's gradient along itself, and some of its elements alone.
///
/// Tolerance: a step of 1e-3 along a unit direction leaves curvature of the order 1e-6 and rounding
/// of f32 outputs of 1e-7 · sqrt(outputs) / 1e-3; kinks that are crossed add the share of elements
/// that lie within the step. 2 % of the gradient's norm has room for all of them.
void expect_gradients(const Graph& graph, std::int64_t batch = 2, int threads = 1) {
  constexpr double kTolerance = 0.02;
  Random random(11);
  SCOPED_TRACE("seed " + std::to_string(random.seed()));
  auto trainer = trainer_of(graph, batch, threads);
  ASSERT_NE(trainer, nullptr);
  for (std::size_t i = 0; i < trainer->inputs(); ++i) fill(trainer->input(i), random);
  Probe probe(*trainer, random);
  probe.backward();
  std::vector<std::vector<float>> gradients;
  for (const auto& p : trainer->parameters()) gradients.emplace_back(p.gradient.begin(), p.gradient.end());
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    Trainer::Parameter& p = trainer->parameters()[k];
    double norm = 0;
    for (const float g : gradients[k]) norm += static_cast<double>(g) * static_cast<double>(g);
    norm = std::sqrt(norm);
    ASSERT_GT(norm, 0.0) << p.name;
    std::vector<float> direction = gradients[k];
    for (float& d : direction) d /= static_cast<float>(norm);
    EXPECT_TRUE(probe.agrees(p, direction, norm, kTolerance * norm)) << p.name << " along its gradient";
    for (int i = 0; i < 6; ++i) {
      const auto at = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(direction.size())));
      std::vector<float> one(direction.size(), 0.0F);
      one[at] = 1.0F;
      EXPECT_TRUE(probe.agrees(p, one, static_cast<double>(gradients[k][at]), kTolerance * norm))
          << p.name << "[" << at << "]";
    }
  }
}

std::string conv(Builder& b, Random& random, const std::string& x, const Shape& weights,
                 std::map<std::string, Attribute> attributes = {}) {
  std::int64_t fan_in = 1;
  for (std::size_t i = 1; i < weights.size(); ++i) fan_in *= weights[i];
  return b.node("Conv",
                {x, b.constant(random.f32(weights, 1.0F / std::sqrt(static_cast<float>(fan_in)))),
                 b.constant(random.f32({weights[0]}, 0.3F))},
                std::move(attributes));
}

/// A convolution in front, so that the op has to pass a gradient on.
struct Image {
  Builder b;
  Random random{5};
  std::string x;
  explicit Image(std::int64_t channels = 5, std::int64_t size = 6) {
    x = conv(b, random, b.input({-1, 3, size, size}), {channels, 3, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}});
  }
  void check(const std::string& y, std::int64_t batch = 2) {
    b.output(y);
    expect_gradients(b.graph, batch);
  }
};

TEST(TrainingGradient, Convolutions) {
  struct Case {
    const char* name;
    Shape weights;
    std::map<std::string, Attribute> attributes;
  };
  const std::vector<Case> cases = {
      {"3x3", {7, 8, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}}},
      {"strided", {16, 8, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}}},
      {"uneven pads", {4, 8, 3, 2}, {{"pads", Ints{0, 1, 1, 0}}}},
      {"pointwise", {6, 8, 1, 1}, {}},
      {"depthwise", {8, 1, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}, {"group", std::int64_t{8}}}},
      {"depthwise multiplied", {16, 1, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}, {"group", std::int64_t{8}}}},
      {"grouped", {4, 4, 3, 3}, {{"group", std::int64_t{2}}}},
      {"dilated", {4, 8, 3, 3}, {{"dilations", Ints{2, 2}}, {"pads", Ints{2, 2, 2, 2}}}},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    Image image(8, 7);
    image.check(conv(image.b, image.random, image.x, one.weights, one.attributes));
  }
}

TEST(TrainingGradient, ConvolutionsOfOneAndThreeAxes) {
  {
    Builder b;
    Random random(1);
    const std::string y = conv(b, random, b.input({-1, 4, 12}), {6, 4, 3}, {{"pads", Ints{1, 1}}});
    b.output(conv(b, random, y, {3, 6, 5}, {{"strides", Ints{2}}}));
    expect_gradients(b.graph);
  }
  Builder b;
  Random random(2);
  const std::string y = conv(b, random, b.input({-1, 2, 4, 5, 6}), {4, 2, 3, 3, 3}, {{"pads", Ints(6, 1)}});
  b.output(conv(b, random, y, {3, 4, 2, 2, 2}));
  expect_gradients(b.graph);
}

TEST(TrainingGradient, MatrixProducts) {
  Builder b;
  Random random(3);
  std::string y = b.node("Gemm", {b.input({-1, 9}), b.constant(random.f32({12, 9}, 0.3F)), b.constant(random.f32({12}))},
                         {{"transB", std::int64_t{1}}});
  y = b.node("Gemm", {y, b.constant(random.f32({12, 7}, 0.3F)), b.constant(random.f32({1, 7}))});
  b.output(b.node("MatMul", {y, b.constant(random.f32({7, 5}, 0.3F))}));
  expect_gradients(b.graph, 6);
}

TEST(TrainingGradient, MatMulOverRows) {
  Builder b;
  Random random(4);
  std::string y = b.node("MatMul", {b.input({-1, 5, 8}), b.constant(random.f32({8, 6}, 0.3F))});
  y = b.node("Add", {y, b.constant(random.f32({6}))});
  y = b.node("Gelu", {y});
  b.output(b.node("MatMul", {y, b.constant(random.f32({6, 3}, 0.3F))}));
  expect_gradients(b.graph, 3);
}

TEST(TrainingGradient, FunctionsOfOneValue) {
  for (const char* op : {"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Erf", "Elu",
                         "Softplus", "Abs", "Neg", "Exp"}) {
    SCOPED_TRACE(op);
    Image image;
    image.check(image.b.node(op, {image.x}));
  }
  Image clip;
  clip.check(clip.b.node("Clip", {clip.x, clip.b.constant(Tensor::scalar(-0.5F)), clip.b.constant(Tensor::scalar(1.0F))}));
  Image gelu;
  gelu.check(gelu.b.node("Gelu", {gelu.x}, {{"approximate", std::string("tanh")}}));
  Image swish;
  swish.check(swish.b.node("Mul", {swish.x, swish.b.node("Sigmoid", {swish.x})}));
}

TEST(TrainingGradient, SumsAndProducts) {
  for (const char* op : {"Add", "Sub", "Mul"}) {
    SCOPED_TRACE(op);
    Image image;
    const std::string a = conv(image.b, image.random, image.x, {4, 5, 1, 1});
    const std::string b = conv(image.b, image.random, image.x, {4, 5, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}});
    image.check(image.b.node(op, {a, b}));
  }
  {
    SCOPED_TRACE("Div");
    Image image;
    const std::string a = conv(image.b, image.random, image.x, {4, 5, 1, 1});
    const std::string b = image.b.node("Exp", {image.b.node("Tanh", {a})});
    image.check(image.b.node("Div", {image.b.node("Relu", {a}), b}));
  }
  {
    SCOPED_TRACE("square");
    Image image;
    image.check(image.b.node("Mul", {image.x, image.x}));
  }
  {
    SCOPED_TRACE("a value that three read");
    Image image;
    const std::string twice = image.b.node("Add", {image.x, image.x});
    const std::string relu = image.b.node("Relu", {image.x});
    image.check(image.b.node("Add", {twice, image.b.node("Add", {relu, image.b.node("Tanh", {relu})})}));
  }
}

TEST(TrainingGradient, Broadcasting) {
  Image image;
  Builder& b = image.b;
  // Squeeze and excitation: [n, c, 1, 1] over [n, c, h, w].
  std::string gate = b.node("GlobalAveragePool", {image.x});
  gate = conv(b, image.random, gate, {3, 5, 1, 1});
  gate = b.node("Sigmoid", {conv(b, image.random, b.node("Tanh", {gate}), {5, 3, 1, 1})});
  std::string y = b.node("Mul", {image.x, gate});
  // A bias a channel, a scalar, one over the last axis alone.
  y = b.node("Add", {y, b.constant(image.random.f32({5, 1, 1}))});
  y = b.node("Mul", {b.constant(Tensor::scalar(0.7F)), y});
  y = b.node("Add", {y, b.constant(image.random.f32({6}))});
  image.check(y);
}

TEST(TrainingGradient, Pools) {
  const std::vector<std::pair<std::string, std::map<std::string, Attribute>>> cases = {
      {"MaxPool", {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}},
      {"MaxPool", {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}},
      {"MaxPool", {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t{1}}}},
      {"AveragePool", {{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}}},
      {"AveragePool", {{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}, {"count_include_pad", std::int64_t{1}}}},
      {"GlobalAveragePool", {}},
      {"GlobalMaxPool", {}},
  };
  for (const auto& [op, attributes] : cases) {
    SCOPED_TRACE(op);
    Image image;
    image.check(image.b.node(op, {image.x}, attributes));
  }
}

TEST(TrainingGradient, WhatMovesValues) {
  {
    SCOPED_TRACE("Flatten, Gemm");
    Image image;
    image.check(image.b.node("Gemm", {image.b.node("Flatten", {image.x}), image.b.constant(image.random.f32({180, 4}, 0.1F)),
                                      image.b.constant(image.random.f32({4}))}));
  }
  {
    SCOPED_TRACE("Reshape, Transpose, MatMul");
    Image image;
    std::string y = image.b.node("Reshape", {image.x, image.b.constant(Tensor::s64({3}, {0, 5, -1}))});
    y = image.b.node("Transpose", {y}, {{"perm", Ints{0, 2, 1}}});
    image.check(image.b.node("MatMul", {y, image.b.constant(image.random.f32({5, 3}))}));
  }
  {
    SCOPED_TRACE("ReduceMean, Unsqueeze, Squeeze");
    Image image;
    std::string y = image.b.node("ReduceMean", {image.x, image.b.constant(Tensor::s64({2}, {2, 3}))}, {{"keepdims", std::int64_t{0}}});
    y = image.b.node("Unsqueeze", {y, image.b.constant(Tensor::s64({1}, {1}))});
    image.check(image.b.node("Squeeze", {y, image.b.constant(Tensor::s64({1}, {1}))}));
  }
  {
    SCOPED_TRACE("Concat over channels, then over rows");
    Image image;
    const std::string other = conv(image.b, image.random, image.x, {3, 5, 1, 1});
    const std::string both = image.b.node("Concat", {image.x, other, image.x}, {{"axis", std::int64_t{1}}});
    image.check(image.b.node("Concat", {both, both}, {{"axis", std::int64_t{2}}}));
  }
  {
    SCOPED_TRACE("Slice with steps and Pad of channels");
    Image image;
    const auto s64 = [&](const Ints& values) {
      return image.b.constant(Tensor::s64({static_cast<std::int64_t>(values.size())}, values));
    };
    std::string y = image.b.node("Slice", {image.x, s64({0, -1}), s64({100, -100}), s64({2, 3}), s64({2, -2})});
    y = image.b.node("Pad", {y, s64({0, 2, 0, 1, 0, 1, 0, 0}), image.b.constant(Tensor::scalar(0.5F))});
    image.check(image.b.node("Tanh", {y}));
  }
  {
    SCOPED_TRACE("Split");
    Image image(6);
    const std::string first = image.b.node("Split", {image.x, image.b.constant(Tensor::s64({2}, {2, 4}))},
                                           {{"axis", std::int64_t{1}}}, 2);
    const std::string second = image.b.graph.nodes.back().outputs[1];
    image.b.output(image.b.node("Relu", {first}));
    image.check(image.b.node("Tanh", {second}));
  }
}

TEST(TrainingGradient, BatchNormalizationInInferenceForm) {
  Image image;
  Builder& b = image.b;
  const std::string y = b.node("Relu", {image.x});
  image.check(b.node("BatchNormalization",
                     {y, b.constant(image.random.f32({5})), b.constant(image.random.f32({5})),
                      b.constant(image.random.f32({5})), b.constant(image.random.positive({5}, 0.5F, 2.0F))}));
}

TEST(TrainingGradient, WeightsThatTwoLayersShare) {
  Builder b;
  Random random(8);
  const std::string weights = b.constant(random.f32({6, 6}, 0.4F));
  std::string y = b.node("MatMul", {b.input({-1, 6}), weights});
  b.output(b.node("MatMul", {b.node("Tanh", {y}), weights}));
  expect_gradients(b.graph, 4);
}

/// A residual network drawn at random from all that a convolutional one is made of.
Graph random_network(Random& random) {
  Builder b;
  std::int64_t channels = 4 + random.below(6);
  std::string x = conv(b, random, b.input({-1, 3, 8, 8}), {channels, 3, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}});
  std::int64_t size = 8;
  for (int block = 0; block < 3; ++block) {
    static const std::vector<std::string> functions = {"Relu", "Tanh", "HardSwish", "Sigmoid", "Elu", "LeakyRelu"};
    const auto& function = functions[static_cast<std::size_t>(random.below(6))];
    const std::map<std::string, Attribute> same = {{"pads", Ints{1, 1, 1, 1}}};
    std::string y = b.node(function, {conv(b, random, x, {channels, channels, 3, 3}, same)});
    if (random.chance(0.5)) {
      auto depthwise = same;
      depthwise["group"] = channels;
      y = conv(b, random, y, {channels, 1, 3, 3}, depthwise);
    }
    if (random.chance(0.5)) y = b.node("Mul", {y, b.node("Sigmoid", {b.node("GlobalAveragePool", {y})})});
    x = b.node("Add", random.chance(0.5) ? std::vector<std::string>{x, y} : std::vector<std::string>{y, x});
    if (random.chance(0.5) && size > 2) {
      x = b.node(random.chance(0.5) ? "MaxPool" : "AveragePool", {x}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
      size /= 2;
    }
    if (random.chance(0.3)) {
      x = b.node("Concat", {x, y.empty() || size != 8 ? x : y}, {{"axis", std::int64_t{1}}});
      channels *= 2;
    }
  }
  x = b.node("Flatten", {b.node("GlobalAveragePool", {x})});
  b.output(b.node("Gemm", {x, b.constant(random.f32({channels, 4}, 0.4F)), b.constant(random.f32({4}))}));
  return b.graph;
}

TEST(TrainingGradient, RandomNetworks) {
  Random random(21);
  for (int i = 0; i < 12; ++i) {
    SCOPED_TRACE("network " + std::to_string(i) + " of seed " + std::to_string(random.seed()));
    expect_gradients(random_network(random), 3, 1 + i % 2);
  }
}

TEST(Trainer, ForwardIsWhatTheExecutorComputes) {
  Random random(31);
  const Graph graph = random_network(random);
  auto trainer = trainer_of(graph, 4);
  ASSERT_NE(trainer, nullptr);
  Tensor x = random.f32({4, 3, 8, 8});
  std::ranges::copy(x.as<float>(), trainer->input(0).begin());
  trainer->forward();
  auto simplified = simplify(graph);
  ASSERT_TRUE(simplified.has_value());
  const auto ran = run_all(*simplified, {x}, 1);
  ASSERT_TRUE(ran.has_value());
  const auto got = trainer->output(0);
  const auto wanted = (*ran)[0].as<float>();
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-4F);
}

TEST(Trainer, RoundsActivationsAsTheirIntegersSay) {
  Builder b;
  Random random(32);
  const std::string x = b.input({-1, 40});
  const std::string hidden = b.node("MatMul", {x, b.constant(random.f32({40, 20}, 0.2F))});
  const std::string rounded = b.rounded(hidden, 0.01F, 3, graph::DType::kU8);
  b.output(rounded);
  auto trainer = trainer_of(b.graph, 2);
  ASSERT_NE(trainer, nullptr);
  fill(trainer->input(0), random);
  trainer->forward();
  std::ranges::fill(trainer->output_gradient(0), 1.0F);
  const std::vector<float> y(trainer->output(0).begin(), trainer->output(0).end());
  for (const float value : y) {
    const float integer = value / 0.01F + 3;
    EXPECT_NEAR(integer, std::round(integer), 1e-3F);
    EXPECT_GE(integer, -1e-3F);
    EXPECT_LE(integer, 255.001F);
  }
  // A value below the range has the gradient 0, and so has its weight column where all samples do.
  trainer->backward();
  const auto weights = trainer->parameters()[0];
  const auto input = trainer->input(0);
  for (std::size_t column = 0; column < 20; ++column) {
    double wanted = 0;
    for (std::size_t sample = 0; sample < 2; ++sample) {
      double sum = 0;
      for (std::size_t i = 0; i < 40; ++i) {
        sum += static_cast<double>(input[sample * 40 + i]) * static_cast<double>(weights.value[i * 20 + column]);
      }
      if (sum > -0.035 && sum < 2.525) wanted += static_cast<double>(input[sample * 40]);
    }
    EXPECT_NEAR(weights.gradient[column], wanted, 1e-4);
  }
}

TEST(Trainer, ReadsSignsWithTheScaleBehindThem) {
  Builder b;
  Random random(38);
  const std::string hidden = b.node("MatMul", {b.input({-1, 6}), b.constant(random.f32({6, 4}))});
  b.output(b.dequantize(b.quantize(b.node("Sign", {hidden}), 1.0F, 0, graph::DType::kS8), 0.75F, 0, graph::DType::kS8));
  auto trainer = trainer_of(b.graph, 3);
  ASSERT_NE(trainer, nullptr);
  fill(trainer->input(0), random);
  trainer->forward();
  std::ranges::fill(trainer->output_gradient(0), 1.0F);
  trainer->backward();
  const auto x = trainer->input(0);
  const auto weights = trainer->parameters()[0];
  for (std::size_t column = 0; column < 4; ++column) {
    double wanted = 0;
    for (std::size_t sample = 0; sample < 3; ++sample) {
      float sum = 0;
      for (std::size_t i = 0; i < 6; ++i) sum += x[sample * 6 + i] * weights.value[i * 4 + column];
      EXPECT_EQ(trainer->output(0)[sample * 4 + column], sum > 0 ? 0.75F : -0.75F);
      if (std::abs(sum) < 1.5F) wanted += static_cast<double>(x[sample * 6]);
    }
    EXPECT_NEAR(weights.gradient[column], wanted, 1e-4);
  }
}

TEST(Trainer, RefusesAnOpWithoutAGradientByItsName) {
  Builder b;
  Random random(33);
  const std::string y = b.node("MatMul", {b.input({-1, 8}), b.constant(random.f32({8, 8}))});
  b.output(b.node("Softmax", {b.node("Cos", {y})}));
  ASSERT_TRUE(graph::infer_shapes(b.graph).has_value());
  const auto made = Trainer::make(b.graph, {2, 1});
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code, ErrorCode::kUnimplemented);
  EXPECT_NE(made.error().message.find("Cos '"), std::string::npos) << made.error().message;
  EXPECT_NE(made.error().message.find("no gradient"), std::string::npos) << made.error().message;
}

TEST(Trainer, RefusesAModelWithoutWeights) {
  Builder b;
  b.output(b.node("Relu", {b.input({-1, 8})}));
  ASSERT_TRUE(graph::infer_shapes(b.graph).has_value());
  const auto made = Trainer::make(b.graph, {2, 1});
  ASSERT_FALSE(made.has_value());
  EXPECT_NE(made.error().message.find("no weights"), std::string::npos) << made.error().message;
}

TEST(Trainer, SameNumbersInEveryRun) {
  Random random(34);
  const Graph graph = random_network(random);
  std::vector<float> first;
  for (int run = 0; run < 2; ++run) {
    auto trainer = trainer_of(graph, 5, 2);
    ASSERT_NE(trainer, nullptr);
    Random values(35);
    fill(trainer->input(0), values);
    trainer->forward();
    fill(trainer->output_gradient(0), values);
    trainer->backward();
    std::vector<float> all;
    for (const auto& p : trainer->parameters()) all.insert(all.end(), p.gradient.begin(), p.gradient.end());
    if (run == 0) {
      first = all;
    } else {
      EXPECT_EQ(first, all);
    }
  }
}

TEST(Logits, TakesTheOutputBeforeASoftmax) {
  Builder b;
  Random random(36);
  const std::string logits = b.node("MatMul", {b.input({-1, 8}), b.constant(random.f32({8, 4}))});
  const std::string shaped = b.node("Reshape", {b.node("Softmax", {logits}), b.constant(Tensor::s64({3}, {-1, 4, 1}))});
  b.output(shaped);
  const Logits found = without_final_softmax(b.graph);
  ASSERT_EQ(found.removed, std::vector<std::string>{"Softmax"});
  EXPECT_EQ(found.graph.outputs[0].name, shaped);
  ASSERT_EQ(found.graph.nodes.size(), 2U);
  EXPECT_EQ(found.graph.nodes[1].inputs[0], logits);
}

TEST(Logits, LeavesOtherOutputsAlone) {
  Builder b;
  Random random(37);
  b.output(b.node("Relu", {b.node("MatMul", {b.input({-1, 8}), b.constant(random.f32({8, 4}))})}));
  const Logits found = without_final_softmax(b.graph);
  EXPECT_EQ(found.removed, std::vector<std::string>{""});
  EXPECT_EQ(found.graph.nodes.size(), 2U);
}

}  // namespace
}  // namespace kerf::engine
