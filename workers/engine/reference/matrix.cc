// MatMul, MatMulInteger, Gemm.
#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// out = (a - a_zero) x (b - b_zero[column]), batched with broadcasting.
template <class Acc, class Out, class T>
Outputs multiply(const Node& node, const Shape& shape_a, const Shape& shape_b, std::span<const T> a,
                 std::span<const T> b, const std::vector<std::int64_t>& a_zero,
                 const std::vector<std::int64_t>& b_zero, DType dtype) {
  Shape left = shape_a;
  Shape right = shape_b;
  if (left.empty() || right.empty()) return bad(node, "a scalar input");
  if (left.size() == 1) left.insert(left.begin(), 1);
  if (right.size() == 1) right.push_back(1);
  const std::int64_t m = left[left.size() - 2];
  const std::int64_t k = left.back();
  const std::int64_t n = right.back();
  if (right[right.size() - 2] != k) {
    return bad(node, graph::to_string(shape_a) + " times " + graph::to_string(shape_b));
  }
  const Shape batch_a(left.begin(), left.end() - 2);
  const Shape batch_b(right.begin(), right.end() - 2);
  auto batch = broadcast_shapes(batch_a, batch_b);
  if (!batch.has_value()) return bad(node, batch.error().message);
  Shape shape = *batch;
  shape.push_back(m);
  shape.push_back(n);
  const Shape full = shape;
  if (shape_a.size() == 1) shape.erase(shape.end() - 2);
  if (shape_b.size() == 1) shape.pop_back();
  Tensor out(dtype, shape);
  const auto to = out.template mutable_as<Out>();
  const std::array<Shape, 3> strides{broadcast_strides(batch_a, *batch),
                                     broadcast_strides(batch_b, *batch),
                                     row_major_strides(*batch)};
  const auto at_zero = [](const std::vector<std::int64_t>& zero, std::int64_t i) {
    return static_cast<Acc>(zero[zero.size() == 1 ? 0 : static_cast<std::size_t>(i)]);
  };
  walk(*batch, strides, [&](const auto& at) {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        Acc sum{};
        for (std::int64_t c = 0; c < k; ++c) {
          sum += (static_cast<Acc>(a[static_cast<std::size_t>((at[0] * m + i) * k + c)]) - at_zero(a_zero, i)) *
                 (static_cast<Acc>(b[static_cast<std::size_t>((at[1] * k + c) * n + j)]) - at_zero(b_zero, j));
        }
        to[static_cast<std::size_t>((at[2] * m + i) * n + j)] = static_cast<Out>(sum);
      }
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs matmul(const Node& node, Inputs inputs) {
  if (inputs[0].dtype() != DType::kF32 || inputs[1].dtype() != DType::kF32) {
    return bad(node, "expected f32");
  }
  return multiply<double, float>(node, inputs[0].shape(), inputs[1].shape(), inputs[0].as<float>(),
                                 inputs[1].as<float>(), {0}, {0}, DType::kF32);
}

Outputs matmul_integer(const Node& node, Inputs inputs) {
  const std::vector<std::int64_t> a = inputs[0].to_integers();
  const std::vector<std::int64_t> b = inputs[1].to_integers();
  const auto zero = [&](std::size_t i) {
    return given(inputs, i) ? inputs[i].to_integers() : std::vector<std::int64_t>{0};
  };
  const std::int64_t rows = inputs[0].rank() < 2 ? 1 : inputs[0].dim(inputs[0].rank() - 2);
  const std::int64_t columns = inputs[1].rank() < 2 ? 1 : inputs[1].dim(inputs[1].rank() - 1);
  if ((zero(2).size() != 1 && static_cast<std::int64_t>(zero(2).size()) != rows) ||
      (zero(3).size() != 1 && static_cast<std::int64_t>(zero(3).size()) != columns)) {
    return bad(node, "zero points don't fit rows or columns");
  }
  return multiply<std::int64_t, std::int32_t>(node, inputs[0].shape(), inputs[1].shape(),
                                              std::span<const std::int64_t>(a),
                                              std::span<const std::int64_t>(b), zero(2), zero(3),
                                              DType::kS32);
}

Outputs gemm(const Node& node, Inputs inputs) {
  const Tensor& a = inputs[0];
  const Tensor& b = inputs[1];
  if (a.rank() != 2 || b.rank() != 2 || a.dtype() != DType::kF32 || b.dtype() != DType::kF32) {
    return bad(node, "expected two f32 matrices");
  }
  const bool ta = node.integer("transA", 0) != 0;
  const bool tb = node.integer("transB", 0) != 0;
  const std::int64_t m = a.dim(ta ? 1 : 0);
  const std::int64_t k = a.dim(ta ? 0 : 1);
  const std::int64_t n = b.dim(tb ? 0 : 1);
  if (b.dim(tb ? 1 : 0) != k) {
    return bad(node, graph::to_string(a.shape()) + " times " + graph::to_string(b.shape()));
  }
  const float alpha = node.real("alpha", 1.0F);
  const float beta = node.real("beta", 1.0F);
  Tensor out(DType::kF32, {m, n});
  const auto x = a.as<float>();
  const auto y = b.as<float>();
  const auto to = out.mutable_as<float>();
  Shape c_strides{0, 0};
  if (given(inputs, 2)) {
    const auto shape = broadcast_shapes(inputs[2].shape(), out.shape());
    if (!shape.has_value() || *shape != out.shape() || inputs[2].dtype() != DType::kF32) {
      return bad(node, "C " + graph::to_string(inputs[2].shape()) + " doesn't broadcast to " +
                           graph::to_string(out.shape()));
    }
    c_strides = broadcast_strides(inputs[2].shape(), out.shape());
  }
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t c = 0; c < k; ++c) {
        sum += static_cast<double>(x[static_cast<std::size_t>(ta ? c * m + i : i * k + c)]) *
               static_cast<double>(y[static_cast<std::size_t>(tb ? j * k + c : c * n + j)]);
      }
      float value = alpha * static_cast<float>(sum);
      if (given(inputs, 2)) {
        value += beta * inputs[2].as<float>()[static_cast<std::size_t>(i * c_strides[0] + j * c_strides[1])];
      }
      to[static_cast<std::size_t>(i * n + j)] = value;
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_matrix(Registry& registry) {
  registry["MatMul"] = matmul;
  registry["MatMulInteger"] = matmul_integer;
  registry["Gemm"] = gemm;
}

}  // namespace kerf::engine::reference
