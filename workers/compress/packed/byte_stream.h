#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "workers/compress/packed/huffman.h"
#include "workers/compress/packed/wire.h"

namespace kerf::compress::packed {

/// How a run of bytes whose number is known elsewhere is written in the fewest bytes.
///
/// Forms:    constant  one symbol, as often as there are bytes, where `constants` allows that
///           fixed     symbol − base in as few bits as the largest takes, low bits first; 8 bits are
///                     the bytes themselves
///           huffman   code lengths, then the codes: one stream, or from kFourStreams symbols on
///                     four, a quarter each (the last takes the rest)
/// Symbols are the bytes XOR flip: 0x80 brings small numbers of either sign side by side.
/// size() is exact and needs no writing: it follows from the counts of each quarter.
class StreamPlan {
 public:
  static constexpr std::size_t kFourStreams = 1024;

  StreamPlan() = default;
  StreamPlan(std::span<const std::uint8_t> bytes, std::uint8_t flip, bool constants = true);

  [[nodiscard]] std::size_t size() const { return size_; }

  /// Appends it; `bytes` and `flip` are those of the constructor.
  void write(std::span<const std::uint8_t> bytes, Writer& out, std::string& raw) const;

 private:
  enum class Form : std::uint8_t { kEmpty, kConstant, kFixed, kHuffman, kHuffman4 };

  Form form_ = Form::kEmpty;
  std::uint8_t flip_ = 0;
  std::uint8_t base_ = 0;
  unsigned bits_ = 0;
  CodeLengths lengths_{};
  std::array<std::size_t, 4> parts_{};  ///< Bytes of each Huffman stream.
  std::size_t size_ = 0;
};

/// Reads a run of `bytes.size()` bytes. False where it isn't one.
[[nodiscard]] bool read_stream(Reader& in, std::uint8_t flip, std::span<std::uint8_t> bytes);

}  // namespace kerf::compress::packed
