#include "search/native/profile.h"

#include <cmath>
#include <limits>

namespace kerf::search {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

}  // namespace

double Profile::at(std::size_t dimension, std::size_t value, std::size_t metric) const {
  if (dimension >= alone.size() || value >= alone[dimension].size() || metric >= alone[dimension][value].size()) {
    return kUnknown;
  }
  return alone[dimension][value][metric];
}

std::optional<std::size_t> Profile::lean_at(std::size_t dimension, std::size_t value) const {
  if (dimension >= lean_of.size() || value >= lean_of[dimension].size()) return std::nullopt;
  const std::int64_t at = lean_of[dimension][value];
  if (at < 0 || at >= static_cast<std::int64_t>(leans.size())) return std::nullopt;
  return static_cast<std::size_t>(at);
}

std::vector<ProfileProbe> profile_probes(const std::vector<std::int64_t>& value_counts,
                                         const std::vector<int>& baseline) {
  std::vector<ProfileProbe> out;
  for (std::size_t d = 0; d < value_counts.size(); ++d) {
    for (int value = 0; value < value_counts[d]; ++value) {
      if (value == baseline.at(d)) continue;
      ProfileProbe probe{static_cast<std::int64_t>(d), value, baseline};
      probe.choices[d] = value;
      out.push_back(std::move(probe));
    }
  }
  return out;
}

Profile profile_from_probes(const std::vector<std::int64_t>& value_counts,
                            const std::vector<ProfileProbe>& probes,
                            const std::vector<double>& baseline,
                            const std::vector<std::vector<double>>& measured) {
  Profile out;
  // What wasn't probed is the baseline's own value: it adds nothing.
  for (const std::int64_t count : value_counts) {
    out.alone.emplace_back(static_cast<std::size_t>(count), std::vector<double>(baseline.size(), 0.0));
  }
  for (std::size_t i = 0; i < probes.size(); ++i) {
    auto& values = out.alone.at(static_cast<std::size_t>(probes[i].dimension))
                       .at(static_cast<std::size_t>(probes[i].value));
    const bool failed = i >= measured.size() || measured[i].size() != baseline.size();
    for (std::size_t m = 0; m < baseline.size(); ++m) {
      values[m] = failed ? kUnknown : measured[i][m] - baseline[m];
    }
  }
  return out;
}

}  // namespace kerf::search
