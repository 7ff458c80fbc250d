#include "core/model_info.h"

#include <nlohmann/json.hpp>

namespace kerf {
namespace {

Json port_json(const PortInfo& port) {
  return {{"name", port.name}, {"dtype", port.dtype}, {"shape", port.shape}};
}

PortInfo parse_port(const Json& port) {
  return {port.at("name").get<std::string>(), port.at("dtype").get<std::string>(),
          port.at("shape").get<std::vector<std::int64_t>>()};
}

Json layer_json(const LayerInfo& layer) {
  Json out = {{"name", layer.name},
              {"op", layer.op},
              {"input_shape", layer.input_shape},
              {"output_shape", layer.output_shape},
              {"weight_shape", layer.weight_shape},
              {"macs", layer.macs},
              {"params", layer.params},
              {"kernel", layer.kernel},
              {"choices",
               {{"weight_bits", layer.weight_bits},
                {"activation_bits", layer.activation_bits},
                {"granularity", layer.granularities},
                {"codebook", layer.codebook ? Json("2…256") : Json()},
                {"rounding", layer.roundings},
                {"prune", layer.prune_structures},
                {"prune_score", layer.prune_scores}}}};
  if (layer.rank_forms) out["choices"]["rank"] = *layer.rank_forms;
  if (!layer.prune_group.empty()) out["prune_group"] = layer.prune_group;
  if (!layer.channels_stay_because.empty()) {
    out["channels_stay_because"] = layer.channels_stay_because;
  }
  return out;
}

LayerInfo parse_layer(const Json& layer) {
  LayerInfo out;
  out.name = layer.at("name").get<std::string>();
  out.op = layer.at("op").get<std::string>();
  out.input_shape = layer.at("input_shape").get<std::vector<std::int64_t>>();
  out.output_shape = layer.at("output_shape").get<std::vector<std::int64_t>>();
  out.weight_shape = layer.at("weight_shape").get<std::vector<std::int64_t>>();
  out.macs = layer.at("macs").get<std::int64_t>();
  out.params = layer.at("params").get<std::int64_t>();
  out.kernel = layer.value("kernel", "");
  const Json& choices = layer.at("choices");
  for (const Json& bits : choices.at("weight_bits")) out.weight_bits.push_back(bits);
  for (const Json& bits : choices.at("activation_bits")) out.activation_bits.push_back(bits);
  out.roundings = choices.value("rounding", std::vector<std::string>());
  out.prune_scores = choices.value("prune_score", std::vector<std::string>());
  if (choices.contains("rank")) {
    out.rank_forms = choices["rank"].get<std::vector<std::string>>();
  }
  // Of before there was a choice: every layer took these.
  out.granularities = choices.value("granularity", std::vector<std::string>{"channel", "tensor"});
  out.codebook = !choices.contains("codebook") || !choices["codebook"].is_null();
  out.prune_structures = choices.at("prune").get<std::vector<std::string>>();
  out.prune_group = layer.value("prune_group", "");
  out.channels_stay_because = layer.value("channels_stay_because", "");
  return out;
}

Json costs_json(const std::vector<ChannelCost>& costs) {
  Json out = Json::array();
  for (const ChannelCost& cost : costs) out.push_back({cost.channels, cost.us});
  return out;
}

std::vector<ChannelCost> parse_costs(const Json& costs) {
  std::vector<ChannelCost> out;
  for (const Json& cost : costs) out.push_back({cost.at(0).get<std::int64_t>(), cost.at(1).get<double>()});
  return out;
}

}  // namespace

Json ChannelCosts::to_json() const {
  Json out = {{"hardware", hardware}, {"groups", Json::object()}};
  for (const auto& [name, costs] : groups) out["groups"][name] = costs_json(costs);
  return out;
}

Result<ChannelCosts> ChannelCosts::parse(const Json& document) {
  try {
    ChannelCosts out{document.at("hardware").get<std::string>(), {}};
    for (const auto& [name, costs] : document.at("groups").items()) out.groups[name] = parse_costs(costs);
    return out;
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("channel costs: ") + e.what());
  }
}

void ModelInfo::set_channel_costs(const ChannelCosts& costs) {
  costs_hardware = costs.hardware;
  for (TiedGroup& group : groups) {
    const auto found = costs.groups.find(group.name);
    group.costs = found == costs.groups.end() ? std::vector<ChannelCost>() : found->second;
  }
}

ChannelCosts ModelInfo::channel_costs() const {
  ChannelCosts out{costs_hardware, {}};
  for (const TiedGroup& group : groups) {
    if (!group.costs.empty()) out.groups[group.name] = group.costs;
  }
  return out;
}

Json ModelInfo::to_json() const {
  Json out = {{"inputs", Json::array()}, {"outputs", Json::array()}, {"layers", Json::array()},
              {"groups", Json::array()}, {"macs", macs}, {"params", params}, {"opset", opset}};
  for (const PortInfo& port : inputs) out["inputs"].push_back(port_json(port));
  for (const PortInfo& port : outputs) out["outputs"].push_back(port_json(port));
  for (const LayerInfo& layer : layers) out["layers"].push_back(layer_json(layer));
  for (const TiedGroup& group : groups) {
    Json one = {{"name", group.name}, {"layers", group.layers}, {"channels", group.channels}};
    if (!group.costs.empty()) one["costs"] = costs_json(group.costs);
    out["groups"].push_back(std::move(one));
  }
  if (!costs_hardware.empty()) out["costs_hardware"] = costs_hardware;
  if (!distill_refused_because.empty()) out["distill_refused_because"] = distill_refused_because;
  return out;
}

Result<ModelInfo> ModelInfo::parse(const Json& document) {
  try {
    ModelInfo info;
    for (const Json& port : document.at("inputs")) info.inputs.push_back(parse_port(port));
    for (const Json& port : document.at("outputs")) info.outputs.push_back(parse_port(port));
    for (const Json& layer : document.at("layers")) info.layers.push_back(parse_layer(layer));
    for (const Json& group : document.at("groups")) {
      info.groups.push_back({group.at("name").get<std::string>(),
                             group.at("layers").get<std::vector<std::string>>(),
                             group.at("channels").get<std::int64_t>(),
                             parse_costs(group.value("costs", Json::array()))});
    }
    info.macs = document.at("macs").get<std::int64_t>();
    info.params = document.at("params").get<std::int64_t>();
    info.opset = document.at("opset").get<std::int64_t>();
    info.costs_hardware = document.value("costs_hardware", "");
    info.distill_refused_because = document.value("distill_refused_because", "");
    return info;
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("model info: ") + e.what());
  }
}

}  // namespace kerf
