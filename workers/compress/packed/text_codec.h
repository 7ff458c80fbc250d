#pragma once

#include <string>
#include <string_view>

#include "workers/compress/packed/wire.h"

namespace kerf::compress::packed {

/// What one byte of a file may become at most when it is read: 4096 + 256 · bytes. A file that says
/// more of itself is refused before memory is taken for it.
[[nodiscard]] constexpr std::size_t most_bytes_from(std::size_t bytes) {
  return 4096 + (bytes > (std::size_t{1} << 40U) ? bytes : 256 * bytes);
}

/// Shortens bytes that repeat themselves, as the names of a graph's values do.
///
/// Form:     0 and the bytes as they are, or 1, the length, and three runs (byte_stream.h), each
///           behind its length: literals; commands (literals to copy, then length of the repetition
///           − 4, as varints); distances (varints).
///           A repetition of `length` bytes starts `distance` bytes back and may overlap itself.
///           The last command may have no distance: its repetition is none.
/// Source:   Ziv and Lempel 1977, with Huffman codes for its parts.
[[nodiscard]] std::string shorten(std::string_view text);

/// False where the bytes are nothing that shorten() wrote, or where they would become more than
/// most_bytes_from() allows, or than `most` bytes.
[[nodiscard]] bool lengthen(Reader& in, std::size_t most, std::string& text);

}  // namespace kerf::compress::packed
