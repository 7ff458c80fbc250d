// Gradients against PyTorch's, where Debian's python3-torch is installed.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/unit/engine/support.h"
#include "workers/engine/training/trainer.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {
namespace {

namespace fs = std::filesystem;

class TorchFolder {
 public:
  TorchFolder() {
    std::string name = (fs::temp_directory_path() / "kerf-torch-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TorchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  void write(const std::string& name, const graph::Shape& shape, std::span<const float> values) {
    std::ofstream(path_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
    std::ofstream list(path_ / "shapes.txt", std::ios::app);
    list << name;
    for (const std::int64_t dim : shape) list << ' ' << dim;
    list << '\n';
  }
  [[nodiscard]] std::vector<float> read(const std::string& name, std::size_t count) const {
    std::vector<float> values(count);
    std::ifstream(path_ / name, std::ios::binary)
        .read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
    return values;
  }
  /// The script's exit code.
  [[nodiscard]] int run() const {
    const std::string script = std::string(KERF_SOURCE_DIR) + "/tests/unit/engine/training_torch.py";
    const int status = std::system(("/usr/bin/python3 '" + script + "' '" + path_.string() + "'").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  fs::path path_;
};

/// Tolerance: sums over 4 samples, 64 places and up to 72 products each; both sides in f32.
void expect_same(std::span<const float> got, const std::vector<float>& wanted, const std::string& name) {
  float largest = 0;
  for (const float value : wanted) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0.0F) << name;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(got[i], wanted[i], 5 * testing::sum_tolerance(std::int64_t{4} * 64 * 72) * largest) << name << "[" << i << "]";
  }
}

TEST(TrainingTorch, GradientsAreThoseOfPyTorch) {
  testing::Random random(61);
  testing::Builder b;
  TorchFolder folder;
  std::map<std::string, std::string> names;  // initializer -> the script's name
  const auto parameter = [&](const std::string& name, const graph::Shape& shape) {
    std::int64_t fan_in = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
    const auto tensor = random.f32(shape, 1.0F / std::sqrt(static_cast<float>(fan_in)));
    folder.write(name, shape, tensor.as<float>());
    const std::string constant = b.constant(tensor);
    names[constant] = name;
    return constant;
  };
  const auto conv = [&](const std::string& x, const std::string& number, const graph::Shape& weights,
                        std::map<std::string, graph::Attribute> attributes) {
    return b.node("Conv", {x, parameter("w" + number, weights), parameter("b" + number, {weights[0]})}, std::move(attributes));
  };
  const graph::Shape one = {1, 1, 1, 1};
  const std::string first = b.node("Relu", {conv(b.input({-1, 3, 8, 8}), "1", {8, 3, 3, 3}, {{"pads", one}})});
  std::string y = conv(first, "2", {8, 1, 3, 3}, {{"pads", one}, {"group", std::int64_t{8}}});
  y = conv(b.node("HardSwish", {y}), "3", {8, 8, 1, 1}, {});
  const std::string gate = conv(b.node("GlobalAveragePool", {y}), "4", {8, 8, 1, 1}, {});
  y = b.node("Add", {first, b.node("Mul", {y, b.node("Sigmoid", {gate})})});
  y = b.node("MaxPool", {y}, {{"kernel_shape", graph::Shape{3, 3}}, {"strides", graph::Shape{2, 2}}, {"pads", one}});
  y = conv(y, "5", {6, 4, 3, 3},
           {{"strides", graph::Shape{2, 2}}, {"pads", graph::Shape{2, 2, 2, 2}}, {"dilations", graph::Shape{2, 2}}, {"group", std::int64_t{2}}});
  y = b.node("AveragePool", {b.node("Gelu", {y})}, {{"kernel_shape", graph::Shape{2, 2}}, {"pads", one}});
  y = b.node("Flatten", {b.node("Tanh", {y})});
  b.output(b.node("Gemm", {y, parameter("w6", {5, 54}), parameter("b6", {5})}, {{"transB", std::int64_t{1}}}));

  ASSERT_TRUE(graph::infer_shapes(b.graph).has_value());
  auto made = Trainer::make(b.graph, {4, 1});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  Trainer& trainer = **made;
  const auto x = random.f32({4, 3, 8, 8});
  const auto factors = random.f32({4, 5});
  folder.write("x", x.shape(), x.as<float>());
  folder.write("c", factors.shape(), factors.as<float>());

  const int code = folder.run();
  if (code == 77) GTEST_SKIP() << "skipped: /usr/bin/python3 has no PyTorch (Debian's python3-torch)";
  ASSERT_EQ(code, 0);
  std::ranges::copy(x.as<float>(), trainer.input(0).begin());
  trainer.forward();
  expect_same(trainer.output(0), folder.read("output.out", 20), "output");
  std::ranges::copy(factors.as<float>(), trainer.output_gradient(0).begin());
  trainer.backward();
  ASSERT_EQ(trainer.parameters().size(), 12U);
  for (const Trainer::Parameter& p : trainer.parameters()) {
    expect_same(p.gradient, folder.read(names.at(p.name) + ".out", p.gradient.size()), names.at(p.name));
  }
}

}  // namespace
}  // namespace kerf::engine
