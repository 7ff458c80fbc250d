#include "tests/conformance/onnx_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "workers/engine/executor.h"
#include "workers/engine/passes.h"
#include "workers/onnx/reader.h"

namespace kerf::testing {

using graph::DType;
using graph::Tensor;

namespace {

namespace fs = std::filesystem;

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF64;
}

Tensor canonical(const Tensor& tensor) { return is_float(tensor.dtype()) ? tensor.to_f32() : tensor; }

Result<std::vector<Tensor>> read_tensors(const fs::path& folder, const std::string& stem) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    const fs::path file = folder / (stem + "_" + std::to_string(i) + ".pb");
    if (!fs::exists(file)) return tensors;
    KERF_ASSIGN(Tensor tensor, onnx::read_tensor(file.string()));
    tensors.push_back(std::move(tensor));
  }
}

/// How much of the inputs is bound; see run_case.
enum class Binding : std::uint8_t { kNone, kIntegers, kVectors };

bool is_bound(const Tensor& tensor, Binding binding) {
  if (tensor.elements() == 0) return true;
  if (binding == Binding::kNone || tensor.rank() > 1) return false;
  return binding == Binding::kVectors || !is_float(tensor.dtype());
}

/// ONNX's data files of before bf16 existed in NumPy hold its bits as u16.
Tensor with_type(const Tensor& tensor, DType wanted) {
  if (wanted != DType::kF32 || tensor.dtype() != DType::kU16) return tensor;
  Tensor bits(DType::kBF16, tensor.shape());
  std::memcpy(bits.mutable_raw(), tensor.raw(), tensor.bytes());
  return bits;
}

struct DataSet {
  std::vector<Tensor> inputs, expected;
};

Result<DataSet> read_data_set(const fs::path& folder) {
  DataSet data;
  KERF_ASSIGN(data.inputs, read_tensors(folder, "input"));
  KERF_ASSIGN(data.expected, read_tensors(folder, "output"));
  return data;
}

Outcome run_data_set(const OnnxCase& test, const std::vector<graph::ValueInfo>& inputs,
                     const DataSet& data) {
  Outcome refused;
  for (const Binding binding : {Binding::kNone, Binding::kIntegers, Binding::kVectors}) {
    std::map<std::string, Tensor> constants;
    std::vector<Tensor> fed;
    for (std::size_t i = 0; i < inputs.size() && i < data.inputs.size(); ++i) {
      const Tensor given = with_type(data.inputs[i], inputs[i].dtype);
      if (is_bound(given, binding)) constants[inputs[i].name] = given;
      else fed.push_back(canonical(given));
    }
    const auto results = run_model(test.model, constants, fed);
    if (!results.has_value()) {
      if (refused.why.empty()) refused = {Verdict::kRefused, results.error().message, false};
      continue;
    }
    if (results->size() < data.expected.size())
      return {Verdict::kWrong, "gives " + std::to_string(results->size()) + " outputs", false};
    for (std::size_t i = 0; i < data.expected.size(); ++i) {
      const std::string why = difference(
          (*results)[i], with_type(data.expected[i], (*results)[i].dtype()));
      if (!why.empty()) return {Verdict::kWrong, "output " + std::to_string(i) + ": " + why, false};
    }
    return {Verdict::kPassed, "", !constants.empty()};
  }
  return refused;
}

}  // namespace

std::vector<OnnxCase> find_cases(const fs::path& folder) {
  std::vector<OnnxCase> cases;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!fs::exists(entry.path() / "model.onnx")) continue;
    OnnxCase test{entry.path().filename().string(), entry.path() / "model.onnx", {}};
    for (const auto& inner : fs::directory_iterator(entry.path())) {
      if (inner.is_directory()) test.data_sets.push_back(inner.path());
    }
    std::sort(test.data_sets.begin(), test.data_sets.end());
    cases.push_back(std::move(test));
  }
  std::sort(cases.begin(), cases.end(),
            [](const OnnxCase& a, const OnnxCase& b) { return a.name < b.name; });
  return cases;
}

