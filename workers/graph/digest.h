#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace kerf::graph {

/// 128 bits of some content.
///
/// Maths:    two chains of multiply and fold (after wyhash's mixing step). Not for an attacker's
///           content: whoever supplies a model only ever meets his own.
struct Digest {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend auto operator<=>(const Digest&, const Digest&) = default;
};

[[nodiscard]] Digest digest(const void* data, std::size_t size);

/// The digest of one thing followed by another.
[[nodiscard]] Digest operator+(const Digest& first, const Digest& second);

}  // namespace kerf::graph
