#include "search/native/prior.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

namespace kerf::search::native {
namespace {

std::string family_of(const DimensionSpec& dimension) {
  const std::string& name = dimension.name;
  if (name.starts_with("global.")) return name;
  const auto dot = name.rfind('.');
  const std::string ending = dot == std::string::npos ? "" : name.substr(dot + 1);
  const bool known = ending == "precision" || ending == "prune" || ending == "rank" || ending == "codebook";
  return (known ? ending : std::string("value")) + "/" + std::to_string(dimension.choices);
}

/// Whether most layers have a value that does next to nothing: a damage. What every value has to pay
/// for is a cost, and adds up as it is.
bool is_damage(const Layout& layout, const std::vector<double>& terms) {
  std::size_t harmless = 0;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    const auto first = terms.begin() + static_cast<std::ptrdiff_t>(layout.offsets[d]);
    const auto [least, most] = std::minmax_element(first, first + static_cast<std::ptrdiff_t>(layout.counts[d]));
    harmless += *least <= 0.05 * *most ? 1 : 0;
  }
  return 2 * harmless > layout.size();
}

}  // namespace

MetricPrior make_prior(const SamplerProblem& problem, const Layout& layout, std::size_t metric,
                       double sign) {
  MetricPrior out;
  out.baseline = problem.anchors.empty() ? Choices(layout.size(), 0) : problem.anchors.front();
  out.kinds.resize(layout.values);
  std::map<std::string, std::size_t> families;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    const auto [family, added] = families.emplace(family_of(problem.dimensions[d]), out.kind_count);
    if (added) out.kind_count += layout.counts[d];
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      out.kinds[layout.offsets[d] + v] = family->second + v;
    }
  }
  const Profile& profile = problem.profile;
  std::vector<double> terms(layout.values);
  std::vector<double> sums(out.kind_count, 0.0);
  std::vector<double> counts(out.kind_count, 0.0);
  std::size_t known = 0;
  bool negative = false;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      const std::size_t at = layout.offsets[d] + v;
      terms[at] = sign * profile.at(d, v, metric);
      if (!std::isfinite(terms[at])) continue;
      ++known;
      negative = negative || terms[at] < 0;
      sums[out.kinds[at]] += terms[at];
      counts[out.kinds[at]] += 1;
    }
  }
  if (2 * known < layout.values || known == 0) return out;
  for (std::size_t at = 0; at < layout.values; ++at) {
    if (std::isfinite(terms[at])) continue;
    const std::size_t kind = out.kinds[at];
    terms[at] = counts[kind] > 0 ? sums[kind] / counts[kind] : 0;
  }
  if (negative) {
    for (std::size_t d = 0; d < layout.size(); ++d) {
      const auto first = terms.begin() + static_cast<std::ptrdiff_t>(layout.offsets[d]);
      const auto last = first + static_cast<std::ptrdiff_t>(layout.counts[d]);
      const double least = *std::min_element(first, last);
      for (auto it = first; it != last; ++it) *it -= least;
    }
  }
  out.bendable = is_damage(layout, terms);
  out.terms = std::move(terms);
  out.exact = metric < profile.exact.size() && profile.exact[metric];
  for (const Profile::Neighbours& pair : profile.neighbours) {
    const auto d = static_cast<std::size_t>(pair.first);
    if (pair.metric != static_cast<std::int64_t>(metric) || d + 1 >= layout.size() || pair.other() != pair.first + 1) continue;
    if (out.chain.empty()) out.chain.assign(layout.chain_values, 0.0);
    for (std::size_t v = 0; v < pair.adds.size() && v < layout.counts[d]; ++v) {
      for (std::size_t w = 0; w < pair.adds[v].size() && w < layout.counts[d + 1]; ++w) {
        if (!std::isfinite(pair.adds[v][w])) continue;
        out.chain[layout.chain_at(d, static_cast<int>(v), static_cast<int>(w))] += sign * pair.adds[v][w];
      }
    }
  }
  return out;
}

}  // namespace kerf::search::native