Result<std::vector<Tensor>> run_model(const fs::path& model,
                                      const std::map<std::string, Tensor>& constants,
                                      const std::vector<Tensor>& inputs) {
  onnx::ReadOptions options;
  options.constants = constants;
  KERF_ASSIGN(graph::Graph graph, onnx::read_model(model.string(), options));
  if (graph.inputs.size() != inputs.size()) {
    return Error{ErrorCode::kInternal, "the model has " + std::to_string(graph.inputs.size()) +
                                           " inputs, not " + std::to_string(inputs.size())};
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) graph.inputs[i].shape = inputs[i].shape();
  KERF_ASSIGN(graph, engine::simplify(std::move(graph)));
  engine::ExecutorOptions settings;
  settings.batch = 0;
  KERF_ASSIGN(const auto executor, engine::Executor::compile(graph, settings));
  std::vector<const void*> from;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (executor->inputs()[i].dtype != inputs[i].dtype() ||
        executor->inputs()[i].shape != inputs[i].shape()) {
      return Error{ErrorCode::kInternal, "input '" + graph.inputs[i].name + "' is compiled as " +
                                             std::string(graph::to_string(executor->inputs()[i].dtype)) +
                                             " " + graph::to_string(executor->inputs()[i].shape)};
    }
    from.push_back(inputs[i].raw());
  }
  std::vector<Tensor> results;
  std::vector<void*> to;
  for (const graph::ValueInfo& output : executor->outputs()) {
    results.emplace_back(output.dtype, output.shape);
  }
  for (Tensor& result : results) to.push_back(result.mutable_raw());
  executor->run(from, to);
  return results;
}

std::string difference(const Tensor& got, const Tensor& expected) {
  const Tensor wanted = canonical(expected);
  if (got.dtype() != wanted.dtype()) {
    return "type " + std::string(graph::to_string(got.dtype())) + ", expected " +
           std::string(graph::to_string(wanted.dtype()));
  }
  if (got.shape() != wanted.shape()) {
    return "shape " + graph::to_string(got.shape()) + ", expected " + graph::to_string(wanted.shape());
  }
  if (!is_float(got.dtype())) {
    if (got.bytes() == 0 || std::memcmp(got.raw(), wanted.raw(), got.bytes()) == 0) return "";
    const auto a = got.to_integers();
    const auto b = wanted.to_integers();
    const auto at = std::mismatch(a.begin(), a.end(), b.begin());
    return "element " + std::to_string(at.first - a.begin()) + " is " + std::to_string(*at.first) +
           ", expected " + std::to_string(*at.second);
  }
  // Half a unit in the last place of the narrow type comes on top of it.
  const double rtol = expected.dtype() == DType::kBF16 ? 1e-2 : expected.dtype() == DType::kF16 ? 2e-3 : 1e-3;
  const double atol = expected.dtype() == DType::kF16 ? 1e-5 : 1e-7;
  const auto a = got.as<float>();
  const auto b = wanted.as<float>();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i]) continue;
    const double error = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (error <= atol + rtol * std::fabs(static_cast<double>(b[i])) && std::isfinite(b[i])) continue;
    return "element " + std::to_string(i) + " is " + std::to_string(a[i]) + ", expected " +
           std::to_string(b[i]);
  }
  return "";
}

Outcome run_case(const OnnxCase& test) {
  Outcome outcome{Verdict::kRefused, "has no data", false};
  try {
    const auto inputs = onnx::read_inputs(test.model.string());
    if (!inputs.has_value()) return {Verdict::kRefused, inputs.error().message, false};
    for (const fs::path& folder : test.data_sets) {
      const auto data = read_data_set(folder);
      if (!data.has_value()) return {Verdict::kRefused, data.error().message, false};
      outcome = run_data_set(test, *inputs, *data);
      if (outcome.verdict != Verdict::kPassed) return outcome;
    }
  } catch (const std::exception& error) {
    return {Verdict::kWrong, std::string("throws: ") + error.what(), false};
  }
  return outcome;
}

}  // namespace kerf::testing
