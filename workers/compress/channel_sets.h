#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "workers/compress/channel_groups.h"

namespace kerf::compress {

/// Union-find over single channels, each class with the reason why it stays, if it does.
class ChannelSets {
 public:
  /// `count` new channels, numbered in a row.
  [[nodiscard]] std::vector<std::int32_t> make(std::int64_t count);

  void unite(std::int32_t a, std::int32_t b);

  /// These channels stay. The first reason counts.
  void pin(const std::vector<std::int32_t>& channels, const std::string& why);

  [[nodiscard]] std::int32_t root(std::int32_t channel);

  /// Empty where the channel may go.
  [[nodiscard]] std::string reason(std::int32_t channel);

 private:
  std::vector<std::int32_t> parent_;
  std::vector<std::int32_t> reason_;  // index into reasons_ + 1, of roots; 0 = may go
  std::vector<std::string> reasons_;
};

/// Turns what a walk through the graph found into groups: fills groups, stays, group_of, blocks and
/// channel_count, and numbers all channels anew, from 0, in the order of `layers`.
///
/// `found.outputs` and `found.constants` hold channels of `sets`. `all_stay`: a reason that holds
/// for the whole graph; empty where there is none.
void form_groups(const std::vector<std::string>& layers, const std::string& all_stay,
                 ChannelSets& sets, ChannelGroups& found);

}  // namespace kerf::compress
