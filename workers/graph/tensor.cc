#include "workers/graph/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace kerf::graph {

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBF16: return "bf16";
    case DType::kF64: return "f64";
    case DType::kS8: return "s8";
    case DType::kU8: return "u8";
    case DType::kS16: return "s16";
    case DType::kU16: return "u16";
    case DType::kS32: return "s32";
    case DType::kU32: return "u32";
    case DType::kS64: return "s64";
    case DType::kU64: return "u64";
    case DType::kBool: return "bool";
    case DType::kS4: return "s4";
    case DType::kU4: return "u4";
  }
  return "?";
}

std::size_t element_size(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kS64:
    case DType::kU64: return 8;
    case DType::kF32:
    case DType::kS32:
    case DType::kU32: return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kS16:
    case DType::kU16: return 2;
    default: return 1;
  }
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += shape[i] < 0 ? "?" : std::to_string(shape[i]);
  }
  return text + "]";
}

std::optional<std::int64_t> element_count(const Shape& shape) {
  constexpr std::int64_t kLimit = 1LL << 40U;
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim != 0 && count > kLimit / dim) return std::nullopt;
    count *= dim;
  }
  return count;
}

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)) {
  const auto count = element_count(shape_);
  if (!count) throw std::length_error("tensor of shape " + graph::to_string(shape_));
  elements_ = *count;
  data_ = std::make_shared<std::vector<std::byte>>(bytes());
}

std::byte* Tensor::mutable_raw() {
  if (data_ && data_.use_count() > 1) data_ = std::make_shared<std::vector<std::byte>>(*data_);
  return data_ ? data_->data() : nullptr;
}

void Tensor::assign(const void* source, std::size_t size) {
  if (size != bytes()) throw std::logic_error("tensor: number of values differs from its shape");
  if (size > 0) std::memcpy(data_->data(), source, size);
}

void Tensor::check_size(std::size_t size) const {
  if (size != element_size(dtype_)) {
    throw std::logic_error("tensor of " + std::string(graph::to_string(dtype_)) +
                           " read as elements of " + std::to_string(size) + " bytes");
  }
}

Tensor Tensor::reshaped(Shape shape) const {
  Tensor out = *this;
  if (element_count(shape) != elements_) {
    throw std::logic_error("tensor " + graph::to_string(shape_) + " reshaped to " +
                           graph::to_string(shape));
  }
  out.shape_ = std::move(shape);
  return out;
}

namespace {

template <class Out>
std::vector<Out> convert(const Tensor& tensor) {
  std::vector<Out> out;
  out.reserve(static_cast<std::size_t>(tensor.elements()));
  const auto copy = [&]<class T>(T) {
    for (const T value : tensor.as<T>()) out.push_back(static_cast<Out>(value));
  };
  switch (tensor.dtype()) {
    case DType::kF32: copy(float{}); break;
    case DType::kF64: copy(double{}); break;
    case DType::kF16:
      for (const std::uint16_t bits : tensor.as<std::uint16_t>()) {
        out.push_back(static_cast<Out>(f16_to_f32(bits)));
      }
      break;
    case DType::kBF16:
      for (const std::uint16_t bits : tensor.as<std::uint16_t>()) {
        out.push_back(static_cast<Out>(bf16_to_f32(bits)));
      }
      break;
    case DType::kS8:
    case DType::kS4: copy(std::int8_t{}); break;
    case DType::kU8:
    case DType::kU4:
    case DType::kBool: copy(std::uint8_t{}); break;
    case DType::kS16: copy(std::int16_t{}); break;
    case DType::kU16: copy(std::uint16_t{}); break;
    case DType::kS32: copy(std::int32_t{}); break;
    case DType::kU32: copy(std::uint32_t{}); break;
    case DType::kS64: copy(std::int64_t{}); break;
    case DType::kU64: copy(std::uint64_t{}); break;
  }
  return out;
}

}  // namespace

std::vector<std::int64_t> Tensor::to_integers() const {
  if (dtype_ == DType::kF32 || dtype_ == DType::kF16 || dtype_ == DType::kBF16 ||
      dtype_ == DType::kF64) {
    throw std::logic_error("tensor of floats read as integers");
  }
  return convert<std::int64_t>(*this);
}

std::vector<float> Tensor::to_floats() const { return convert<float>(*this); }

Tensor Tensor::to_f32() const {
  if (dtype_ == DType::kF32) return *this;
  return f32(shape_, to_floats());
}

float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16U) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16U;
  const std::uint32_t exponent = (bits >> 10U) & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0) {
    const float tiny = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -tiny : tiny;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13U));
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23U) | (mantissa << 13U));
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7E00U;
  if (magnitude >= 65520.0F) return sign | 0x7C00U;
  if (magnitude < 6.103515625e-05F) {  // subnormal: units of 2^-24, ties to even
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(std::ldexp(magnitude, 24))));
  }
  const std::uint32_t rounded = (bits & 0x7FFFFFFFU) + 0xFFFU + ((bits >> 13U) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - (112U << 23U)) >> 13U));
}

}  // namespace kerf::graph
