#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/tensor.h"

/// ONNX's own test data: folders of a model and data sets of inputs and expected outputs.
namespace kerf::testing {

/// One test of ONNX's: a model and what it gives for some inputs.
struct OnnxCase {
  std::string name;
  std::filesystem::path model;
  std::vector<std::filesystem::path> data_sets;  ///< Folders with input_0.pb …, output_0.pb ….
};

enum class Verdict : std::uint8_t {
  kPassed,
  kRefused,  ///< One of kerf's rooms said that it doesn't do this.
  kWrong,    ///< Another result than expected, or another failure.
};

struct Outcome {
  Verdict verdict = Verdict::kWrong;
  std::string why;      ///< Empty where it passed.
  bool bound = false;   ///< Whether inputs that give shapes had to be made constants.
};

/// The cases below a folder of ONNX's "node" form, by name.
[[nodiscard]] std::vector<OnnxCase> find_cases(const std::filesystem::path& folder);

/// Reads, simplifies, compiles and runs the model, and compares with what is expected.
///
/// All inputs are fed while the model runs, where kerf takes the model so. Where it doesn't, those
/// that give shapes, axes and the like become constants: integers of rank 0 and 1 first, then
/// floats of rank 0 and 1. Inputs without elements are always constants.
[[nodiscard]] Outcome run_case(const OnnxCase& test);

/// Compiles and runs a model as a service would; outputs in the model's order.
[[nodiscard]] Result<std::vector<graph::Tensor>> run_model(
    const std::filesystem::path& model, const std::map<std::string, graph::Tensor>& constants,
    const std::vector<graph::Tensor>& inputs);

/// "" where both are the same: floats within rtol 1e-3 and atol 1e-7 (wider for expectations that
/// were f16 or bf16), everything else exactly.
[[nodiscard]] std::string difference(const graph::Tensor& got, const graph::Tensor& expected);

}  // namespace kerf::testing
