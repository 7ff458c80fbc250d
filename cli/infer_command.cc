#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "workers/data/npz.h"
#include "workers/engine/executor.h"

namespace kerf::cli {
namespace {

struct InferOptions {
  ModelOptions model;
  std::string input;
  std::string output;
};

Result<void> infer(const InferOptions& options) {
  KERF_ASSIGN(compress::PreparedModel prepared, options.model.prepare());
  KERF_ASSIGN(data::DataSet set, data::load_dataset(options.input));
  set.labels.reset();  // inference needs none, and doesn't refuse a model for wrong ones
  KERF_ASSIGN(const std::optional<Preprocess> how, options.model.read_preprocess());
  KERF_ASSIGN(const data::BoundData samples, data::bind(set, prepared.graph, how, options.input));
  graph::Graph graph = prepared.graph;
  if (!options.model.plan.empty()) {
    KERF_ASSIGN(compress::CompressedModel candidate, options.model.build(prepared));
    graph = std::move(candidate.graph);
  }
  KERF_ASSIGN(const std::vector<graph::Tensor> outputs,
              engine::run_all(graph, samples.inputs, options.model.threads));
  std::map<std::string, graph::Tensor> arrays;
  for (std::size_t i = 0; i < outputs.size(); ++i) arrays[graph.outputs.at(i).name] = outputs[i];
  return data::write_npz(options.output, arrays);
}

}  // namespace

void add_infer_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "infer", "run a model (plain, QDQ or QOperator), or a plan's candidate of it, on a data set");
  const auto options = std::make_shared<InferOptions>();
  options->model.add_to(*command);
  command->add_option("--input", options->input, "data set: .npz, .csv or a folder of images")->required();
  command->add_option("--output", options->output, ".npz for the outputs, by their names")->required();
  command->callback([=] { *run = [=] { return infer(*options); }; });
}

}  // namespace kerf::cli
