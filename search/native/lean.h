#pragma once

#include <limits>
#include <span>
#include <vector>

namespace kerf::search {

/// A change of one value that labels may judge otherwise than its size says, and what a look at them said.
struct LeanLook {
  double kl = 0;  ///< How much it changes the outputs, nats; > 0.
  /// What it costs the labels beyond that; negative where it does them good. NaN: nobody looked.
  double lean = std::numeric_limits<double>::quiet_NaN();
  double error = 0;  ///< Standard error of `lean`.
};

/// What a whole candidate cost labels.
struct LeanTrial {
  std::vector<std::size_t> changes;  ///< Which of the looks' changes it makes; each once.
  double kl = 0;                     ///< Of all its outputs, nats.
  double lean = 0;                   ///< What labels' cross entropy rose by beyond `kl`, nats.
};

/// How much more (or less) harm than its size says each change is believed to do, as a share of that size.
///
/// Maths:    a change of the outputs costs labels kl + lean, where lean is about √kl times what the network
///           is off its optimum (the first order of a loss whose second order is kl). So lean ~ N(0, τ²·kl).
///           A look is a lean and its error; a trial is the sum of its changes' leans, off by a tenth of its
///           kl. τ² is the likeliest on a grid, larger ones being thought less likely before; shares are the
///           posterior mean. Between −3 and 3: what would turn a sum over on the word of one look isn't
///           believed.
/// Shapes:   one a look; 0 where kl isn't a positive number. Of trials the first and the latest are used, 48
///           at most.
/// Cost:     O(n²·d + n³) for each of the 18 points of the grid, n trials, d looks.
/// Source:   empirical Bayes estimation: Morris 1983, JASA 78.
[[nodiscard]] std::vector<double> believed_leans(std::span<const LeanLook> looks, std::span<const LeanTrial> trials = {});

}  // namespace kerf::search
