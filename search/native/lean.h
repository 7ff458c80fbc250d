#pragma once

#include <span>
#include <vector>

namespace kerf::search {

/// What a look at labels says of one value.
struct LeanLook {
  double kl = 0;     ///< How much it changes the outputs, nats; > 0.
  double lean = 0;   ///< What it costs the labels beyond that; negative where it does them good.
  double error = 0;  ///< Standard error of `lean`.
};

/// How much more (or less) harm than its size says each value is believed to do, as a share of that size.
///
/// Maths:    a change of the outputs costs labels kl + lean, where lean is about √kl times what the network
///           is off its optimum (the first order of a loss whose second order is kl). So lean ~ N(0, τ²·kl);
///           τ² is what all looks vary by beyond their errors, counted with a few that show none; a look is
///           believed as far as τ²·kl/(τ²·kl + error²). Between −3 and 3: what would turn a sum over on the
///           word of one look isn't believed.
/// Shapes:   one a look; 0 where kl or error isn't a positive number.
/// Source:   empirical Bayes estimation: Morris 1983, JASA 78.
[[nodiscard]] std::vector<double> believed_leans(std::span<const LeanLook> looks);

}  // namespace kerf::search
