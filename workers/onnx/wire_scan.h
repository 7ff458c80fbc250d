#pragma once

#include <string_view>

#include "core/result.h"

namespace kerf::onnx {

/// Walks an ONNX file's bytes without keeping anything and refuses what breaks a limit of limits.h.
///
/// Errors:   invalid_argument naming the byte where the file is cut off or isn't protobuf, the
///           limit that is broken, or a name that isn't UTF-8.
/// Cost:     one pass over the structure; weights are stepped over.
/// Source:   protobuf's wire format, https://protobuf.dev/programming-guides/encoding.
[[nodiscard]] Result<void> scan_model(std::string_view bytes);

}  // namespace kerf::onnx
