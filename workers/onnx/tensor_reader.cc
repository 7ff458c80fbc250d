#include "workers/onnx/tensor_reader.h"

#include <onnx/onnx_pb.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "workers/onnx/limits.h"

namespace kerf::onnx {
namespace {

using graph::DType;
using graph::Shape;
using graph::Tensor;
using ::onnx::TensorProto;

bool packs_two(DType dtype) { return dtype == DType::kS4 || dtype == DType::kU4; }

/// Bytes of a tensor in a file, where 4-bit elements lie two a byte.
std::uint64_t stored_bytes(DType dtype, std::uint64_t elements) {
  return packs_two(dtype) ? (elements + 1) / 2 : elements * graph::element_size(dtype);
}

/// One element a byte, the low half first.
void unpack_nibbles(const std::byte* packed, Tensor& to) {
  const auto out = to.mutable_as<std::uint8_t>();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(packed[i / 2]);
    auto value = static_cast<std::uint8_t>(i % 2 == 0 ? byte & 0x0FU : byte >> 4U);
    if (to.dtype() == DType::kS4 && value > 7) value |= 0xF0U;
    out[i] = value;
  }
}

struct External {
  std::string location;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

Result<External> external_of(const TensorProto& proto, const std::string& what) {
  External external;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") external.location = entry.value();
    if (entry.key() != "offset" && entry.key() != "length") continue;
    std::uint64_t number = 0;
    const char* end = entry.value().data() + entry.value().size();
    const auto [at, bad] = std::from_chars(entry.value().data(), end, number);
    if (bad != std::errc() || at != end) {
      return invalid_argument(what + ": external " + entry.key() + " '" + entry.value() +
                              "' isn't a number");
    }
    if (entry.key() == "offset")
      external.offset = number;
    else
      external.length = number;
  }
  return external;
}

Result<void> read_external(const TensorProto& proto, const std::string& what, DataFolder& folder,
                           std::uint64_t bytes, Tensor& tensor, DType dtype, const Shape& shape) {
  KERF_ASSIGN(const External external, external_of(proto, what));
  const auto size = folder.size(external.location);
  if (!size.has_value()) return with_context(what, size.error());
  if (external.length.value_or(bytes) != bytes) {
    return invalid_argument(what + ": external data has the length " +
                            std::to_string(*external.length) + ", but shape " +
                            graph::to_string(shape) + " needs " + std::to_string(bytes) + " bytes");
  }
  if (external.offset > *size || *size - external.offset < bytes) {
    return invalid_argument(what + ": external data '" + external.location + "' has " +
                            std::to_string(*size) + " bytes, but " + std::to_string(bytes) +
                            " at offset " + std::to_string(external.offset) + " are needed");
  }
  tensor = Tensor(dtype, shape);
  Result<void> done;
  if (packs_two(dtype)) {
    std::vector<std::byte> packed(bytes);
    done = folder.read(external.location, external.offset, packed.data(), packed.size());
    if (done.has_value()) unpack_nibbles(packed.data(), tensor);
  } else if (bytes > 0) {
    done = folder.read(external.location, external.offset, tensor.mutable_raw(), bytes);
  }
  if (!done.has_value()) return with_context(what, done.error());
  return {};
}

/// Copies a typed field, checking that each value fits the element type.
template <class Out, class Field>
Result<void> copy_field(const Field& field, const std::string& what, Tensor& tensor) {
  const auto out = tensor.mutable_as<Out>();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto value = field[static_cast<int>(i)];
    if constexpr (std::is_integral_v<Out> && !std::is_same_v<Out, std::decay_t<decltype(value)>>) {
      if (std::cmp_less(value, std::numeric_limits<Out>::min()) ||
          std::cmp_greater(value, std::numeric_limits<Out>::max())) {
        return invalid_argument(what + ": value " + std::to_string(value) + " doesn't fit " +
                                std::string(graph::to_string(tensor.dtype())));
      }
    }
    out[i] = static_cast<Out>(value);
  }
  return {};
}

Result<void> read_typed(const TensorProto& proto, const std::string& what, DType dtype,
                        const Shape& shape, std::uint64_t elements, Tensor& tensor) {
  std::uint64_t count = 0;
  std::uint64_t wanted = elements;
  switch (dtype) {
    case DType::kF32:
      count = static_cast<std::uint64_t>(proto.float_data_size());
      break;
    case DType::kF64:
      count = static_cast<std::uint64_t>(proto.double_data_size());
      break;
    case DType::kS64:
      count = static_cast<std::uint64_t>(proto.int64_data_size());
      break;
    case DType::kU32:
    case DType::kU64:
      count = static_cast<std::uint64_t>(proto.uint64_data_size());
      break;
    default:
      count = static_cast<std::uint64_t>(proto.int32_data_size());
      if (packs_two(dtype)) wanted = (elements + 1) / 2;
  }
  if (count != wanted) {
    return invalid_argument(what + ": shape " + graph::to_string(shape) + " needs " +
                            std::to_string(wanted) + " values, but " + std::to_string(count) +
                            " are there");
  }
  tensor = Tensor(dtype, shape);
  switch (dtype) {
    case DType::kF32:
      return copy_field<float>(proto.float_data(), what, tensor);
    case DType::kF64:
      return copy_field<double>(proto.double_data(), what, tensor);
    case DType::kS64:
      return copy_field<std::int64_t>(proto.int64_data(), what, tensor);
    case DType::kU64:
      return copy_field<std::uint64_t>(proto.uint64_data(), what, tensor);
    case DType::kU32:
      return copy_field<std::uint32_t>(proto.uint64_data(), what, tensor);
    case DType::kS32:
      return copy_field<std::int32_t>(proto.int32_data(), what, tensor);
    case DType::kS16:
      return copy_field<std::int16_t>(proto.int32_data(), what, tensor);
    case DType::kS8:
      return copy_field<std::int8_t>(proto.int32_data(), what, tensor);
    case DType::kU8:
    case DType::kBool:
      return copy_field<std::uint8_t>(proto.int32_data(), what, tensor);
    case DType::kU16:
    case DType::kF16:
    case DType::kBF16:
      return copy_field<std::uint16_t>(proto.int32_data(), what, tensor);
    case DType::kS4:
    case DType::kU4: {
      std::vector<std::byte> packed;
      for (const std::int32_t byte : proto.int32_data()) {
        packed.push_back(static_cast<std::byte>(byte & 0xFF));
      }
      unpack_nibbles(packed.data(), tensor);
      return {};
    }
  }
  return {};
}

