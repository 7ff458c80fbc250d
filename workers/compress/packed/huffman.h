#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "workers/compress/packed/wire.h"

namespace kerf::compress::packed {

inline constexpr int kLongestCode = 12;   ///< Bits; a look-up table has 2^12 entries.
inline constexpr int kPairedCode = 6;     ///< Codes this short are looked up two at a time.
inline constexpr std::size_t kPairedSymbols = 16;  ///< Alphabets up to this size get such codes.

/// Bits of each symbol's code; 0 = the symbol doesn't occur.
using CodeLengths = std::array<std::uint8_t, 256>;
using Counts = std::array<std::uint64_t, 256>;

/// The shortest prefix code of these counts with codes of at most `limit` bits.
///
/// Maths:    Huffman's algorithm; where its longest code passes the limit, package-merge, which is
///           optimal under it. Needs 2^limit ≥ the number of symbols that occur, and two of them at
///           least.
/// Source:   Huffman 1952; Larmore and Hirschberg 1990, "A fast algorithm for optimal
///           length-limited Huffman codes".
[[nodiscard]] CodeLengths code_lengths(const Counts& counts, int limit);

/// Code lengths as bytes: the first symbol, the number of symbols from it to the last one less one,
/// then a nibble each, low one first: 0…12 a length, 15 and a nibble n: n + 3 times 0.
void write_lengths(const CodeLengths& lengths, Writer& out);
[[nodiscard]] std::size_t lengths_size(const CodeLengths& lengths);

/// False where the bytes are no complete prefix code of at most kLongestCode bits.
[[nodiscard]] bool read_lengths(Reader& in, CodeLengths& lengths);

/// Codes of symbols in the canonical order (by length, then symbol), as they are written: bits low
/// first, a code's own highest bit first.
class HuffmanEncoder {
 public:
  explicit HuffmanEncoder(const CodeLengths& lengths);

  /// Appends the codes of `symbols` XOR flip, the last byte filled up with zeros.
  void encode(std::span<const std::uint8_t> symbols, std::uint8_t flip, std::string& out) const;

 private:
  std::array<std::uint16_t, 256> codes_{};
  CodeLengths lengths_{};
};

/// Decodes by look-up: four streams side by side, so that one symbol's chain of loads hides behind
/// the others', and two symbols a look-up where codes have at most kPairedCode bits.
class HuffmanDecoder {
 public:
  /// `lengths` is a complete code. Symbols come out XOR flip.
  HuffmanDecoder(const CodeLengths& lengths, std::uint8_t flip);

  /// Fills each target from its stream; false where a stream is longer or shorter than its symbols,
  /// or ends in bits that aren't zero.
  [[nodiscard]] bool decode(std::span<const std::string_view> streams,
                            std::span<const std::span<std::uint8_t>> targets) const;

 private:
  struct Lane;
  template <int kLanes, bool kPairs>
  [[nodiscard]] bool decode_lanes(Lane* lanes) const;
  [[nodiscard]] bool finish(Lane& lane) const;

  bool paired_ = false;
  std::array<std::uint16_t, 1U << kLongestCode> single_{};  ///< symbol | bits << 8.
  std::array<std::uint32_t, 1U << kLongestCode> pairs_{};   ///< two symbols | bits of both << 16.
};

}  // namespace kerf::compress::packed
