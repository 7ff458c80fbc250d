#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kerf::storage {

/// Every page of a store's main file; other sizes are never used.
inline constexpr std::size_t kPageSize = 4096;
/// Bytes at the end of each page that SQLite leaves to us (its "reserved space").
inline constexpr std::size_t kPageReserved = 8;

/// The checksum of a page's bytes but for the reserved ones.
///
/// Maths:    h = page index + 1; for each little-endian 64-bit word w: h = (h xor w) * odd constant,
///           h = h xor (h >> 29). Each step is a bijection of h and of w, so that any change within
///           one word is always seen; others with probability 1 - 2^-64. A page that was never
///           written (zeros only) is valid.
[[nodiscard]] std::uint64_t page_checksum(std::span<const std::byte, kPageSize> page,
                                          std::uint64_t index);

/// Registers (once) and names the SQLite VFS that puts a checksum into each page of a main database
/// file as it is written and checks it as it is read: a read of a damaged page fails with
/// SQLITE_IOERR_DATA. The WAL isn't touched: SQLite checks its frames itself.
///
/// A database of this VFS must have 4096-byte pages with 8 reserved bytes (SQLITE_FCNTL_RESERVE_BYTES
/// before its first page is written). Any SQLite can read it; one that writes it without this VFS
/// leaves pages that look damaged.
[[nodiscard]] const char* checksum_vfs();

}  // namespace kerf::storage
