#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/result.h"
#include "workers/graph/tensor.h"
#include "workers/onnx/files.h"

namespace onnx {
class TensorProto;  // Protobuf's, known to the .cc files of this folder.
}

// Internal to workers/onnx: speaks protobuf.
namespace kerf::onnx {

/// ONNX's number of an element type; nullopt for strings, complex numbers, 8-bit floats ….
[[nodiscard]] std::optional<graph::DType> dtype_of(std::int32_t code);
[[nodiscard]] std::int32_t code_of(graph::DType dtype);

/// f16, bf16 and f64 become f32; the others stay.
[[nodiscard]] graph::DType canonical_dtype(graph::DType dtype);

/// Takes a tensor over and frees its bytes in the message.
///
/// `what` names it in messages ("initializer 'conv1.weight'"). Sizes are compared with the
/// dimensions before anything is allocated.
///
/// Errors:   invalid_argument naming the tensor: dimensions negative, too many or overflowing, data
///           that doesn't match them, NaN, an external file that is refused; unimplemented for an
///           element type that isn't supported.
///
/// `as_it_is`: the type stays the file's, and NaN is data, not a broken weight.
[[nodiscard]] Result<graph::Tensor> take_tensor(::onnx::TensorProto& proto, const std::string& what,
                                                DataFolder& folder, bool as_it_is = false);

/// Index of the first element of an f32 tensor that isn't finite.
[[nodiscard]] std::optional<std::size_t> first_not_finite(const graph::Tensor& tensor);

}  // namespace kerf::onnx
