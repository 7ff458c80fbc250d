#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/table.h"
#include "workers/compress/model.h"
#include "workers/measure/inspect.h"

namespace kerf::cli {
namespace {

std::string joined(const std::vector<Json>& values) {
  std::string out;
  for (const Json& value : values) out += (out.empty() ? "" : ",") + canonical_text(value);
  return out;
}

void print_tables(const ModelInfo& info) {
  for (const auto& [what, ports] : {std::pair("input", &info.inputs), std::pair("output", &info.outputs)}) {
    for (const PortInfo& port : *ports) {
      std::printf("%-7s %s  %s %s\n", what, port.name.c_str(), port.dtype.c_str(),
                  graph::to_string(port.shape).c_str());
    }
  }
  std::printf("%s MACs a sample, %s parameters\n\n", human_number(static_cast<double>(info.macs)).c_str(),
              human_number(static_cast<double>(info.params)).c_str());
  Table table({"layer", "op", "weights", "output", "MACs", "weight bits", "channels", "kernel"});
  for (const LayerInfo& layer : info.layers) {
    table.add({layer.name, layer.op, graph::to_string(layer.weight_shape),
               graph::to_string(layer.output_shape), human_number(static_cast<double>(layer.macs)),
               joined(layer.weight_bits),
               layer.prune_group.empty() ? "stay: " + layer.channels_stay_because
                                         : "group " + layer.prune_group,
               layer.kernel});
  }
  std::fputs(table.text().c_str(), stdout);
}

struct InspectArguments {
  std::string model;
  std::vector<std::string> disabled_passes;
  bool json = false;
};

Result<void> inspect(const InspectArguments& arguments) {
  KERF_ASSIGN(graph::Graph graph, read_model_file(arguments.model));
  KERF_ASSIGN(const compress::PreparedModel prepared,
              compress::prepare(std::move(graph), pass_options(arguments.disabled_passes)));
  KERF_ASSIGN(const ModelInfo info, measure::inspect(prepared));
  if (arguments.json) {
    Json document = info.to_json();
    document["unsupported"] = Json::array();
    print_json(document);
  } else {
    print_tables(info);
  }
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "inspect", "what a model is made of, and what a plan may choose for each of its layers");
  const auto arguments = std::make_shared<InspectArguments>();
  command->add_option("MODEL", arguments->model, "ONNX model")->required();
  add_pass_option(*command, arguments->disabled_passes);
  command->add_flag("--json", arguments->json, "one JSON document on stdout");
  command->callback([=] { *run = [=] { return inspect(*arguments); }; });
}

}  // namespace kerf::cli
