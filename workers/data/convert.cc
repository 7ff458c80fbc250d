#include "workers/data/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

namespace kerf::data {
namespace {

using graph::DType;
using graph::Shape;
using graph::Tensor;

/// Calls f with a span of the elements in their C++ type; f16 and bf16 come as bits.
template <class F>
decltype(auto) with_elements(const Tensor& tensor, F&& f) {
  switch (tensor.dtype()) {
    case DType::kF32: return f(tensor.as<float>());
    case DType::kF64: return f(tensor.as<double>());
    case DType::kS8:
    case DType::kS4: return f(tensor.as<std::int8_t>());
    case DType::kU8:
    case DType::kU4:
    case DType::kBool: return f(tensor.as<std::uint8_t>());
    case DType::kS16: return f(tensor.as<std::int16_t>());
    case DType::kU16: return f(tensor.as<std::uint16_t>());
    case DType::kS32: return f(tensor.as<std::int32_t>());
    case DType::kU32: return f(tensor.as<std::uint32_t>());
    case DType::kS64: return f(tensor.as<std::int64_t>());
    case DType::kU64: return f(tensor.as<std::uint64_t>());
    case DType::kF16:
    case DType::kBF16: break;
  }
  return f(tensor.to_f32().as<float>());
}

/// The order in which a sample's elements are read and written.
struct Layout {
  std::int64_t samples = 0;
  std::int64_t channels = 1;
  std::int64_t places = 1;  // elements of a channel
  Turn turn = Turn::kNone;
  bool channels_last = false;
};

/// out[…] = value(raw[…], channel) in the wanted order.
template <class T, class Value>
void walk(std::span<const T> raw, float* out, const Layout& layout, const Value& value) {
  const std::int64_t channels = layout.channels;
  const std::int64_t places = layout.places;
  for (std::int64_t n = 0; n < layout.samples; ++n) {
    const T* from = raw.data() + n * channels * places;
    float* to = out + n * channels * places;
    if (layout.turn == Turn::kChannelsFirst) {
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t i = 0; i < places; ++i) {
          to[c * places + i] = value(from[i * channels + c], c);
        }
      }
    } else if (layout.turn == Turn::kChannelsLast) {
      for (std::int64_t i = 0; i < places; ++i) {
        for (std::int64_t c = 0; c < channels; ++c) {
          to[i * channels + c] = value(from[c * places + i], c);
        }
      }
    } else if (layout.channels_last) {
      for (std::int64_t i = 0; i < places; ++i) {
        for (std::int64_t c = 0; c < channels; ++c) {
          to[i * channels + c] = value(from[i * channels + c], c);
        }
      }
    } else {
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t i = 0; i < places; ++i) {
          to[c * places + i] = value(from[c * places + i], c);
        }
      }
    }
  }
}

Layout layout_of(const Tensor& raw, const FloatConversion& conversion) {
  Layout layout;
  layout.samples = raw.dim(0);
  layout.channels = conversion.channels;
  const std::int64_t per_sample = layout.samples == 0 ? 0 : raw.elements() / layout.samples;
  layout.places = layout.channels == 0 ? 0 : per_sample / layout.channels;
  layout.turn = conversion.turn;
  layout.channels_last = conversion.channels_last;
  return layout;
}

Shape turned_shape(const Shape& shape, Turn turn) {
  if (turn == Turn::kChannelsFirst) return {shape[0], shape[3], shape[1], shape[2]};
  if (turn == Turn::kChannelsLast) return {shape[0], shape[2], shape[3], shape[1]};
  return shape;
}

/// Whether a float isn't finite, as integer arithmetic that vectorises.
bool all_finite(std::span<const float> values) {
  std::uint32_t worst = 0;
  for (const float value : values) {
    worst = std::max(worst, std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU);
  }
  return worst < 0x7F800000U;
}

Error name_not_finite(const Tensor& raw, std::span<const float> out, const std::string& where) {
  const std::int64_t per_sample = raw.elements() / raw.dim(0);
  const auto sample_of = [&](std::size_t i) {
    return where + "[" + std::to_string(static_cast<std::int64_t>(i) / per_sample) + "]";
  };
  const auto raw_error = with_elements(raw, [&](auto values) -> std::optional<Error> {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto value = static_cast<double>(values[i]);
      if (std::isnan(value)) return invalid_argument(sample_of(i) + " holds NaN");
      if (std::isinf(value)) return invalid_argument(sample_of(i) + " holds Inf");
    }
    return std::nullopt;
  });
  if (raw_error) return *raw_error;
  std::size_t i = 0;
  while (i < out.size() && std::isfinite(out[i])) ++i;
  return invalid_argument(sample_of(i) + " leaves the range of f32 after preprocessing");
}

}  // namespace

