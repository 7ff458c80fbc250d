#include "workers/compress/packed/huffman.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace kerf::compress::packed {
namespace {

struct Leaf {
  std::uint64_t count;
  std::uint8_t symbol;
};

std::vector<Leaf> leaves_of(const Counts& counts) {
  std::vector<Leaf> leaves;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] > 0) leaves.push_back({counts[s], static_cast<std::uint8_t>(s)});
  }
  std::stable_sort(leaves.begin(), leaves.end(),
                   [](const Leaf& a, const Leaf& b) { return a.count < b.count; });
  return leaves;
}

/// Depths of the leaves of Huffman's tree; leaves and inner nodes are two queues that only grow.
std::vector<int> tree_depths(const std::vector<Leaf>& leaves) {
  const std::size_t n = leaves.size();
  std::vector<std::uint64_t> inner;
  std::vector<std::size_t> parent(2 * n - 1);
  inner.reserve(n);
  std::size_t leaf = 0;
  std::size_t node = 0;
  const auto smallest = [&](std::size_t made) {
    if (leaf < n && (node >= inner.size() || leaves[leaf].count <= inner[node])) {
      parent[leaf] = n + made;
      return leaves[leaf++].count;
    }
    parent[n + node] = n + made;
    return inner[node++];
  };
  for (std::size_t made = 0; made + 1 < n; ++made) {
    const std::uint64_t a = smallest(made);
    inner.push_back(a + smallest(made));
  }
  std::vector<int> depth(2 * n - 1, 0);
  for (std::size_t i = 2 * n - 2; i-- > 0;) depth[i] = depth[parent[i]] + 1;
  depth.resize(n);
  return depth;
}

/// Package-merge: in each of `limit` rounds neighbours in order of weight become packages and join
/// the leaves. Of the last round's list the lightest 2n − 2 are taken; a package among them stands
/// for two of the round before, and a leaf's code has a bit for each round that it is taken in.
std::vector<int> limited_depths(const std::vector<Leaf>& leaves, int limit) {
  const std::size_t n = leaves.size();
  std::vector<std::vector<bool>> is_leaf(static_cast<std::size_t>(limit),
                                         std::vector<bool>(n, true));
  std::vector<std::uint64_t> weights;
  for (const Leaf& leaf : leaves) weights.push_back(leaf.count);
  for (std::size_t round = 1; round < static_cast<std::size_t>(limit); ++round) {
    std::vector<std::uint64_t> merged;
    std::vector<bool>& flags = is_leaf[round];
    flags.clear();
    const std::size_t packages = weights.size() / 2;
    const auto package = [&](std::size_t i) { return weights[2 * i] + weights[2 * i + 1]; };
    for (std::size_t a = 0, b = 0; a < n || b < packages;) {
      const bool leaf = b >= packages || (a < n && leaves[a].count <= package(b));
      flags.push_back(leaf);
      merged.push_back(leaf ? leaves[a].count : package(b));
      ++(leaf ? a : b);
    }
    weights = std::move(merged);
  }
  std::vector<int> depth(n, 0);
  std::size_t taken = 2 * n - 2;
  for (std::size_t round = is_leaf.size(); round-- > 0;) {
    const auto begin = is_leaf[round].begin();
    const auto own = static_cast<std::size_t>(
        std::count(begin, begin + static_cast<std::ptrdiff_t>(taken), true));
    for (std::size_t i = 0; i < own; ++i) ++depth[i];
    taken = 2 * (taken - own);
  }
  return depth;
}

/// Nibbles of write_lengths.
std::vector<std::uint8_t> nibbles_of(const CodeLengths& lengths, std::size_t first,
                                     std::size_t last) {
  std::vector<std::uint8_t> out;
  for (std::size_t s = first; s <= last;) {
    std::size_t zeros = 0;
    while (s + zeros <= last && lengths[s + zeros] == 0 && zeros < 18) ++zeros;
    if (zeros >= 3) {
      out.push_back(15);
      out.push_back(static_cast<std::uint8_t>(zeros - 3));
      s += zeros;
    } else {
      out.push_back(lengths[s++]);
    }
  }
  return out;
}

std::pair<std::size_t, std::size_t> ends_of(const CodeLengths& lengths) {
  std::size_t first = 0;
  while (first < 255 && lengths[first] == 0) ++first;
  std::size_t last = 255;
  while (last > first && lengths[last] == 0) --last;
  return {first, last};
}

/// A code as it is written: its highest bit first in a stream whose low bits come first.
std::uint16_t reversed(std::uint32_t code, int bits) {
  std::uint32_t out = 0;
  for (int i = 0; i < bits; ++i) {
    out = out << 1U | (code & 1U);
    code >>= 1U;
  }
  return static_cast<std::uint16_t>(out);
}

