// One element at a time: unary functions, binary and variadic ones with NumPy's broadcasting.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"
#include "workers/engine/reference/scalar.h"

namespace kerf::engine::reference {
namespace {

Outputs float_unary(const Node& node, Inputs inputs) {
  const auto function = scalar_function(node, inputs);
  if (!function) return bad(node, "no scalar function");
  if (inputs[0].dtype() != DType::kF32 && inputs[0].dtype() != DType::kF64) {
    return bad(node, "input of type " + std::string(graph::to_string(inputs[0].dtype())) +
                         ", expected f32");
  }
  Tensor out(inputs[0].dtype(), inputs[0].shape());
  if (inputs[0].dtype() == DType::kF64) {
    const auto in = inputs[0].as<double>();
    const auto to = out.mutable_as<double>();
    for (std::size_t i = 0; i < in.size(); ++i) to[i] = (*function)(static_cast<float>(in[i]));
  } else {
    const auto in = inputs[0].as<float>();
    const auto to = out.mutable_as<float>();
    for (std::size_t i = 0; i < in.size(); ++i) to[i] = (*function)(in[i]);
  }
  return std::vector<Tensor>{std::move(out)};
}

/// Relu, Clip, Abs, Neg, Sign on any type; floats go the float way.
Outputs any_unary(const Node& node, Inputs inputs) {
  const DType dtype = inputs[0].dtype();
  if (dtype == DType::kF32) return float_unary(node, inputs);
  Tensor out(dtype, inputs[0].shape());
  bool known = true;
  dispatch(dtype, [&]<class T>(T) {
    const auto in = inputs[0].as<T>();
    const auto to = out.mutable_as<T>();
    const T low = node.op == "Clip" && given(inputs, 1) ? inputs[1].as<T>()[0]
                                                        : std::numeric_limits<T>::lowest();
    const T high = node.op == "Clip" && given(inputs, 2) ? inputs[2].as<T>()[0]
                                                         : std::numeric_limits<T>::max();
    for (std::size_t i = 0; i < in.size(); ++i) {
      const T x = in[i];
      if (node.op == "Relu") to[i] = std::max(x, T{});
      else if (node.op == "Clip") to[i] = std::min(std::max(x, low), high);
      else if (node.op == "Abs") to[i] = x < T{} ? static_cast<T>(T{} - x) : x;
      else if (node.op == "Neg") to[i] = static_cast<T>(T{} - x);
      else if (node.op == "Sign") to[i] = static_cast<T>((x > T{}) - (x < T{}));
      else known = false;
    }
  });
  if (!known) return bad(node, "not for type " + std::string(graph::to_string(dtype)));
  return std::vector<Tensor>{std::move(out)};
}

Outputs logical_not(const Node&, Inputs inputs) {
  Tensor out(DType::kBool, inputs[0].shape());
  const auto in = inputs[0].as<std::uint8_t>();
  const auto to = out.mutable_as<std::uint8_t>();
  for (std::size_t i = 0; i < in.size(); ++i) to[i] = in[i] == 0 ? 1 : 0;
  return std::vector<Tensor>{std::move(out)};
}

Outputs classify(const Node& node, Inputs inputs) {
  Tensor out(DType::kBool, inputs[0].shape());
  const bool positive = node.integer("detect_positive", 1) != 0;
  const bool negative = node.integer("detect_negative", 1) != 0;
  const auto in = inputs[0].as<float>();
  const auto to = out.mutable_as<std::uint8_t>();
  for (std::size_t i = 0; i < in.size(); ++i) {
    to[i] = node.op == "IsNaN"
                ? std::isnan(in[i])
                : std::isinf(in[i]) && (in[i] > 0 ? positive : negative);
  }
  return std::vector<Tensor>{std::move(out)};
}

template <class T>
T power(T base, double exponent) {
  return static_cast<T>(std::pow(static_cast<double>(base), exponent));
}

template <class T>
T apply_arithmetic(const std::string& op, T a, T b, bool fmod) {
  if (op == "Add" || op == "Sum" || op == "Mean") return static_cast<T>(a + b);
  if (op == "Sub") return static_cast<T>(a - b);
  if (op == "Mul") return static_cast<T>(a * b);
  if (op == "Max") return std::max(a, b);
  if (op == "Min") return std::min(a, b);
  if (op == "PRelu") return a < T{} ? static_cast<T>(a * b) : a;
  if constexpr (std::is_floating_point_v<T>) {
    if (op == "Div") return a / b;
    const T r = std::fmod(a, b);  // Mod
    return fmod || r == T{} || (r < T{}) == (b < T{}) ? r : r + b;
  } else {
    if (b == T{}) return T{};
    if (op == "Div") {
      if constexpr (std::is_signed_v<T>) {
        // The least integer stays itself, as it would in hardware.
        if (b == T{-1}) return static_cast<T>(std::make_unsigned_t<T>{} - static_cast<std::make_unsigned_t<T>>(a));
      }
      return static_cast<T>(a / b);
    }
    if constexpr (std::is_signed_v<T>) {
      if (b == T{-1}) return T{};
      const T r = static_cast<T>(a % b);
      return fmod || r == T{} || (r < T{}) == (b < T{}) ? r : static_cast<T>(r + b);
    } else {
      return static_cast<T>(a % b);
    }
  }
}

Outputs arithmetic_pair(const Node& node, const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype()) return bad(node, "inputs of different types");
  auto shape = broadcast_shapes(a.shape(), b.shape());
  if (!shape.has_value()) return bad(node, shape.error().message);
  Tensor out(a.dtype(), *shape);
  const std::array<Shape, 3> strides{broadcast_strides(a.shape(), *shape),
                                     broadcast_strides(b.shape(), *shape),
                                     row_major_strides(*shape)};
  const bool fmod = node.integer("fmod", 0) != 0;
  const bool done = dispatch(a.dtype(), [&]<class T>(T) {
    const auto x = a.as<T>();
    const auto y = b.as<T>();
    const auto to = out.mutable_as<T>();
    walk(*shape, strides, [&](const auto& at) {
      to[static_cast<std::size_t>(at[2])] =
          apply_arithmetic<T>(node.op, x[static_cast<std::size_t>(at[0])],
                              y[static_cast<std::size_t>(at[1])], fmod);
    });
  });
  if (!done) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(out)};
}

