#include "workers/compress/channel_sets.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace kerf::compress {

std::vector<std::int32_t> ChannelSets::make(std::int64_t count) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), static_cast<std::int32_t>(parent_.size()));
  parent_.insert(parent_.end(), out.begin(), out.end());
  reason_.resize(parent_.size(), 0);
  return out;
}

std::int32_t ChannelSets::root(std::int32_t channel) {
  while (parent_[static_cast<std::size_t>(channel)] != channel) {
    auto& up = parent_[static_cast<std::size_t>(channel)];
    up = parent_[static_cast<std::size_t>(up)];
    channel = up;
  }
  return channel;
}

void ChannelSets::unite(std::int32_t a, std::int32_t b) {
  a = root(a);
  b = root(b);
  if (a == b) return;
  if (b < a) std::swap(a, b);  // the older one stays the name, so that numbering is stable
  parent_[static_cast<std::size_t>(b)] = a;
  auto& why = reason_[static_cast<std::size_t>(a)];
  if (why == 0) why = reason_[static_cast<std::size_t>(b)];
}

void ChannelSets::pin(const std::vector<std::int32_t>& channels, const std::string& why) {
  reasons_.push_back(why);
  for (const std::int32_t channel : channels) {
    auto& slot = reason_[static_cast<std::size_t>(root(channel))];
    if (slot == 0) slot = static_cast<std::int32_t>(reasons_.size());
  }
}

std::string ChannelSets::reason(std::int32_t channel) {
  const std::int32_t slot = reason_[static_cast<std::size_t>(root(channel))];
  return slot == 0 ? std::string() : reasons_[static_cast<std::size_t>(slot - 1)];
}

namespace {

/// The layers of one group, by index, in model order.
using Members = std::vector<std::size_t>;

/// Layers that share a channel belong together.
std::vector<Members> connected_layers(const std::vector<std::string>& layers,
                                      const ChannelGroups& found) {
  std::vector<std::int64_t> first_layer(static_cast<std::size_t>(found.channel_count), -1);
  std::vector<std::size_t> leader(layers.size());
  std::iota(leader.begin(), leader.end(), std::size_t{0});
  const auto find = [&](std::size_t i) {
    while (leader[i] != i) i = leader[i] = leader[leader[i]];
    return i;
  };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const std::int32_t channel : found.outputs.at(layers[i])) {
      auto& first = first_layer[static_cast<std::size_t>(channel)];
      if (first < 0) first = static_cast<std::int64_t>(i);
      const std::size_t a = find(static_cast<std::size_t>(first));
      const std::size_t b = find(i);
      if (a != b) leader[std::max(a, b)] = std::min(a, b);
    }
  }
  std::map<std::size_t, Members> members;
  for (std::size_t i = 0; i < layers.size(); ++i) members[find(i)].push_back(i);
  std::vector<Members> out;
  for (auto& [first, indices] : members) out.push_back(std::move(indices));
  return out;
}

void add_group(const std::vector<std::string>& layers, const Members& members,
               ChannelGroups& found) {
  TiedGroup group;
  group.name = layers[members.front()];
  std::map<std::int32_t, Members> layers_of;  // channel -> layers
  for (const std::size_t i : members) {
    group.layers.push_back(layers[i]);
    found.group_of[layers[i]] = group.name;
    for (const std::int32_t channel : found.outputs[layers[i]]) {
      auto& list = layers_of[channel];
      if (list.empty() || list.back() != i) list.push_back(i);
    }
  }
  group.channels = static_cast<std::int64_t>(layers_of.size());
  std::map<Members, std::vector<std::int32_t>> blocks;
  for (const auto& [channel, list] : layers_of) blocks[list].push_back(channel);
  for (auto& [list, channels] : blocks) found.blocks[group.name].push_back(std::move(channels));
  found.groups.push_back(std::move(group));
}

}  // namespace

void form_groups(const std::vector<std::string>& layers, const std::string& all_stay,
                 ChannelSets& sets, ChannelGroups& found) {
  std::map<std::string, std::string> own_reason;
  for (const std::string& layer : layers) {
    for (const std::int32_t channel : found.outputs[layer]) {
      std::string why = all_stay.empty() ? sets.reason(channel) : all_stay;
      if (why.empty()) continue;
      own_reason[layer] = std::move(why);
      break;
    }
  }
  std::map<std::int32_t, std::int32_t> number;
  const auto renumber = [&](std::vector<std::int32_t>& channels) {
    for (std::int32_t& channel : channels) {
      const auto next = static_cast<std::int32_t>(number.size());
      channel = number.try_emplace(sets.root(channel), next).first->second;
    }
  };
  for (const std::string& layer : layers) renumber(found.outputs[layer]);
  for (ConstantAxis& constant : found.constants) renumber(constant.channels);
  found.channel_count = static_cast<std::int32_t>(number.size());

  for (const Members& members : connected_layers(layers, found)) {
    const auto blocker = std::find_if(members.begin(), members.end(), [&](std::size_t i) {
      return own_reason.contains(layers[i]);
    });
    if (blocker == members.end()) {
      add_group(layers, members, found);
      continue;
    }
    const std::string& cause = layers[*blocker];
    for (const std::size_t i : members) {
      const auto own = own_reason.find(layers[i]);
      found.stays[layers[i]] = own != own_reason.end()
                                   ? own->second
                                   : "tied to '" + cause + "': " + own_reason.at(cause);
    }
  }
}

}  // namespace kerf::compress
