#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace kerf {

/// One message between our processes: a JSON document and, where it carries a piece of a file,
/// raw bytes.
struct Frame {
  Json message;
  std::string bytes;
};

inline constexpr std::size_t kMaxFrameJson = 1U << 20U;
inline constexpr std::size_t kMaxFrameBytes = 4U << 20U;

/// Byte format: "KRF1", u32 little-endian length of the JSON text, u32 length of the raw bytes,
/// then both.
///
/// Errors:   resource_exhausted where a part is over its limit.
[[nodiscard]] Result<std::string> encode_frame(const Frame& frame);

/// Takes bytes as they come and gives back whole frames; holds one frame's bytes at most, so that
/// a peer can't make us buffer without a bound.
class FrameDecoder {
 public:
  /// Errors:   invalid_argument where the stream is not ours or a length is over its limit; the
  ///           connection is of no more use then.
  [[nodiscard]] Result<void> feed(std::string_view bytes);

  /// The next whole frame, in order; empty where none is there yet.
  [[nodiscard]] std::optional<Frame> next();

 private:
  std::string buffer_;
  std::deque<Frame> ready_;
};

}  // namespace kerf
