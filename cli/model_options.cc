#include "cli/model_options.h"

#include <fstream>
#include <memory>

#include "workers/compress/calibration.h"
#include "workers/compress/packed/packed_file.h"
#include "workers/onnx/reader.h"

namespace kerf::cli {

Result<graph::Graph> read_model_file(const std::string& path) {
  Result<graph::Graph> graph = onnx::read_model(path);
  if (graph.has_value()) return graph;
  std::string begin(8, '\0');
  std::ifstream(path, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size()));
  if (!compress::is_packed(begin)) return graph;
  return invalid_argument("model '" + path + "': a packed model; expected ONNX, which kerf unpack makes of it");
}

void add_pass_option(CLI::App& command, std::vector<std::string>& disabled) {
  std::string names;
  for (const engine::PassInfo& pass : engine::passes()) {
    names += (names.empty() ? "" : ", ") + std::string(pass.name);
  }
  command.add_option("--no-pass", disabled, "switch off a graph pass (may be repeated): " + names);
}

engine::PassOptions pass_options(const std::vector<std::string>& disabled) {
  engine::PassOptions options;
  options.disabled.insert(disabled.begin(), disabled.end());
  return options;
}

void ModelOptions::add_to(CLI::App& command) {
  command.add_option("MODEL", model, "ONNX model")->required();
  command.add_option("--plan", plan, "compression plan (JSON); without it the f32 model");
  command.add_option("--calibration", calibration, "data that activation ranges are taken from");
  command.add_option("--preprocess", preprocess, "JSON with scale, mean, std, layout");
  command.add_option("--threads", threads, "threads of the engine")->check(CLI::Range(1, 1024));
  add_pass_option(command, disabled_passes);
}

Result<std::optional<Preprocess>> ModelOptions::read_preprocess() const {
  if (preprocess.empty()) return std::optional<Preprocess>();
  KERF_ASSIGN(const Json document, read_json_file(preprocess));
  KERF_ASSIGN(Preprocess parsed, Preprocess::parse(document));
  return std::optional<Preprocess>(std::move(parsed));
}

Result<CompressionPlan> ModelOptions::read_plan() const {
  if (plan.empty()) return CompressionPlan();
  KERF_ASSIGN(const Json document, read_json_file(plan));
  auto parsed = CompressionPlan::parse(document);
  if (!parsed.has_value()) return with_context(plan, parsed.error());
  return parsed;
}

Result<graph::Graph> ModelOptions::read_graph() const { return read_model_file(model); }

Result<compress::PreparedModel> ModelOptions::prepare() const {
  KERF_ASSIGN(graph::Graph graph, read_graph());
  return compress::prepare(std::move(graph), pass_options(disabled_passes));
}

Result<data::BoundData> ModelOptions::load(const std::string& path, const graph::Graph& graph) const {
  KERF_ASSIGN(const std::optional<Preprocess> how, read_preprocess());
  KERF_ASSIGN(const data::DataSet set, data::load_dataset(path));
  return data::bind(set, graph, how, path);
}

Result<compress::CompressedModel> ModelOptions::build(const compress::PreparedModel& prepared) const {
  KERF_ASSIGN(const CompressionPlan wanted, read_plan());
  std::unique_ptr<compress::Calibration> statistics;
  if (!calibration.empty()) {
    KERF_ASSIGN(data::BoundData samples, load(calibration, prepared.graph));
    statistics = std::make_unique<compress::Calibration>(prepared, std::move(samples.inputs), threads);
    statistics->set_labels({std::move(samples.classes), std::move(samples.targets)});
  }
  return compress::compress(prepared, wanted, statistics.get());
}

}  // namespace kerf::cli
