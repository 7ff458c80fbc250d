#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kerf::graph {

/// Element types. s4 and u4 lie one element a byte in memory; packing is the file's business.
enum class DType : std::uint8_t { kF32, kF16, kBF16, kF64, kS8, kU8, kS16, kU16, kS32, kU32, kS64,
                                  kU64, kBool, kS4, kU4 };

[[nodiscard]] std::string_view to_string(DType dtype);  ///< "f32", "s8", "bool", …
[[nodiscard]] std::size_t element_size(DType dtype);    ///< Bytes in memory.

/// Dimensions; -1 = free (not known until a batch size is chosen).
using Shape = std::vector<std::int64_t>;

[[nodiscard]] std::string to_string(const Shape& shape);  ///< "[1, 3, 32, 32]"; a free one is "?"

/// Product of the dimensions; nullopt where one is free, negative, or the product passes 2^40.
[[nodiscard]] std::optional<std::int64_t> element_count(const Shape& shape);

/// A dense, row-major array that owns its bytes. Copies share them; writing makes a copy first.
///
/// Threads:  distinct Tensor objects may be used from distinct threads.
class Tensor {
 public:
  Tensor() = default;

  /// Zero-filled. Throws std::length_error where the shape is free or too large.
  Tensor(DType dtype, Shape shape);

  template <class T>
  [[nodiscard]] static Tensor of(DType dtype, Shape shape, const std::vector<T>& values) {
    Tensor tensor(dtype, std::move(shape));
    tensor.assign(values.data(), values.size() * sizeof(T));
    return tensor;
  }
  [[nodiscard]] static Tensor f32(Shape shape, const std::vector<float>& values) {
    return of(DType::kF32, std::move(shape), values);
  }
  [[nodiscard]] static Tensor s64(Shape shape, const std::vector<std::int64_t>& values) {
    return of(DType::kS64, std::move(shape), values);
  }
  [[nodiscard]] static Tensor scalar(float value) { return f32({}, {value}); }

  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] std::int64_t dim(std::size_t axis) const { return shape_.at(axis); }
  [[nodiscard]] std::size_t rank() const { return shape_.size(); }
  [[nodiscard]] std::int64_t elements() const { return elements_; }
  [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(elements_) * element_size(dtype_); }

  [[nodiscard]] const std::byte* raw() const { return data_ ? data_->data() : nullptr; }
  [[nodiscard]] std::byte* mutable_raw();  ///< Un-shares first.

  /// The elements as T; T's size must be that of the dtype (throws std::logic_error otherwise).
  template <class T>
  [[nodiscard]] std::span<const T> as() const {
    check_size(sizeof(T));
    return {reinterpret_cast<const T*>(raw()), static_cast<std::size_t>(elements_)};
  }
  template <class T>
  [[nodiscard]] std::span<T> mutable_as() {
    check_size(sizeof(T));
    return {reinterpret_cast<T*>(mutable_raw()), static_cast<std::size_t>(elements_)};
  }

  /// Same elements under another shape; throws std::logic_error where the counts differ.
  [[nodiscard]] Tensor reshaped(Shape shape) const;

  /// Elements as integers (any integer type or bool); throws std::logic_error for floats.
  [[nodiscard]] std::vector<std::int64_t> to_integers() const;

  /// Elements as floats, from any type.
  [[nodiscard]] std::vector<float> to_floats() const;

  /// Elements converted (f16, bf16, f64, integers -> f32).
  [[nodiscard]] Tensor to_f32() const;

 private:
  void assign(const void* source, std::size_t bytes);
  void check_size(std::size_t size) const;

  DType dtype_ = DType::kF32;
  Shape shape_;
  std::int64_t elements_ = 0;
  std::shared_ptr<std::vector<std::byte>> data_;
};

/// IEEE binary16 and bfloat16 (round to nearest even) as bits.
[[nodiscard]] float f16_to_f32(std::uint16_t bits);
[[nodiscard]] std::uint16_t f32_to_f16(float value);
[[nodiscard]] float bf16_to_f32(std::uint16_t bits);
[[nodiscard]] std::uint16_t f32_to_bf16(float value);

}  // namespace kerf::graph