std::array<std::uint16_t, 256> canonical_codes(const CodeLengths& lengths) {
  std::array<std::uint32_t, kLongestCode + 2> next{};
  for (const std::uint8_t length : lengths) {
    if (length > 0) ++next[length + 1U];
  }
  // First code of each length: those of shorter ones come before it.
  std::array<std::uint32_t, kLongestCode + 2> first{};
  for (std::size_t bits = 1; bits <= kLongestCode; ++bits) {
    first[bits] = (first[bits - 1] + (bits > 1 ? next[bits] : 0)) << 1U;
  }
  std::array<std::uint16_t, 256> codes{};
  for (std::size_t s = 0; s < 256; ++s) {
    if (lengths[s] > 0) codes[s] = reversed(first[lengths[s]]++, lengths[s]);
  }
  return codes;
}

}  // namespace

CodeLengths code_lengths(const Counts& counts, int limit) {
  const std::vector<Leaf> leaves = leaves_of(counts);
  std::vector<int> depths = tree_depths(leaves);
  if (*std::max_element(depths.begin(), depths.end()) > limit) {
    depths = limited_depths(leaves, limit);
  }
  CodeLengths out{};
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    out[leaves[i].symbol] = static_cast<std::uint8_t>(depths[i]);
  }
  return out;
}

std::size_t lengths_size(const CodeLengths& lengths) {
  const auto [first, last] = ends_of(lengths);
  return 2 + (nibbles_of(lengths, first, last).size() + 1) / 2;
}

void write_lengths(const CodeLengths& lengths, Writer& out) {
  const auto [first, last] = ends_of(lengths);
  out.u8(first);
  out.u8(last - first);
  const auto nibbles = nibbles_of(lengths, first, last);
  for (std::size_t i = 0; i < nibbles.size(); i += 2) {
    out.u8(nibbles[i] | static_cast<unsigned>(i + 1 < nibbles.size() ? nibbles[i + 1] : 0) << 4U);
  }
}

bool read_lengths(Reader& in, CodeLengths& lengths) {
  lengths.fill(0);
  const std::size_t first = in.u8();
  const std::size_t last = first + in.u8();
  if (!in.ok() || last > 255) return false;
  unsigned byte = 0;
  bool high = false;
  const auto nibble = [&] {
    if (!high) byte = in.u8();
    const unsigned out = high ? byte >> 4U : byte & 0x0FU;
    high = !high;
    return out;
  };
  for (std::size_t s = first; s <= last && in.ok();) {
    const unsigned value = nibble();
    if (value == 15) {
      s += nibble() + 3;
    } else if (value <= static_cast<unsigned>(kLongestCode)) {
      lengths[s++] = static_cast<std::uint8_t>(value);
    } else {
      return false;
    }
    if (s > last + 1) return false;
  }
  if (!in.ok() || (high && byte >> 4U != 0)) return false;
  std::uint32_t filled = 0;
  for (const std::uint8_t length : lengths) {
    if (length > 0) filled += 1U << static_cast<unsigned>(kLongestCode - length);
  }
  return filled == 1U << static_cast<unsigned>(kLongestCode);
}

HuffmanEncoder::HuffmanEncoder(const CodeLengths& lengths)
    : codes_(canonical_codes(lengths)), lengths_(lengths) {}

void HuffmanEncoder::encode(std::span<const std::uint8_t> symbols, std::uint8_t flip,
                            std::string& out) const {
  std::uint64_t bits = 0;
  unsigned count = 0;
  for (const std::uint8_t plain : symbols) {
    const auto symbol = static_cast<std::uint8_t>(plain ^ flip);
    bits |= static_cast<std::uint64_t>(codes_[symbol]) << count;
    count += lengths_[symbol];
    while (count >= 8) {
      out.push_back(static_cast<char>(bits & 0xFFU));
      bits >>= 8U;
      count -= 8;
    }
  }
  if (count > 0) out.push_back(static_cast<char>(bits & 0xFFU));
}

/// A stream that is being read: `bits` holds the next `count` bits, low ones first.
struct HuffmanDecoder::Lane {
  const std::uint8_t* at = nullptr;
  const std::uint8_t* end = nullptr;
  std::uint64_t bits = 0;
  unsigned count = 0;
  std::uint8_t* to = nullptr;
  std::uint8_t* to_end = nullptr;
};

HuffmanDecoder::HuffmanDecoder(const CodeLengths& lengths, std::uint8_t flip) {
  constexpr std::size_t kSize = std::size_t{1} << kLongestCode;
  const auto codes = canonical_codes(lengths);
  int longest = 0;
  for (std::size_t s = 0; s < 256; ++s) {
    if (lengths[s] == 0) continue;
    longest = std::max<int>(longest, lengths[s]);
    const auto entry = static_cast<std::uint16_t>((s ^ flip) | lengths[s] << 8U);
    for (std::size_t i = codes[s]; i < kSize; i += std::size_t{1} << lengths[s]) single_[i] = entry;
  }
  paired_ = longest <= kPairedCode;
  if (!paired_) return;
  for (std::size_t i = 0; i < kSize; ++i) {
    const std::uint32_t a = single_[i];
    const std::uint32_t b = single_[i >> (a >> 8U)];
    pairs_[i] = (a & 0xFFU) | (b & 0xFFU) << 8U | ((a >> 8U) + (b >> 8U)) << 16U;
  }
}

