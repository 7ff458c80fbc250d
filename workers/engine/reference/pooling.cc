// MaxPool, AveragePool, the global ones and LpPool.
#include <algorithm>
#include <cmath>
#include <limits>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// Calls f(output offset, input offsets inside, taps counted with padding).
template <class F>
void each_window(const Window& w, const Shape& padded_end, F&& f) {
  std::int64_t out_size = 1;
  for (const std::int64_t extent : w.output) out_size *= extent;
  std::int64_t kernel_size = 1;
  for (const std::int64_t extent : w.kernel) kernel_size *= extent;
  const std::size_t n = w.output.size();
  for (std::int64_t p = 0; p < out_size; ++p) {
    std::vector<std::int64_t> inside;
    std::int64_t counted = 0;
    for (std::int64_t k = 0; k < kernel_size; ++k) {
      std::int64_t rest_p = p;
      std::int64_t rest_k = k;
      std::int64_t offset = 0;
      std::int64_t step = 1;
      bool is_inside = true;
      bool is_padding = true;
      for (std::size_t i = n; i-- > 0;) {
        const std::int64_t at = rest_p % w.output[i] * w.strides[i] +
                                rest_k % w.kernel[i] * w.dilations[i] - w.pads_begin[i];
        is_inside = is_inside && at >= 0 && at < w.input[i];
        is_padding = is_padding && at < w.input[i] + padded_end[i];
        offset += at * step;
        step *= w.input[i];
        rest_p /= w.output[i];
        rest_k /= w.kernel[i];
      }
      if (is_inside) inside.push_back(offset);
      if (is_padding) ++counted;
    }
    f(p, inside, counted);
  }
}

Shape output_shape(const Tensor& x, const Window& w) {
  Shape shape{x.dim(0), x.dim(1)};
  shape.insert(shape.end(), w.output.begin(), w.output.end());
  return shape;
}

std::int64_t planes(const Tensor& x) { return x.dim(0) * x.dim(1); }

/// A row-major offset into the extents, counted with the first axis moving fastest.
std::int64_t column_major(std::int64_t offset, const Shape& extents) {
  Shape index(extents.size(), 0);
  for (std::size_t i = extents.size(); i-- > 0;) {
    index[i] = offset % extents[i];
    offset /= extents[i];
  }
  std::int64_t out = 0;
  for (std::size_t i = extents.size(); i-- > 0;) out = out * extents[i] + index[i];
  return out;
}

Outputs max_pool(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  KERF_ASSIGN(const Window w, pool_window(node, x.shape()));
  Tensor out(x.dtype(), output_shape(x, w));
  const bool with_indices = node.outputs.size() > 1 && !node.outputs[1].empty();
  const bool by_columns = node.integer("storage_order", 0) != 0;
  Tensor indices(DType::kS64, with_indices ? out.shape() : Shape{0});
  const auto to_index = indices.mutable_as<std::int64_t>();
  const std::int64_t in_size = planes(x) == 0 ? 0 : x.elements() / planes(x);
  const std::int64_t out_size = planes(x) == 0 ? 0 : out.elements() / planes(x);
  dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = out.mutable_as<T>();
    each_window(w, w.pads_end, [&](std::int64_t p, const auto& inside, std::int64_t) {
      for (std::int64_t c = 0; c < planes(x); ++c) {
        T best = std::numeric_limits<T>::lowest();
        std::int64_t first = inside.empty() ? 0 : inside.front();
        for (const std::int64_t at : inside) {
          const T v = from[static_cast<std::size_t>(c * in_size + at)];
          if (v > best) {
            best = v;
            first = at;
          }
        }
        const auto place = static_cast<std::size_t>(c * out_size + p);
        to[place] = best;
        if (with_indices) {
          to_index[place] = c * in_size + (by_columns ? column_major(first, w.input) : first);
        }
      }
    });
  });
  if (with_indices) return std::vector<Tensor>{std::move(out), std::move(indices)};
  return std::vector<Tensor>{std::move(out)};
}

Outputs sum_pool(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::kF32) return bad(node, "expected f32");
  KERF_ASSIGN(const Window w, pool_window(node, x.shape()));
  // What ceil_mode added behind the padding is never counted.
  Node without_ceil = node;
  without_ceil.attributes["ceil_mode"] = std::int64_t{0};
  KERF_ASSIGN(const Window declared, pool_window(without_ceil, x.shape()));
  const bool include_pad = node.integer("count_include_pad", 0) != 0;
  const auto p_norm = static_cast<double>(node.integer("p", 2));
  Tensor out(DType::kF32, output_shape(x, w));
  if (out.elements() == 0) return std::vector<Tensor>{std::move(out)};
  const std::int64_t in_size = x.elements() / planes(x);
  const std::int64_t out_size = out.elements() / planes(x);
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  each_window(w, declared.pads_end, [&](std::int64_t p, const auto& inside, std::int64_t counted) {
    for (std::int64_t c = 0; c < planes(x); ++c) {
      double sum = 0;
      for (const std::int64_t at : inside) {
        const auto v = static_cast<double>(from[static_cast<std::size_t>(c * in_size + at)]);
        sum += node.op == "LpPool" ? std::pow(std::fabs(v), p_norm) : v;
      }
      if (node.op == "LpPool") sum = std::pow(sum, 1.0 / p_norm);
      else sum /= static_cast<double>(std::max<std::int64_t>(
               1, include_pad ? counted : static_cast<std::int64_t>(inside.size())));
      to[static_cast<std::size_t>(c * out_size + p)] = static_cast<float>(sum);
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs global_pool(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::kF32 || x.rank() < 2) return bad(node, "expected f32 of rank 2 or more");
  Shape shape(x.rank(), 1);
  shape[0] = x.dim(0);
  shape[1] = x.dim(1);
  Tensor out(DType::kF32, shape);
  const auto to = out.mutable_as<float>();
  const std::size_t size = to.empty() ? 0 : x.as<float>().size() / to.size();
  const auto p_norm = static_cast<double>(node.integer("p", 2));
  for (std::size_t i = 0; i < to.size(); ++i) {
    const auto plane = x.as<float>().subspan(i * size, size);
    double sum = 0;
    for (const float v : plane) {
      sum += node.op == "GlobalLpPool" ? std::pow(std::fabs(static_cast<double>(v)), p_norm)
                                       : static_cast<double>(v);
    }
    if (node.op == "GlobalMaxPool") {
      to[i] = plane.empty() ? 0.0F : *std::max_element(plane.begin(), plane.end());
    } else if (node.op == "GlobalLpPool") {
      to[i] = static_cast<float>(std::pow(sum, 1.0 / p_norm));
    } else {
      to[i] = static_cast<float>(sum / static_cast<double>(std::max<std::size_t>(size, 1)));
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_pooling(Registry& registry) {
  registry["MaxPool"] = max_pool;
  registry["AveragePool"] = sum_pool;
  registry["LpPool"] = sum_pool;
  for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) {
    registry[op] = global_pool;
  }
}

}  // namespace kerf::engine::reference
