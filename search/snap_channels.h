#pragma once

#include <cstdint>
#include <vector>

#include "core/json.h"
#include "core/model_info.h"

// Inside search/ only.
namespace kerf::search {

/// The number of channels that is worth offering instead of `wanted`.
///
/// Rule:     where `wanted` channels take clearly less time (3 %) than all: the most channels that take
///           no more (within 2 %) than `wanted`. Else the most channels below `wanted` that take
///           clearly less time than all. Else `wanted`: it still saves bytes.
/// Needs:    `costs` that hold `wanted` and all channels; else `wanted` is returned.
[[nodiscard]] std::int64_t snapped_count(std::int64_t wanted, std::int64_t channels,
                                         const std::vector<ChannelCost>& costs);

/// The values of a prune dimension of the group with their ratios of channels moved so; equal ones
/// become one. Other values stay as they are.
[[nodiscard]] std::vector<Json> snapped_channels(const std::vector<Json>& values, const TiedGroup& group);

}  // namespace kerf::search
