#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace kerf::compress::packed {

/// Bytes that a varint of this value takes: seven bits a byte, low ones first (LEB128).
[[nodiscard]] constexpr std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  for (; value >= 0x80U; value >>= 7U) ++size;
  return size;
}

/// Appends little-endian numbers to a string.
class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  void u8(std::uint64_t value) { out_.push_back(static_cast<char>(value & 0xFFU)); }
  void u16(std::uint64_t value) {
    u8(value);
    u8(value >> 8U);
  }
  void u32(std::uint64_t value) {
    u16(value);
    u16(value >> 16U);
  }
  void varint(std::uint64_t value) {
    for (; value >= 0x80U; value >>= 7U) u8(value | 0x80U);
    u8(value);
  }
  /// Small magnitudes of either sign take few bytes.
  void zigzag(std::int64_t value) {
    varint((static_cast<std::uint64_t>(value) << 1U) ^ static_cast<std::uint64_t>(value >> 63));
  }
  void bytes(std::string_view data) { out_.append(data); }
  void text(std::string_view data) {
    varint(data.size());
    bytes(data);
  }

 private:
  std::string& out_;
};

/// Reads what Writer wrote. Past the end, and after a number that is none, everything is 0 or empty
/// and ok() stays false: callers check it before they act upon what they read.
class Reader {
 public:
  explicit Reader(std::string_view data) : data_(data) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t left() const { return ok_ ? data_.size() - at_ : 0; }
  [[nodiscard]] bool finished() const { return ok_ && at_ == data_.size(); }
  void fail() { ok_ = false; }

  std::uint8_t u8() {
    if (left() < 1) return static_cast<std::uint8_t>(failed());
    return static_cast<std::uint8_t>(data_[at_++]);
  }
  std::uint16_t u16() {
    const std::uint16_t low = u8();
    return static_cast<std::uint16_t>(low | static_cast<std::uint16_t>(u8() << 8U));
  }
  std::uint32_t u32() {
    const std::uint32_t low = u16();
    return low | static_cast<std::uint32_t>(u16()) << 16U;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = u8();
      if (shift == 63 && byte > 1) return failed();
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if ((byte & 0x80U) == 0) return ok_ ? value : 0;
    }
    return failed();
  }
  std::int64_t zigzag() {
    const std::uint64_t value = varint();
    return static_cast<std::int64_t>((value >> 1U) ^ (~(value & 1U) + 1U));
  }
  std::string_view bytes(std::uint64_t count) {
    if (count > left()) {
      ok_ = false;
      return {};
    }
    const std::string_view out = data_.substr(at_, static_cast<std::size_t>(count));
    at_ += static_cast<std::size_t>(count);
    return out;
  }
  std::string_view text() { return bytes(varint()); }

  /// A number of items that take at least `least` bytes each: more than could follow is a failure.
  std::uint64_t count(std::size_t least = 1) {
    const std::uint64_t items = varint();
    return items > left() / least ? failed() : items;
  }

 private:
  std::uint64_t failed() {
    ok_ = false;
    return 0;
  }

  std::string_view data_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace kerf::compress::packed
