#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/frame.h"

// Bytes from a peer, in two pieces, so that the decoder's state between calls is part of it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  kerf::FrameDecoder decoder;
  const std::size_t cut = size == 0 ? 0 : data[0] % (size + 1);
  if (decoder.feed(bytes.substr(0, cut)).has_value()) {
    (void)decoder.feed(bytes.substr(cut)).has_value();
  }
  while (decoder.next().has_value()) {
  }
  return 0;
}
