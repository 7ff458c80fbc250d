#include "workers/compress/packed/byte_stream.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <vector>

namespace kerf::compress::packed {
namespace {

constexpr std::uint8_t kConstantMark = 0;
constexpr std::uint8_t kFixedMark = 1;
constexpr std::uint8_t kHuffmanMark = 2;
constexpr std::uint8_t kHuffman4Mark = 3;

std::size_t bytes_for(std::size_t count, unsigned bits) { return (count * bits + 7) / 8; }

/// Where each of the four streams begins, and the end.
std::array<std::size_t, 5> quarters(std::size_t count) {
  const std::size_t quarter = (count + 3) / 4;
  return {0, quarter, 2 * quarter, 3 * quarter, count};
}

/// Counts in four tables in turn, so that equal neighbours don't wait for each other.
Counts count_bytes(std::span<const std::uint8_t> bytes, std::uint8_t flip) {
  std::array<std::array<std::uint32_t, 256>, 4> tables{};
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    for (std::size_t k = 0; k < 4; ++k) ++tables[k][bytes[i + k]];
  }
  for (; i < bytes.size(); ++i) ++tables[0][bytes[i]];
  Counts out{};
  for (std::size_t s = 0; s < 256; ++s) {
    out[s ^ flip] = std::uint64_t{tables[0][s]} + tables[1][s] + tables[2][s] + tables[3][s];
  }
  return out;
}

std::size_t coded_bytes(const Counts& counts, const CodeLengths& lengths) {
  std::uint64_t bits = 0;
  for (std::size_t s = 0; s < 256; ++s) bits += counts[s] * lengths[s];
  return static_cast<std::size_t>((bits + 7) / 8);
}

void write_fixed(std::span<const std::uint8_t> bytes, std::uint8_t flip, std::uint8_t base,
                 unsigned width, std::string& out) {
  if (width == 8) {
    const std::size_t begin = out.size();
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (std::size_t i = begin; flip != 0 && i < out.size(); ++i) {
      out[i] = static_cast<char>(static_cast<std::uint8_t>(out[i]) ^ flip);
    }
    return;
  }
  unsigned pending = 0;
  unsigned count = 0;
  for (const std::uint8_t byte : bytes) {
    pending |= static_cast<unsigned>((byte ^ flip) - base) << count;
    count += width;
    if (count < 8) continue;
    out.push_back(static_cast<char>(pending & 0xFFU));
    pending >>= 8U;
    count -= 8;
  }
  if (count > 0) out.push_back(static_cast<char>(pending));
}

bool read_fixed(std::string_view in, std::uint8_t flip, unsigned base, unsigned width,
                std::span<std::uint8_t> bytes) {
  if (width == 8) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::uint8_t>(static_cast<std::uint8_t>(in[i]) ^ flip);
    }
    return base == 0;
  }
  const unsigned mask = (1U << width) - 1;
  unsigned pending = 0;
  unsigned count = 0;
  std::size_t at = 0;
  bool fits = true;
  for (std::uint8_t& byte : bytes) {
    if (count < width) {
      pending |= static_cast<unsigned>(static_cast<std::uint8_t>(in[at++])) << count;
      count += 8;
    }
    const unsigned symbol = base + (pending & mask);
    fits = fits && symbol <= 255;
    byte = static_cast<std::uint8_t>((symbol & 0xFFU) ^ flip);
    pending >>= width;
    count -= width;
  }
  return fits && pending == 0;
}

}  // namespace

