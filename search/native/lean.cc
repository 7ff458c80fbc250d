#include "search/native/lean.h"

#include <algorithm>
#include <cmath>

namespace kerf::search {
namespace {

constexpr double kUnmoved = 4;  // looks without any lean that are thought beside those that were taken
constexpr double kMost = 3;

bool usable(const LeanLook& look) {
  return std::isfinite(look.lean) && look.kl > 0 && std::isfinite(look.kl) && look.error > 0 && std::isfinite(look.error);
}

}  // namespace

std::vector<double> believed_leans(std::span<const LeanLook> looks) {
  std::vector<double> out(looks.size(), 0.0);
  double beyond = 0;
  double count = kUnmoved;
  for (const LeanLook& look : looks) {
    if (!usable(look)) continue;
    beyond += (look.lean * look.lean - look.error * look.error) / look.kl;
    count += 1;
  }
  const double variance = std::max(0.0, beyond / count);
  if (variance == 0) return out;
  for (std::size_t i = 0; i < looks.size(); ++i) {
    const LeanLook& look = looks[i];
    if (!usable(look)) continue;
    const double own = variance * look.kl;
    out[i] = std::clamp(own / (own + look.error * look.error) * look.lean / look.kl, -kMost, kMost);
  }
  return out;
}

}  // namespace kerf::search
