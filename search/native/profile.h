#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "search/native/lean.h"

namespace kerf::search {

/// What a cheap look says of a space: of every value alone, and of values that stand side by side.
///
/// Metrics are counted as in Observation: the objectives in the study's order and own units, then the
/// constraints. A look may be biased, and in units of its own where the sampler can fit a scale (a
/// sensitivity for an accuracy); what it doesn't know is NaN. Vectors that are too short say nothing
/// of the rest.
struct Profile {
  /// Side by side in the model: dimensions `first` and `second`, which need not stand side by side in
  /// the space (channels of a layer are decided between its precision and the next layer's).
  struct Neighbours {
    std::int64_t first = 0;
    std::int64_t metric = 0;
    /// [value of first][value of second]: what the pair adds beyond both alone (a reorder between
    /// two memory formats, say).
    std::vector<std::vector<double>> adds;
    std::int64_t second = -1;  ///< -1: first + 1.

    [[nodiscard]] std::int64_t other() const { return second < 0 ? first + 1 : second; }
  };

  /// [dimension][value][metric]: what it adds, as a difference; only differences between the values
  /// of a dimension count.
  std::vector<std::vector<std::vector<double>>> alone;
  std::vector<Neighbours> neighbours;
  /// Changes that labels may judge otherwise than their size says. Trials say more of them (believed_leans).
  std::vector<LeanLook> leans;
  /// [dimension][value]: its place in `leans`, −1 where it has none. Values that change the outputs alike share one.
  std::vector<std::vector<std::int64_t>> lean_of;
  std::vector<bool> about_labels;  ///< Metrics that leans are about: one a metric; short = no.
  /// Metrics that the plan alone decides (bytes): the look is the truth and needs no correction.
  /// One a metric; short = no.
  std::vector<bool> exact;

  [[nodiscard]] bool empty() const { return alone.empty(); }

  /// NaN where the profile says nothing.
  [[nodiscard]] double at(std::size_t dimension, std::size_t value, std::size_t metric) const;
  /// Nothing where there is none.
  [[nodiscard]] std::optional<std::size_t> lean_at(std::size_t dimension, std::size_t value) const;
};

/// One cheap look: the baseline with one value changed.
struct ProfileProbe {
  std::int64_t dimension = 0;
  int value = 0;
  std::vector<int> choices;
};

/// Every (dimension, value) alone, in the order of dimensions; `baseline` has the other values.
[[nodiscard]] std::vector<ProfileProbe> profile_probes(const std::vector<std::int64_t>& value_counts,
                                                       const std::vector<int>& baseline);

/// Builds a profile from what the probes measured.
///
/// `baseline` is the unchanged candidate's metrics, `measured[i]` those of probes[i]; empty for a
/// probe that failed (its values are NaN).
[[nodiscard]] Profile profile_from_probes(const std::vector<std::int64_t>& value_counts,
                                          const std::vector<ProfileProbe>& probes,
                                          const std::vector<double>& baseline,
                                          const std::vector<std::vector<double>>& measured);

}  // namespace kerf::search