StreamPlan::StreamPlan(std::span<const std::uint8_t> bytes, std::uint8_t flip, bool constants)
    : flip_(flip) {
  if (bytes.empty()) return;
  const bool four = bytes.size() >= kFourStreams;
  const auto ends = quarters(bytes.size());
  std::array<Counts, 4> parts;
  Counts counts{};
  if (four) {
    for (std::size_t k = 0; k < 4; ++k) {
      parts[k] = count_bytes(bytes.subspan(ends[k], ends[k + 1] - ends[k]), flip);
      for (std::size_t s = 0; s < 256; ++s) counts[s] += parts[k][s];
    }
  } else {
    counts = count_bytes(bytes, flip);
  }
  std::size_t first = 0;
  while (counts[first] == 0) ++first;
  std::size_t last = 255;
  while (counts[last] == 0) --last;
  const std::size_t symbols = counts.size() - static_cast<std::size_t>(std::count(
                                                  counts.begin(), counts.end(), std::uint64_t{0}));
  if (symbols == 1 && constants) {
    form_ = Form::kConstant;
    base_ = static_cast<std::uint8_t>(first);
    size_ = 2;
    return;
  }
  form_ = Form::kFixed;
  bits_ = std::max<unsigned>(1, static_cast<unsigned>(std::bit_width(last - first)));
  base_ = bits_ == 8 ? 0 : static_cast<std::uint8_t>(first);
  size_ = 3 + bytes_for(bytes.size(), bits_);
  if (symbols < 2) return;
  const CodeLengths lengths =
      code_lengths(counts, symbols <= kPairedSymbols ? kPairedCode : kLongestCode);
  std::array<std::size_t, 4> sizes{};
  std::size_t size = 1 + lengths_size(lengths);
  for (std::size_t k = 0; k < (four ? 4U : 1U); ++k) {
    sizes[k] = coded_bytes(four ? parts[k] : counts, lengths);
    size += varint_size(sizes[k]) + sizes[k];
  }
  if (size >= size_) return;
  form_ = four ? Form::kHuffman4 : Form::kHuffman;
  lengths_ = lengths;
  parts_ = sizes;
  size_ = size;
}

void StreamPlan::write(std::span<const std::uint8_t> bytes, Writer& out, std::string& raw) const {
  switch (form_) {
    case Form::kEmpty: return;
    case Form::kConstant:
      out.u8(kConstantMark);
      out.u8(base_);
      return;
    case Form::kFixed:
      out.u8(kFixedMark);
      out.u8(base_);
      out.u8(bits_);
      write_fixed(bytes, flip_, base_, bits_, raw);
      return;
    default: break;
  }
  const bool four = form_ == Form::kHuffman4;
  out.u8(four ? kHuffman4Mark : kHuffmanMark);
  write_lengths(lengths_, out);
  const HuffmanEncoder encoder(lengths_);
  if (!four) {
    out.varint(parts_[0]);
    encoder.encode(bytes, flip_, raw);
    return;
  }
  const auto ends = quarters(bytes.size());
  for (const std::size_t size : parts_) out.varint(size);
  for (std::size_t k = 0; k < 4; ++k) {
    encoder.encode(bytes.subspan(ends[k], ends[k + 1] - ends[k]), flip_, raw);
  }
}

bool read_stream(Reader& in, std::uint8_t flip, std::span<std::uint8_t> bytes) {
  if (bytes.empty()) return in.ok();
  const std::uint8_t mark = in.u8();
  if (!in.ok()) return false;
  if (mark == kConstantMark) {
    const std::uint8_t symbol = in.u8();
    if (!in.ok()) return false;
    std::fill(bytes.begin(), bytes.end(), static_cast<std::uint8_t>(symbol ^ flip));
    return true;
  }
  if (mark == kFixedMark) {
    const unsigned base = in.u8();
    const unsigned bits = in.u8();
    if (!in.ok() || bits < 1 || bits > 8) return false;
    const std::string_view data = in.bytes(bytes_for(bytes.size(), bits));
    return in.ok() && read_fixed(data, flip, base, bits, bytes);
  }
  if (mark != kHuffmanMark && mark != kHuffman4Mark) return false;
  CodeLengths lengths{};
  if (!read_lengths(in, lengths)) return false;
  const bool four = mark == kHuffman4Mark;
  if (four != (bytes.size() >= StreamPlan::kFourStreams)) return false;
  std::array<std::uint64_t, 4> sizes{};
  for (std::size_t k = 0; k < (four ? 4U : 1U); ++k) sizes[k] = in.varint();
  std::vector<std::string_view> streams;
  std::vector<std::span<std::uint8_t>> targets;
  const auto ends = quarters(bytes.size());
  for (std::size_t k = 0; k < (four ? 4U : 1U); ++k) {
    streams.push_back(in.bytes(sizes[k]));
    targets.push_back(four ? bytes.subspan(ends[k], ends[k + 1] - ends[k]) : bytes);
  }
  // Its tables are 24 KiB: not for a stack that may be small.
  return in.ok() && std::make_unique<HuffmanDecoder>(lengths, flip)->decode(streams, targets);
}

}  // namespace kerf::compress::packed