/// As many rounds as every lane has bytes and room for, whatever its codes' lengths; false where that
/// is none. Short codes leave more for another call.
template <int kLanes, bool kPairs>
bool HuffmanDecoder::decode_lanes(Lane* lanes) const {
  constexpr std::ptrdiff_t kSteps = 4;  // look-ups of at most 12 bits that 56 bits are enough for
  constexpr std::ptrdiff_t kSymbols = kPairs ? 2 * kSteps : kSteps;
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kLongestCode) - 1;
  std::ptrdiff_t rounds = PTRDIFF_MAX;
  for (int k = 0; k < kLanes; ++k) {
    // A round moves on by at most seven bytes and loads eight.
    rounds = std::min(rounds, (lanes[k].end - lanes[k].at - 1) / 7);
    rounds = std::min(rounds, (lanes[k].to_end - lanes[k].to) / kSymbols);
  }
  if (rounds <= 0) return false;
  const std::uint8_t* at[kLanes];
  std::uint8_t* to[kLanes];
  std::uint64_t bits[kLanes];
  unsigned count[kLanes];
  for (int k = 0; k < kLanes; ++k) {
    at[k] = lanes[k].at;
    to[k] = lanes[k].to;
    bits[k] = lanes[k].bits;
    count[k] = lanes[k].count;
  }
  for (; rounds > 0; --rounds) {
    for (int k = 0; k < kLanes; ++k) {
      std::uint64_t word = 0;
      std::memcpy(&word, at[k], 8);
      bits[k] |= word << count[k];
      at[k] += (63 - count[k]) >> 3U;
      count[k] |= 56U;
    }
    for (std::ptrdiff_t step = 0; step < kSteps; ++step) {
      for (int k = 0; k < kLanes; ++k) {
        unsigned used = 0;
        if constexpr (kPairs) {
          const std::uint32_t entry = pairs_[bits[k] & kMask];
          const auto both = static_cast<std::uint16_t>(entry);
          std::memcpy(to[k] + 2 * step, &both, 2);
          used = entry >> 16U;
        } else {
          const std::uint32_t entry = single_[bits[k] & kMask];
          to[k][step] = static_cast<std::uint8_t>(entry);
          used = entry >> 8U;
        }
        bits[k] >>= used;
        count[k] -= used;
      }
    }
    for (int k = 0; k < kLanes; ++k) to[k] += kSymbols;
  }
  for (int k = 0; k < kLanes; ++k) {
    lanes[k].at = at[k];
    lanes[k].to = to[k];
    // Bits above `count` were loaded and will be again.
    lanes[k].bits = bits[k] & ((std::uint64_t{1} << count[k]) - 1);
    lanes[k].count = count[k];
  }
  return true;
}

bool HuffmanDecoder::finish(Lane& lane) const {
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kLongestCode) - 1;
  while (lane.to < lane.to_end) {
    while (lane.count <= 56 && lane.at < lane.end) {
      lane.bits |= static_cast<std::uint64_t>(*lane.at++) << lane.count;
      lane.count += 8;
    }
    const std::uint32_t entry = single_[lane.bits & kMask];
    const std::uint32_t used = entry >> 8U;
    if (used > lane.count) return false;
    *lane.to++ = static_cast<std::uint8_t>(entry);
    lane.bits >>= used;
    lane.count -= used;
  }
  return lane.at == lane.end && lane.count < 8 && lane.bits == 0;
}

bool HuffmanDecoder::decode(std::span<const std::string_view> streams,
                            std::span<const std::span<std::uint8_t>> targets) const {
  std::array<Lane, 4> lanes{};
  for (std::size_t k = 0; k < streams.size(); ++k) {
    lanes[k].at = reinterpret_cast<const std::uint8_t*>(streams[k].data());
    lanes[k].end = lanes[k].at + streams[k].size();
    lanes[k].to = targets[k].data();
    lanes[k].to_end = lanes[k].to + targets[k].size();
  }
  if (streams.size() == 4) {
    while (paired_ ? decode_lanes<4, true>(lanes.data()) : decode_lanes<4, false>(lanes.data())) {
    }
  }
  bool ok = true;
  for (std::size_t k = 0; k < streams.size(); ++k) {
    while (paired_ ? decode_lanes<1, true>(&lanes[k]) : decode_lanes<1, false>(&lanes[k])) {
    }
    ok = finish(lanes[k]) && ok;
  }
  return ok;
}

}  // namespace kerf::compress::packed
