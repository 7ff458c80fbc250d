#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "workers/graph/tensor.h"

namespace kerf::data {

using Arrays = std::map<std::string, graph::Tensor>;

/// What a reader accepts at most.
struct NpzLimits {
  std::uint64_t bytes = 8ULL << 30U;  ///< All arrays together, and never more than the machine has.
  std::size_t arrays = 4096;          ///< Members of one archive.
  /// Largest expansion of a member over `bomb_bytes`: real data compresses a few times, and a
  /// member that claims more is refused before anything is unpacked.
  std::uint64_t bomb_ratio = 200;
  std::uint64_t bomb_bytes = 64ULL << 20U;
};

/// Reads every numeric array of a NumPy archive.
///
/// Formats:  .npy 1.0, 2.0, 3.0; C and Fortran order; either byte order; f2 f4 f8, i1…i8, u1…u8,
///           b1. Stored or deflated members. Members that aren't .npy, and arrays of text or dates,
///           are left out (`left_out` gets name -> why).
/// Errors:   not_found; invalid_argument naming file, array and expectation: not a zip archive,
///           truncated, a checksum that doesn't match, a hostile header, Python objects (never
///           unpickled), limits. resource_exhausted where memory ends.
/// Cost:     one pass; one copy of the data.
/// Source:   NEP 1 and numpy.lib.format.
[[nodiscard]] Result<Arrays> read_npz(const std::string& path, const NpzLimits& limits = {},
                                      std::map<std::string, std::string>* left_out = nullptr);

/// Reads one .npy file.
///
/// Errors:   as read_npz().
[[nodiscard]] Result<graph::Tensor> read_npy(const std::string& path, const NpzLimits& limits = {});

/// Writes arrays as numpy.savez or numpy.savez_compressed would. The file appears whole or not at
/// all (written beside its place, then renamed). bf16 becomes f32; s4 and u4 become i1 and u1.
///
/// Errors:   unavailable where the file can't be written.
[[nodiscard]] Result<void> write_npz(const std::string& path, const Arrays& arrays,
                                     bool compressed = true);

/// The header of a .npy member, parsed and checked.
struct NpyHeader {
  graph::DType dtype = graph::DType::kF32;
  bool swap_bytes = false;       ///< The file's byte order isn't ours.
  bool fortran_order = false;
  graph::Shape shape;
  std::size_t data_offset = 0;   ///< From the member's first byte.
  std::uint64_t data_bytes = 0;
};

/// Parses a .npy header out of the member's first bytes. `where` starts messages ("eval.npz: x").
///
/// Errors:   invalid_argument; unimplemented for text, dates and structured types.
[[nodiscard]] Result<NpyHeader> parse_npy_header(std::span<const std::byte> bytes,
                                                 std::string_view where);

/// A tensor as the bytes of a .npy file (version 1.0, little endian, C order).
[[nodiscard]] std::vector<std::byte> npy_bytes(const graph::Tensor& tensor);

}  // namespace kerf::data
