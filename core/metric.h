#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace kerf {

enum class Direction { kMinimize, kMaximize };

[[nodiscard]] std::string_view to_string(Direction direction);
[[nodiscard]] std::optional<Direction> direction_from_string(std::string_view text);

/// What is known of a metric before it is measured. Its unit is in its name.
struct MetricInfo {
  std::string_view name;
  Direction better;        ///< The direction an objective takes unless it says otherwise.
  bool of_outputs;         ///< Of what the model says, so that it depends on the samples.
  bool needs_labels;       ///< Measured only where the data set has labels.
  bool needs_latency;      ///< Needs the machine alone for a while.
  std::string_view meaning;
};

/// Every metric of the contract.
[[nodiscard]] std::span<const MetricInfo> metrics();

/// nullptr for a name that is not known.
[[nodiscard]] const MetricInfo* find_metric(std::string_view name);

}  // namespace kerf
