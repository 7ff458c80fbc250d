#include "core/frame.h"

#include <array>
#include <nlohmann/json.hpp>

namespace kerf {
namespace {

constexpr std::string_view kMagic = "KRF1";
constexpr std::size_t kHeader = 12;

void put_u32(std::string& out, std::size_t value) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>((value >> shift) & 0xFFU);
}

std::size_t get_u32(std::string_view in) {
  std::size_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8U | static_cast<unsigned char>(in[i]);
  return value;
}

}  // namespace

Result<std::string> encode_frame(const Frame& frame) {
  const std::string text = canonical_text(frame.message);
  if (text.size() > kMaxFrameJson || frame.bytes.size() > kMaxFrameBytes) {
    return Error{ErrorCode::kResourceExhausted,
                 "message of " + std::to_string(text.size()) + " + " +
                     std::to_string(frame.bytes.size()) + " bytes is over the limit of a frame"};
  }
  std::string out(kMagic);
  put_u32(out, text.size());
  put_u32(out, frame.bytes.size());
  out += text;
  out += frame.bytes;
  return out;
}

Result<void> FrameDecoder::feed(std::string_view bytes) {
  buffer_ += bytes;
  std::size_t used = 0;
  while (true) {
    const std::string_view rest = std::string_view(buffer_).substr(used);
    const std::size_t compare = std::min(rest.size(), kMagic.size());
    if (rest.substr(0, compare) != kMagic.substr(0, compare)) {
      return invalid_argument("not a kerf frame: wrong first bytes");
    }
    if (rest.size() < kHeader) break;
    const std::size_t json_size = get_u32(rest.substr(4));
    const std::size_t raw_size = get_u32(rest.substr(8));
    if (json_size > kMaxFrameJson || raw_size > kMaxFrameBytes) {
      return invalid_argument("frame of " + std::to_string(json_size) + " + " +
                              std::to_string(raw_size) + " bytes is over the limit");
    }
    if (rest.size() < kHeader + json_size + raw_size) break;
    auto message = parse_json(rest.substr(kHeader, json_size), {kMaxFrameJson, 64});
    if (!message.has_value()) return with_context("frame", message.error());
    ready_.push_back({std::move(*message), std::string(rest.substr(kHeader + json_size, raw_size))});
    used += kHeader + json_size + raw_size;
  }
  buffer_.erase(0, used);
  return {};
}

std::optional<Frame> FrameDecoder::next() {
  if (ready_.empty()) return std::nullopt;
  Frame frame = std::move(ready_.front());
  ready_.pop_front();
  return frame;
}

}  // namespace kerf