Result<Tensor> narrow(Tensor tensor, const std::string& what) {
  if (tensor.dtype() == DType::kF64) {
    const auto values = tensor.as<double>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i]) && std::fabs(values[i]) > std::numeric_limits<float>::max()) {
        return invalid_argument(what + ": value " + std::to_string(values[i]) + " at element " +
                                std::to_string(i) + " doesn't fit 32-bit floating point");
      }
    }
  }
  if (canonical_dtype(tensor.dtype()) != tensor.dtype()) return tensor.to_f32();
  if (tensor.dtype() == DType::kBool) {
    const auto bytes = tensor.as<std::uint8_t>();
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] > 1) tensor.mutable_as<std::uint8_t>()[i] = 1;
    }
  }
  return tensor;
}

}  // namespace

std::optional<DType> dtype_of(std::int32_t code) {
  switch (code) {
    case 1:
      return DType::kF32;
    case 2:
      return DType::kU8;
    case 3:
      return DType::kS8;
    case 4:
      return DType::kU16;
    case 5:
      return DType::kS16;
    case 6:
      return DType::kS32;
    case 7:
      return DType::kS64;
    case 9:
      return DType::kBool;
    case 10:
      return DType::kF16;
    case 11:
      return DType::kF64;
    case 12:
      return DType::kU32;
    case 13:
      return DType::kU64;
    case 16:
      return DType::kBF16;
    case 21:
      return DType::kU4;
    case 22:
      return DType::kS4;
    default:
      return std::nullopt;
  }
}

std::int32_t code_of(DType dtype) {
  for (std::int32_t code = 1; code <= 22; ++code) {
    if (dtype_of(code) == dtype) return code;
  }
  return 0;
}

DType canonical_dtype(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF64 ? DType::kF32
                                                                               : dtype;
}

std::optional<std::size_t> first_not_finite(const Tensor& tensor) {
  if (tensor.dtype() != DType::kF32) return std::nullopt;
  const auto values = tensor.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return i;
  }
  return std::nullopt;
}

Result<Tensor> take_tensor(TensorProto& proto, const std::string& what, DataFolder& folder,
                           bool as_it_is) {
  const auto dtype = dtype_of(proto.data_type());
  if (!dtype) {
    const bool text = proto.data_type() == TensorProto::STRING;
    return unimplemented(what + ": element type " + std::to_string(proto.data_type()) +
                         (text ? " (string)" : "") + " is not supported");
  }
  if (proto.has_segment()) return unimplemented(what + ": segmented tensors are not supported");
  if (proto.dims_size() > static_cast<int>(kMaxRank)) {
    return invalid_argument(what + ": has rank " + std::to_string(proto.dims_size()) +
                            ", at most 16 is supported");
  }
  Shape shape;
  std::uint64_t elements = 1;
  bool empty = false;
  for (const std::int64_t dim : proto.dims()) {
    shape.push_back(dim);
    if (dim < 0)
      return invalid_argument(what + ": has the negative dimension " + std::to_string(dim));
    empty = empty || dim == 0;
  }
  for (const std::int64_t dim : shape) {
    if (dim == 0) continue;
    if (elements > kMaxElements / static_cast<std::uint64_t>(dim)) {
      return invalid_argument(what + ": shape " + graph::to_string(shape) + " overflows");
    }
    elements *= static_cast<std::uint64_t>(dim);
  }
  if (empty) elements = 0;

  const std::uint64_t bytes = stored_bytes(*dtype, elements);
  Tensor tensor;
  if (proto.data_location() == TensorProto::EXTERNAL) {
    KERF_TRY(read_external(proto, what, folder, bytes, tensor, *dtype, shape));
  } else if (proto.has_raw_data()) {
    if (proto.raw_data().size() != bytes) {
      return invalid_argument(what + ": shape " + graph::to_string(shape) + " of " +
                              std::string(graph::to_string(*dtype)) + " needs " +
                              std::to_string(bytes) + " bytes, but " +
                              std::to_string(proto.raw_data().size()) + " are there");
    }
    tensor = Tensor(*dtype, shape);
    const std::unique_ptr<std::string> raw(proto.release_raw_data());
    if (packs_two(*dtype)) {
      unpack_nibbles(reinterpret_cast<const std::byte*>(raw->data()), tensor);
    } else if (bytes > 0) {
      std::memcpy(tensor.mutable_raw(), raw->data(), bytes);
    }
  } else {
    KERF_TRY(read_typed(proto, what, *dtype, shape, elements, tensor));
    proto.clear_float_data();
  }
  if (as_it_is) return tensor;
  KERF_ASSIGN(tensor, narrow(std::move(tensor), what));
  if (const auto bad = first_not_finite(tensor)) {
    if (std::isnan(tensor.as<float>()[*bad])) {
      return invalid_argument(what + ": element " + std::to_string(*bad) + " is NaN");
    }
  }
  return tensor;
}

}  // namespace kerf::onnx
