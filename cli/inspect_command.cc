#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/table.h"
#include "workers/compress/compress.h"
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

void print_candidate(const std::vector<measure::ExecutedLayer>& layers) {
  Table table({"as the plan has it", "executes as", "weight bits", "activation bits", "kernel"});
  for (const measure::ExecutedLayer& layer : layers) {
    table.add({layer.name, layer.executes_as, std::to_string(layer.weight_bits), std::to_string(layer.activation_bits), layer.kernel});
  }
  std::fputs(("\n" + table.text()).c_str(), stdout);
}

Json candidate_json(const std::vector<measure::ExecutedLayer>& layers) {
  Json out = Json::array();
  for (const measure::ExecutedLayer& layer : layers) {
    out.push_back({{"name", layer.name},
                   {"executes_as", layer.executes_as},
                   {"weight_bits", layer.weight_bits},
                   {"activation_bits", layer.activation_bits},
                   {"kernel", layer.kernel}});
  }
  return out;
}

struct InspectArguments {
  ModelOptions model;
  bool json = false;
};

Result<void> inspect(const InspectArguments& arguments) {
  KERF_ASSIGN(const compress::PreparedModel prepared, arguments.model.prepare());
  KERF_ASSIGN(const ModelInfo info, measure::inspect(prepared));
  std::optional<std::vector<measure::ExecutedLayer>> executed;
  if (!arguments.model.plan.empty()) {
    KERF_ASSIGN(const compress::CompressedModel candidate, arguments.model.build(prepared));
    KERF_ASSIGN(executed, measure::executed_layers(candidate, arguments.model.threads));
  }
  if (arguments.json) {
    Json document = info.to_json();
    document["unsupported"] = Json::array();
    if (executed) document["candidate"] = {{"layers", candidate_json(*executed)}};
    print_json(document);
  } else {
    print_tables(info);
    if (executed) print_candidate(*executed);
  }
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "inspect", "what a model is made of, and what a plan may choose for each of its layers; with a plan also what runs them");
  const auto arguments = std::make_shared<InspectArguments>();
  arguments->model.add_to(*command);
  command->add_flag("--json", arguments->json, "one JSON document on stdout");
  command->callback([=] { *run = [=] { return inspect(*arguments); }; });
}

}  // namespace kerf::cli