Result<Tensor> to_model_floats(const Tensor& raw, const FloatConversion& conversion,
                               const std::string& where) {
  if (!conversion.affine && conversion.turn == Turn::kNone && raw.dtype() == DType::kF32) {
    if (!all_finite(raw.as<float>())) return name_not_finite(raw, raw.as<float>(), where);
    return raw;
  }
  const Layout layout = layout_of(raw, conversion);
  Tensor out(DType::kF32, turned_shape(raw.shape(), conversion.turn));
  float* to = out.mutable_as<float>().data();
  with_elements(raw, [&]<class T>(std::span<const T> values) {
    if (!conversion.affine) {
      walk(values, to, layout, [](T value, std::int64_t) { return static_cast<float>(value); });
      return;
    }
    const Affine& affine = *conversion.affine;
    const auto apply = [&](double value, std::size_t channel) {
      return static_cast<float>((value * affine.scale - affine.mean[channel]) / affine.std[channel]);
    };
    if constexpr (sizeof(T) == 1) {
      // 256 values a channel: a table is exact and faster than arithmetic in f64.
      std::vector<float> table(static_cast<std::size_t>(layout.channels) * 256);
      for (std::size_t i = 0; i < table.size(); ++i) {
        table[i] = apply(static_cast<T>(static_cast<std::uint8_t>(i % 256)), i / 256);
      }
      walk(values, to, layout, [&](T value, std::int64_t channel) {
        return table[static_cast<std::size_t>(channel) * 256 + static_cast<std::uint8_t>(value)];
      });
    } else {
      walk(values, to, layout, [&](T value, std::int64_t channel) {
        return apply(static_cast<double>(value), static_cast<std::size_t>(channel));
      });
    }
  });
  if (!all_finite(out.as<float>())) return name_not_finite(raw, out.as<float>(), where);
  return out;
}

Result<Tensor> to_model_integers(const Tensor& raw, DType dtype, const std::string& where) {
  if (raw.dtype() == dtype) return raw;
  Tensor out(dtype, raw.shape());
  const std::int64_t per_sample = raw.dim(0) == 0 ? 1 : std::max<std::int64_t>(1, raw.elements() / raw.dim(0));
  const auto fill = [&]<class Out>(Out) -> Result<void> {
    Out* to = out.mutable_as<Out>().data();
    const bool to_bool = dtype == DType::kBool;
    return with_elements(raw, [&]<class T>(std::span<const T> values) -> Result<void> {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const T value = values[i];
        bool fits = false;
        if constexpr (std::is_floating_point_v<T>) {
          // The upper limit as 2^n: the largest 64-bit integer itself has no exact double.
          const double limit = std::ldexp(1.0, std::numeric_limits<Out>::digits);
          fits = std::isfinite(value) && std::trunc(value) == value &&
                 static_cast<double>(value) < limit &&
                 static_cast<double>(value) >= (std::is_signed_v<Out> ? -limit : 0.0);
        } else {
          fits = std::in_range<Out>(value);
        }
        if (fits && to_bool) fits = value == T{0} || value == T{1};
        if (!fits) {
          return invalid_argument(where + "[" +
                                  std::to_string(static_cast<std::int64_t>(i) / per_sample) +
                                  "] holds " + std::to_string(value) + "; expected " +
                                  std::string(graph::to_string(dtype)));
        }
        to[i] = static_cast<Out>(value);
      }
      return {};
    });
  };
  Result<void> done;
  switch (dtype) {
    case DType::kS8: done = fill(std::int8_t{}); break;
    case DType::kU8:
    case DType::kBool: done = fill(std::uint8_t{}); break;
    case DType::kS16: done = fill(std::int16_t{}); break;
    case DType::kU16: done = fill(std::uint16_t{}); break;
    case DType::kS32: done = fill(std::int32_t{}); break;
    case DType::kU32: done = fill(std::uint32_t{}); break;
    case DType::kS64: done = fill(std::int64_t{}); break;
    case DType::kU64: done = fill(std::uint64_t{}); break;
    default:
      return unimplemented(where + ": the model's input takes " +
                           std::string(graph::to_string(dtype)) +
                           "; expected f32, f16, f64, bool or 8 to 64-bit integers");
  }
  if (!done.has_value()) return done.error();
  return out;
}

}  // namespace kerf::data
