#pragma once

#include <array>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine::reference {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

using Inputs = std::span<const Tensor>;
using Outputs = Result<std::vector<Tensor>>;
using Kernel = Outputs (*)(const Node&, Inputs);
using Registry = std::map<std::string, Kernel, std::less<>>;

// One a file; each adds its ops.
void add_elementwise(Registry& registry);
void add_shaping(Registry& registry);
void add_indexing(Registry& registry);
void add_convolution(Registry& registry);
void add_matrix(Registry& registry);
void add_pooling(Registry& registry);
void add_normalization(Registry& registry);
void add_reduction(Registry& registry);
void add_quantization(Registry& registry);
void add_resize(Registry& registry);
void add_recurrent(Registry& registry);
void add_scatter(Registry& registry);
void add_axis_normalization(Registry& registry);
void add_sampling(Registry& registry);
void add_spectral(Registry& registry);
void add_placing(Registry& registry);
void add_bitwise(Registry& registry);
void add_einsum(Registry& registry);

[[nodiscard]] inline Error bad(const Node& node, const std::string& why) {
  return invalid_argument("node " + node.label() + ": " + why);
}

/// ONNX's number of an element type; f16, bf16 and f64 are f32 in canonical form.
[[nodiscard]] inline DType dtype_of_onnx(std::int64_t code) {
  switch (code) {
    case 2: return DType::kU8;
    case 3: return DType::kS8;
    case 4: return DType::kU16;
    case 5: return DType::kS16;
    case 6: return DType::kS32;
    case 7: return DType::kS64;
    case 9: return DType::kBool;
    case 12: return DType::kU32;
    case 13: return DType::kU64;
    case 21: return DType::kU4;
    case 22: return DType::kS4;
    default: return DType::kF32;
  }
}

/// Whether input i is given; an omitted one is a Tensor without data.
[[nodiscard]] inline bool given(Inputs inputs, std::size_t i) {
  return i < inputs.size() && inputs[i].raw() != nullptr;
}

/// Calls f(T{}) for the dtype's C++ type. Not for f16 and bf16 (false is returned).
template <class F>
bool dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32: f(float{}); return true;
    case DType::kF64: f(double{}); return true;
    case DType::kS8:
    case DType::kS4: f(std::int8_t{}); return true;
    case DType::kU8:
    case DType::kU4:
    case DType::kBool: f(std::uint8_t{}); return true;
    case DType::kS16: f(std::int16_t{}); return true;
    case DType::kU16: f(std::uint16_t{}); return true;
    case DType::kS32: f(std::int32_t{}); return true;
    case DType::kU32: f(std::uint32_t{}); return true;
    case DType::kS64: f(std::int64_t{}); return true;
    case DType::kU64: f(std::uint64_t{}); return true;
    default: return false;
  }
}

/// Walks `shape` in row-major order and gives f the offsets under each of the stride sets.
template <std::size_t Count, class F>
void walk(const Shape& shape, const std::array<Shape, Count>& strides, F&& f) {
  for (const std::int64_t extent : shape) {
    if (extent == 0) return;
  }
  Shape index(shape.size(), 0);
  std::array<std::int64_t, Count> offsets{};
  while (true) {
    f(offsets);
    std::size_t axis = shape.size();
    while (axis-- > 0) {
      for (std::size_t k = 0; k < Count; ++k) offsets[k] += strides[k][axis];
      if (++index[axis] < shape[axis]) break;
      for (std::size_t k = 0; k < Count; ++k) offsets[k] -= strides[k][axis] * shape[axis];
      index[axis] = 0;
    }
    if (axis == static_cast<std::size_t>(-1)) return;
  }
}

}  // namespace kerf::engine::reference
