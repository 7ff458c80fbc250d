#include "search/native/profile.h"

#include <cmath>
#include <limits>

namespace kerf::search {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double entry(const std::vector<std::vector<std::vector<double>>>& table, std::size_t dimension, std::size_t value,
             std::size_t metric) {
  if (dimension >= table.size() || value >= table[dimension].size() || metric >= table[dimension][value].size()) {
    return kUnknown;
  }
  return table[dimension][value][metric];
}

}  // namespace

double Profile::at(std::size_t dimension, std::size_t value, std::size_t metric) const {
  return entry(alone, dimension, value, metric);
}

double Profile::lean_at(std::size_t dimension, std::size_t value, std::size_t metric) const {
  const double known = entry(lean, dimension, value, metric);
  return std::isfinite(known) ? known : 0;
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
