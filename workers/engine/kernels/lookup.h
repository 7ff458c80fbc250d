#pragma once

#include <cstddef>
#include <cstdint>

namespace kerf::engine {

/// to[i] = table[from[i]] for a table of 256 bytes. `to` may be `from`.
///
/// Cost:     with AVX-512 VBMI the table lies in four registers: 64 bytes at a time.
void look_up(const std::uint8_t* from, std::size_t n, const std::uint8_t* table, std::uint8_t* to);

}  // namespace kerf::engine
