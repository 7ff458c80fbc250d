#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "workers/compress/packed/crc32c.h"
#include "workers/compress/packed/graph_codec.h"
#include "workers/compress/packed/packed_file.h"
#include "workers/compress/packed/wire.h"

namespace {

using kerf::compress::packed::crc32c;
using kerf::compress::packed::Reader;
using kerf::compress::packed::Writer;

/// Puts the checksums right, which no mutation would hit, so that what lies behind them is reached.
void renew_checksums(std::string& bytes) {
  if (bytes.size() < 52) return;
  std::string sum;
  Writer(sum).u32(crc32c(std::string_view(bytes).substr(0, 48)));
  bytes.replace(48, 4, sum);
  for (std::size_t at = 52; at < bytes.size();) {
    Reader in(std::string_view(bytes).substr(at));
    in.u8();
    in.bytes(in.varint());
    if (!in.ok() || in.left() < 4) return;
    const std::size_t covered = bytes.size() - at - in.left();
    sum.clear();
    Writer(sum).u32(crc32c(std::string_view(bytes).substr(at, covered)));
    bytes.replace(at + covered, 4, sum);
    at += covered + 4;
  }
}

}  // namespace

// A packed model from outside, as it is, as the text of its graph, and with right checksums. What is accepted must survive being
// packed again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  (void)kerf::compress::unpack(bytes).has_value();
  std::vector<kerf::compress::packed::TensorSlot> slots;
  (void)kerf::compress::packed::decode_graph(bytes, slots).has_value();
  renew_checksums(bytes);
  const auto graph = kerf::compress::unpack(bytes);
  if (!graph.has_value()) return 0;
  const auto again = kerf::compress::pack(*graph);
  if (!again.has_value()) return 0;
  const auto back = kerf::compress::unpack(*again);
  if (!back.has_value() || back->nodes.size() != graph->nodes.size() ||
      static_cast<std::int64_t>(again->size()) != kerf::compress::packed_size(*graph)) {
    std::abort();
  }
  return 0;
}
