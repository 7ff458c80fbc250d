#pragma once

#include "core/result.h"

namespace onnx {
class ModelProto;  // Protobuf's, known to the .cc files of this folder.
}

namespace kerf::onnx {

/// Puts the bodies of the model's local functions where they are called, in graphs inside nodes as well,
/// until no call is left. What is inside gets names that start with the caller's.
///
/// Errors:   invalid_argument naming a function that calls itself or stands twice; resource_exhausted
///           naming the call past limits.h's kMaxFunctionDepth, kMaxNodes or kMaxStructureBytes;
///           unimplemented for one that is written for another opset than the model.
[[nodiscard]] Result<void> inline_functions(::onnx::ModelProto& model);

}  // namespace kerf::onnx
