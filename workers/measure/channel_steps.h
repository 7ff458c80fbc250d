#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/model_info.h"
#include "core/result.h"
#include "workers/compress/model.h"
#include "workers/measure/host_lock.h"
#include "workers/measure/measure.h"

namespace kerf::measure {

struct ChannelScan {
  int threads = 1;
  std::int64_t batch = 1;
  double seconds = 1.0;  ///< No group is begun later.
  std::size_t most_bytes = 512 << 20;  ///< Of the weights of a group's layers at all counts, held at once.
  WaitLimits wait;       ///< For the host lock.
};

/// What the f32 layers that lose channels with a group take on this machine, by the channels that stay:
/// vectors are filled in blocks, so that time goes down in steps (60 channels take as long as 64, 48
/// less than 44).
///
/// Counts:   all channels, multiples of 16 (of 8 and of 4 where there are 64 and 32 or fewer), and
///           three quarters and half; from a quarter on.
/// Method:   each layer that removing channels changes runs alone, on random numbers, with the shapes
///           that it would have; shapes that occur again in a group are timed once, groups whose layers
///           have the same shapes too. All counts of a group take turns, the machine alone; what counts is
///           the median, over the turns, of a layer's share of its turn, so that a clock that changes
///           changes all alike.
/// Result:   by group name, {channels, us}, most channels first. Groups of several blocks (sums over
///           concatenations), and those that there is no time or no memory for, are left out.
/// Errors:   those of the host lock; cancelled.
[[nodiscard]] Result<std::map<std::string, std::vector<ChannelCost>>> scan_channels(
    const compress::PreparedModel& model, const ChannelScan& scan, HostLock* lock,
    const Progress& progress);

}  // namespace kerf::measure
