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

/// What isn't known (NaN), from what is: sign·exp(layer + kind), fitted in turns to the known terms that
/// aren't zero. Where some are positive and some negative, or nothing of the kind is known, the mean of
/// the kind's known terms, or 0.
void fill_unknown(const Layout& layout, const std::vector<std::size_t>& kinds, std::size_t kind_count,
                  std::vector<double>& terms) {
  constexpr int kRounds = 30;
  std::vector<double> sums(kind_count, 0.0);
  std::vector<double> known(kind_count, 0.0);
  std::vector<double> of_kind(kind_count, 0.0);  // in logarithms
  std::vector<double> of_layer(layout.size(), 0.0);
  std::vector<double> kind_members(kind_count, 0.0);
  std::vector<double> layer_members(layout.size(), 0.0);
  bool positive = false;
  bool negative = false;
  const auto each = [&](auto&& see) {
    for (std::size_t d = 0; d < layout.size(); ++d) {
      for (std::size_t v = 0; v < layout.counts[d]; ++v) {
        const std::size_t at = layout.offsets[d] + v;
        if (std::isfinite(terms[at]) && terms[at] != 0) see(d, kinds[at], std::log(std::abs(terms[at])));
      }
    }
  };
  for (std::size_t at = 0; at < terms.size(); ++at) {
    if (!std::isfinite(terms[at])) continue;
    sums[kinds[at]] += terms[at];
    known[kinds[at]] += 1;
    positive = positive || terms[at] > 0;
    negative = negative || terms[at] < 0;
  }
  each([&](std::size_t d, std::size_t k, double) {
    kind_members[k] += 1;
    layer_members[d] += 1;
  });
  for (int round = 0; round < kRounds; ++round) {
    std::fill(of_kind.begin(), of_kind.end(), 0.0);
    each([&](std::size_t d, std::size_t k, double log) { of_kind[k] += (log - of_layer[d]) / kind_members[k]; });
    std::fill(of_layer.begin(), of_layer.end(), 0.0);
    each([&](std::size_t d, std::size_t k, double log) { of_layer[d] += (log - of_kind[k]) / layer_members[d]; });
  }
  double mean = 0;
  double layers = 0;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    mean += of_layer[d];
    layers += layer_members[d] > 0 ? 1 : 0;
  }
  mean /= std::max(1.0, layers);
  const double sign = negative ? -1 : 1;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      const std::size_t at = layout.offsets[d] + v;
      if (std::isfinite(terms[at])) continue;
      const std::size_t k = kinds[at];
      if (positive != negative && kind_members[k] > 0) {
        terms[at] = sign * std::exp(of_kind[k] + (layer_members[d] > 0 ? of_layer[d] : mean));
      } else {
        terms[at] = known[k] > 0 ? sums[k] / known[k] : 0;
      }
    }
  }
}

}  // namespace

std::vector<double> lean_terms(const Profile& profile, const Layout& layout, std::span<const double> shares) {
  std::vector<double> out(layout.values, 0.0);
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      if (const auto at = profile.lean_at(d, v)) out[layout.offsets[d] + v] = shares[*at];
    }
  }
  return out;
}

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
  std::size_t known = 0;
  bool negative = false;
  for (std::size_t d = 0; d < layout.size(); ++d) {
    for (std::size_t v = 0; v < layout.counts[d]; ++v) {
      const std::size_t at = layout.offsets[d] + v;
      terms[at] = sign * profile.at(d, v, metric);
      if (!std::isfinite(terms[at])) continue;
      ++known;
      negative = negative || terms[at] < 0;
    }
  }
  if (2 * known < layout.values || known == 0) return out;
  fill_unknown(layout, out.kinds, out.kind_count, terms);
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
  const bool about_labels = metric < profile.about_labels.size() && profile.about_labels[metric];
  if (out.bendable && !out.exact && about_labels && !profile.leans.empty()) {
    out.lean = lean_terms(profile, layout, believed_leans(profile.leans));
  }
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
