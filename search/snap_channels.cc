#include "search/snap_channels.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

namespace kerf::search {
namespace {

constexpr double kGain = 0.97;  // of the time of all channels: less is a gain
constexpr double kSame = 1.02;

std::optional<double> us_of(std::int64_t channels, const std::vector<ChannelCost>& costs) {
  for (const ChannelCost& cost : costs) {
    if (cost.channels == channels) return cost.us;
  }
  return std::nullopt;
}

}  // namespace

std::int64_t snapped_count(std::int64_t wanted, std::int64_t channels,
                           const std::vector<ChannelCost>& costs) {
  const auto all = us_of(channels, costs);
  const auto own = us_of(wanted, costs);
  if (!all || !own) return wanted;
  std::int64_t best = 0;
  for (const ChannelCost& cost : costs) {
    if (cost.channels >= channels || cost.us > kGain * *all) continue;
    const bool fits = *own <= kGain * *all ? cost.channels >= wanted && cost.us <= kSame * *own
                                           : cost.channels < wanted;
    if (fits) best = std::max(best, cost.channels);
  }
  return best > 0 ? best : wanted;
}

std::vector<Json> snapped_channels(const std::vector<Json>& values, const TiedGroup& group) {
  std::vector<Json> out;
  for (Json value : values) {
    if (value.contains("prune") && value["prune"].value("structure", "") == "channel" && group.channels > 0) {
      const auto channels = static_cast<double>(group.channels);
      const double ratio = value["prune"].value("ratio", 0.0);
      const auto wanted = static_cast<std::int64_t>(std::max(1.0, std::round((1 - ratio) * channels)));
      const std::int64_t count = snapped_count(wanted, group.channels, group.costs);
      if (count != wanted) value["prune"]["ratio"] = 1 - static_cast<double>(count) / channels;
    }
    if (std::find(out.begin(), out.end(), value) == out.end()) out.push_back(std::move(value));
  }
  return out;
}

}  // namespace kerf::search