Outputs arithmetic(const Node& node, Inputs inputs) {
  if (node.inputs.empty()) return bad(node, "no input");
  Tensor sum = inputs[0];
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    KERF_ASSIGN(std::vector<Tensor> next, arithmetic_pair(node, sum, inputs[i]));
    sum = std::move(next[0]);
  }
  if (node.op == "Mean" && sum.dtype() == DType::kF32) {
    for (float& v : sum.mutable_as<float>()) v /= static_cast<float>(node.inputs.size());
  }
  return std::vector<Tensor>{std::move(sum)};
}

Outputs pow_op(const Node& node, Inputs inputs) {
  auto shape = broadcast_shapes(inputs[0].shape(), inputs[1].shape());
  if (!shape.has_value()) return bad(node, shape.error().message);
  Tensor out(inputs[0].dtype(), *shape);
  const std::vector<float> exponents = inputs[1].to_floats();
  const std::array<Shape, 3> strides{broadcast_strides(inputs[0].shape(), *shape),
                                     broadcast_strides(inputs[1].shape(), *shape),
                                     row_major_strides(*shape)};
  dispatch(out.dtype(), [&]<class T>(T) {
    const auto x = inputs[0].as<T>();
    const auto to = out.mutable_as<T>();
    walk(*shape, strides, [&](const auto& at) {
      to[static_cast<std::size_t>(at[2])] =
          power<T>(x[static_cast<std::size_t>(at[0])],
                   static_cast<double>(exponents[static_cast<std::size_t>(at[1])]));
    });
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs compare(const Node& node, Inputs inputs) {
  if (inputs[0].dtype() != inputs[1].dtype()) return bad(node, "inputs of different types");
  auto shape = broadcast_shapes(inputs[0].shape(), inputs[1].shape());
  if (!shape.has_value()) return bad(node, shape.error().message);
  Tensor out(DType::kBool, *shape);
  const auto to = out.mutable_as<std::uint8_t>();
  const std::array<Shape, 3> strides{broadcast_strides(inputs[0].shape(), *shape),
                                     broadcast_strides(inputs[1].shape(), *shape),
                                     row_major_strides(*shape)};
  const std::string& op = node.op;
  dispatch(inputs[0].dtype(), [&]<class T>(T) {
    const auto x = inputs[0].as<T>();
    const auto y = inputs[1].as<T>();
    walk(*shape, strides, [&](const auto& at) {
      const T a = x[static_cast<std::size_t>(at[0])];
      const T b = y[static_cast<std::size_t>(at[1])];
      bool r = false;
      if (op == "Equal") r = a == b;
      else if (op == "Less") r = a < b;
      else if (op == "LessOrEqual") r = a <= b;
      else if (op == "Greater") r = a > b;
      else if (op == "GreaterOrEqual") r = a >= b;
      else if (op == "And") r = a != T{} && b != T{};
      else if (op == "Or") r = a != T{} || b != T{};
      else r = (a != T{}) != (b != T{});  // Xor
      to[static_cast<std::size_t>(at[2])] = r ? 1 : 0;
    });
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs where(const Node& node, Inputs inputs) {
  auto pair = broadcast_shapes(inputs[1].shape(), inputs[2].shape());
  if (!pair.has_value()) return bad(node, pair.error().message);
  auto shape = broadcast_shapes(inputs[0].shape(), *pair);
  if (!shape.has_value()) return bad(node, shape.error().message);
  if (inputs[1].dtype() != inputs[2].dtype()) return bad(node, "inputs of different types");
  Tensor out(inputs[1].dtype(), *shape);
  const auto condition = inputs[0].as<std::uint8_t>();
  const std::array<Shape, 4> strides{broadcast_strides(inputs[0].shape(), *shape),
                                     broadcast_strides(inputs[1].shape(), *shape),
                                     broadcast_strides(inputs[2].shape(), *shape),
                                     row_major_strides(*shape)};
  dispatch(out.dtype(), [&]<class T>(T) {
    const auto x = inputs[1].as<T>();
    const auto y = inputs[2].as<T>();
    const auto to = out.mutable_as<T>();
    walk(*shape, strides, [&](const auto& at) {
      to[static_cast<std::size_t>(at[3])] = condition[static_cast<std::size_t>(at[0])] != 0
                                                ? x[static_cast<std::size_t>(at[1])]
                                                : y[static_cast<std::size_t>(at[2])];
    });
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs cast(const Node& node, Inputs inputs) {
  const DType to_type = dtype_of_onnx(node.integer("to", 1));
  Tensor out(to_type, inputs[0].shape());
  const auto convert = [&](const auto& in) {
    dispatch(to_type, [&]<class T>(T) {
      const auto to = out.mutable_as<T>();
      for (std::size_t i = 0; i < in.size(); ++i) {
        if (to_type == DType::kS4 || to_type == DType::kU4) {
          // ONNX: to the nearest, ties to even, what doesn't fit to the end of the range.
          const double low = to_type == DType::kS4 ? -8 : 0;
          const double q = std::nearbyint(static_cast<double>(in[i]));
          to[i] = static_cast<T>(std::isnan(q) ? 0 : std::clamp(q, low, low + 15));
        } else if (to_type == DType::kBool) to[i] = static_cast<T>(in[i] != 0 ? 1 : 0);
        else to[i] = saturating_cast<T>(in[i]);
      }
    });
  };
  if (!dispatch(inputs[0].dtype(), [&]<class T>(T) { convert(inputs[0].as<T>()); })) {
    convert(inputs[0].to_floats());
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_elementwise(Registry& registry) {
  for (const char* op :
       {"LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "Tanh", "HardSigmoid",
        "HardSwish", "Softplus", "Softsign", "Mish", "Gelu", "QuickGelu", "Exp", "Log",
        "Sqrt", "Floor", "Ceil", "Round", "Reciprocal", "Erf", "Sin", "Cos", "Tan", "Asin", "Acos",
        "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Shrink"}) {
    registry[op] = float_unary;
  }
  for (const char* op : {"Relu", "Clip", "Abs", "Neg", "Sign"}) registry[op] = any_unary;
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Mod", "PRelu"}) {
    registry[op] = arithmetic;
  }
  for (const char* op : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or",
                         "Xor"}) {
    registry[op] = compare;
  }
  registry["Pow"] = pow_op;
  registry["Where"] = where;
  registry["Not"] = logical_not;
  registry["IsNaN"] = classify;
  registry["IsInf"] = classify;
  registry["Cast"] = cast;
}

}  // namespace kerf::engine::reference
