#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// The smallest file of a model: docs/packed.md has it byte by byte.
///
/// Header, a section for the graph (names, nodes, attributes, metadata, small tensors; shortened),
/// and one for each larger tensor (packed/tensor_codec.h), each with its CRC-32C. Nothing is lost:
/// unpack gives the graph back bit for bit, and onnx::write_model the same file from it.
///
/// Errors:   resource_exhausted past 2 GiB, the limit of an ONNX file.
/// Cost:     one pass over the bytes for each form of each tensor, and the bits themselves.
[[nodiscard]] Result<std::string> pack(const graph::Graph& graph);

/// pack()'s length, exactly, without packing bits. What a tensor's section takes is remembered by its
/// content (128 bits of it), for the next candidate that has it.
///
/// Threads:  any.
[[nodiscard]] std::int64_t packed_size(const graph::Graph& graph);

/// Errors:   invalid_argument saying which section is damaged, or that the bytes are no packed model;
///           unimplemented for a later version; resource_exhausted where they hold more than 2 GiB.
///           Never reads past the bytes.
/// Memory:   of a tensor at most 4 KiB and 256 times its section; of the graph at most 64 times its
///           text, which is at most 16 MiB.
[[nodiscard]] Result<graph::Graph> unpack(std::string_view bytes);

}  // namespace kerf::compress
