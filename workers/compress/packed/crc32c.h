#pragma once

#include <cstdint>
#include <string_view>

namespace kerf::compress::packed {

/// CRC-32C of bytes (Castagnoli's polynomial, reflected 0x82F63B78), as in iSCSI: RFC 3720, B.4.
///
/// Cost:     eight table look-ups for eight bytes.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);

}  // namespace kerf::compress::packed
