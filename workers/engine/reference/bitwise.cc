// BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift.
#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

bool is_real(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kF16 || dtype == DType::kBF16;
}

template <class T>
T combined(const Node& node, T a, T b) {
  if (node.op == "BitwiseAnd") return static_cast<T>(a & b);
  if (node.op == "BitwiseOr") return static_cast<T>(a | b);
  if (node.op == "BitwiseXor") return static_cast<T>(a ^ b);
  // Shifting out every bit gives 0, which C++ leaves undefined.
  if (static_cast<std::uint64_t>(b) >= 8 * sizeof(T)) return T{};
  const auto bits = static_cast<std::uint64_t>(a);
  return static_cast<T>(node.text("direction", "") == "LEFT" ? bits << static_cast<unsigned>(b)
                                                             : bits >> static_cast<unsigned>(b));
}

Outputs binary(const Node& node, Inputs inputs) {
  const Tensor& a = inputs[0];
  const Tensor& b = inputs[1];
  if (a.dtype() != b.dtype() || is_real(a.dtype())) return bad(node, "expected integers of one type");
  const auto shape = broadcast_shapes(a.shape(), b.shape());
  if (!shape.has_value()) return bad(node, shape.error().message);
  Tensor out(a.dtype(), *shape);
  const std::array<Shape, 2> strides{broadcast_strides(a.shape(), *shape),
                                     broadcast_strides(b.shape(), *shape)};
  dispatch(a.dtype(), [&]<class T>(T) {
    if constexpr (std::is_integral_v<T>) {
      const auto x = a.as<T>();
      const auto y = b.as<T>();
      const auto to = out.mutable_as<T>();
      std::size_t next = 0;
      walk(*shape, strides, [&](const auto& at) {
        to[next++] = combined<T>(node, x[static_cast<std::size_t>(at[0])],
                                 y[static_cast<std::size_t>(at[1])]);
      });
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs bitwise_not(const Node& node, Inputs inputs) {
  if (is_real(inputs[0].dtype())) return bad(node, "expected integers");
  Tensor out(inputs[0].dtype(), inputs[0].shape());
  dispatch(out.dtype(), [&]<class T>(T) {
    if constexpr (std::is_integral_v<T>) {
      const auto from = inputs[0].as<T>();
      const auto to = out.mutable_as<T>();
      for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<T>(~from[i]);
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_bitwise(Registry& registry) {
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"}) registry[op] = binary;
  registry["BitwiseNot"] = bitwise_not;
}

}  // namespace kerf::engine::reference
