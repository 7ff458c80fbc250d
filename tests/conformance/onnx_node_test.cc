// ONNX's own tests of single operators and its light models, through reader, passes and executor.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>

#include "tests/conformance/onnx_case.h"
#include "workers/engine/reference/reference.h"
#include "workers/graph/shape_inference.h"
#include "workers/onnx/reader.h"

namespace kerf::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kData = fs::path(KERF_SOURCE_DIR) / "build/onnx-node-tests";

/// Lines "test_name: reason" of the list of what isn't expected to pass.
std::map<std::string, std::string> read_skips() {
  std::ifstream file(fs::path(KERF_SOURCE_DIR) / "tests/conformance/onnx_skips.txt");
  std::map<std::string, std::string> skips;
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t colon = line.find(": ");
    EXPECT_NE(colon, std::string::npos) << "no reason: " << line;
    if (colon == std::string::npos) continue;
    EXPECT_TRUE(skips.emplace(line.substr(0, colon), line.substr(colon + 2)).second)
        << "stands twice: " << line;
  }
  return skips;
}

TEST(OnnxNodeTests, PassOrAreListedWithAReason) {
  if (!fs::exists(kData / "node")) {
    GTEST_SKIP() << "no " << kData / "node" << "; tools/setup.sh test gets it";
  }
  std::map<std::string, std::string> skips = read_skips();
  // KERF_ONNX_CASE=test_abs runs one, KERF_ONNX_REPORT=file writes what became of each.
  const char* only = std::getenv("KERF_ONNX_CASE");
  const char* report = std::getenv("KERF_ONNX_REPORT");
  std::ofstream out;
  if (report != nullptr) out.open(report);
  int passed = 0;
  int bound = 0;
  int skipped = 0;
  int total = 0;
  for (const OnnxCase& test : find_cases(kData / "node")) {
    if (only != nullptr && test.name != only) continue;
    if (report != nullptr) std::cerr << test.name << "\n";
    ++total;
    const Outcome outcome = run_case(test);
    const auto listed = skips.find(test.name);
    const bool is_listed = listed != skips.end();
    if (is_listed) skips.erase(listed);
    if (outcome.verdict == Verdict::kPassed) {
      ++passed;
      bound += outcome.bound ? 1 : 0;
      EXPECT_FALSE(is_listed) << test.name << " passes now: take it off onnx_skips.txt";
    } else {
      ++skipped;
      EXPECT_TRUE(is_listed) << test.name << ": " << outcome.why;
    }
    static constexpr const char* kWords[] = {"passed", "refused", "wrong"};
    if (report != nullptr) {
      out << kWords[static_cast<std::size_t>(outcome.verdict)] << "\t" << test.name << "\t"
          << outcome.why << std::endl;
    }
  }
  if (only == nullptr) {
    for (const auto& [name, reason] : skips) ADD_FAILURE() << name << " is listed, but isn't there";
  }
  std::cout << "ONNX node tests: " << passed << " passed (" << bound
            << " with shapes and axes bound as constants), " << skipped << " skipped, " << total
            << " in all\n";
}

/// ONNX's runner feeds these models 0, 1/n, 2/n, ….
TEST(OnnxLightModels, GiveTheExpectedOutputs) {
  if (!fs::exists(kData / "light")) {
    GTEST_SKIP() << "no " << kData / "light" << "; tools/setup.sh test gets it";
  }
  for (const auto& entry : fs::directory_iterator(kData / "light")) {
    if (entry.path().extension() != ".onnx") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const auto inputs = onnx::read_inputs(entry.path().string());
    ASSERT_TRUE(inputs.has_value()) << inputs.error().message;
    std::vector<graph::Tensor> fed;
    for (const graph::ValueInfo& input : *inputs) {
      graph::Tensor tensor(graph::DType::kF32, input.shape);
      const auto values = tensor.mutable_as<float>();
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(static_cast<double>(i) / static_cast<double>(values.size()));
      }
      fed.push_back(std::move(tensor));
    }
    const auto results = run_model(entry.path(), {}, fed);
    ASSERT_TRUE(results.has_value()) << results.error().message;
    for (std::size_t i = 0; i < results->size(); ++i) {
      const auto expected = onnx::read_tensor(entry.path().parent_path() /
                                              (entry.path().stem().string() + "_output_" +
                                               std::to_string(i) + ".pb"));
      ASSERT_TRUE(expected.has_value()) << expected.error().message;
      EXPECT_EQ(difference((*results)[i], *expected), "");
    }
  }
}

TEST(OperatorTable, ListsWhatTheReaderTakesAndTheExecutorRuns) {
  std::ifstream file(fs::path(KERF_SOURCE_DIR) / "docs/operators.md");
  std::set<std::string> listed;
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("| `")) continue;
    EXPECT_TRUE(listed.insert(line.substr(3, line.find('`', 3) - 3)).second) << line;
  }
  EXPECT_EQ(listed, onnx::readable_ops());
  // What stays in a canonical graph has a kernel.
  for (const std::string& op : graph::known_ops()) {
    graph::Node node;
    node.op = op;
    if (op == "QLinearConv" || op == "QLinearMatMul") continue;  // the reader takes them apart
    EXPECT_TRUE(engine::has_reference(node)) << op;
  }
}

}  // namespace
}  // namespace kerf::testing
