// Ops that pick elements by computed indices.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

Outputs gather(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), x.rank());
  if (axis < 0) return bad(node, "axis outside the input");
  const auto at = static_cast<std::size_t>(axis);
  const std::vector<std::int64_t> indices = inputs[1].to_integers();
  Shape shape(x.shape().begin(), x.shape().begin() + axis);
  shape.insert(shape.end(), inputs[1].shape().begin(), inputs[1].shape().end());
  shape.insert(shape.end(), x.shape().begin() + axis + 1, x.shape().end());
  Tensor out(x.dtype(), shape);
  const std::size_t run =
      static_cast<std::size_t>(row_major_strides(x.shape())[at]) * graph::element_size(x.dtype());
  std::size_t outer = 1;
  for (std::size_t i = 0; i < at; ++i) outer *= static_cast<std::size_t>(x.dim(i));
  std::byte* to = out.mutable_raw();
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::int64_t i : indices) {
      if (i < 0) i += x.dim(at);
      if (i < 0 || i >= x.dim(at)) return bad(node, "index outside the axis");
      if (run > 0) {
        std::memcpy(to, x.raw() + (o * static_cast<std::size_t>(x.dim(at)) + static_cast<std::size_t>(i)) * run, run);
      }
      to += run;
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs gather_elements(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), x.rank());
  if (axis < 0 || inputs[1].rank() != x.rank()) return bad(node, "axis or rank doesn't fit");
  const auto at = static_cast<std::size_t>(axis);
  const std::vector<std::int64_t> indices = inputs[1].to_integers();
  Shape strides = row_major_strides(x.shape());
  const std::int64_t along = strides[at];
  strides[at] = 0;
  for (std::size_t i = 0; i < x.rank(); ++i) {
    if (i != at && inputs[1].dim(i) > x.dim(i)) return bad(node, "indices reach outside the input");
  }
  Tensor out(x.dtype(), inputs[1].shape());
  const std::size_t size = graph::element_size(x.dtype());
  std::byte* to = out.mutable_raw();
  std::size_t next = 0;
  bool fits = true;
  walk(out.shape(), std::array<Shape, 1>{strides}, [&](const auto& offset) {
    std::int64_t i = indices[next++];
    if (i < 0) i += x.dim(at);
    if (i < 0 || i >= x.dim(at)) fits = false;
    else std::memcpy(to, x.raw() + static_cast<std::size_t>(offset[0] + i * along) * size, size);
    to += size;
  });
  if (!fits) return bad(node, "index outside the axis");
  return std::vector<Tensor>{std::move(out)};
}

Outputs gather_nd(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t batch = node.integer("batch_dims", 0);
  const Shape& shape = inputs[1].shape();
  if (shape.empty() || batch < 0 || batch >= static_cast<std::int64_t>(shape.size()) ||
      shape.back() < 1 || shape.back() > static_cast<std::int64_t>(x.rank()) - batch) {
    return bad(node, "indices don't fit the input");
  }
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (shape[at] != x.dim(at)) return bad(node, "batch dimensions differ");
  }
  const auto depth = static_cast<std::size_t>(shape.back());
  const std::vector<std::int64_t> indices = inputs[1].to_integers();
  Shape result(shape.begin(), shape.end() - 1);
  result.insert(result.end(), x.shape().begin() + batch + shape.back(), x.shape().end());
  Tensor out(x.dtype(), result);
  const Shape strides = row_major_strides(x.shape());
  std::size_t run = graph::element_size(x.dtype());
  const auto first = static_cast<std::size_t>(batch);
  for (std::size_t i = first + depth; i < x.rank(); ++i) run *= static_cast<std::size_t>(x.dim(i));
  // Index tuples a batch element, and how far its part of the input reaches.
  std::size_t tuples = 1;
  for (std::size_t i = first; i + 1 < shape.size(); ++i) tuples *= static_cast<std::size_t>(shape[i]);
  const std::int64_t part = first == 0 ? x.elements() : strides[first - 1];
  std::byte* to = out.mutable_raw();
  for (std::size_t start = 0; start < indices.size(); start += depth) {
    std::int64_t offset =
        static_cast<std::int64_t>(start / depth / std::max<std::size_t>(tuples, 1)) * part;
    for (std::size_t i = 0; i < depth; ++i) {
      std::int64_t v = indices[start + i];
      if (v < 0) v += x.dim(first + i);
      if (v < 0 || v >= x.dim(first + i)) return bad(node, "index outside the axis");
      offset += v * strides[first + i];
    }
    if (run > 0) std::memcpy(to, x.raw() + static_cast<std::size_t>(offset) * graph::element_size(x.dtype()), run);
    to += run;
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs top_k(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), x.rank());
  if (axis < 0) return bad(node, "axis outside the input");
  const auto at = static_cast<std::size_t>(axis);
  const std::int64_t k = inputs[1].to_integers().at(0);
  if (k < 0 || k > x.dim(at)) return bad(node, "k outside the axis");
  const bool largest = node.integer("largest", 1) != 0;
  Shape shape = x.shape();
  shape[at] = k;
  Tensor values(x.dtype(), shape);
  Tensor indices(DType::kS64, shape);
  const std::int64_t inner = row_major_strides(x.shape())[at];
  const std::int64_t extent = x.dim(at);
  const auto to_index = indices.mutable_as<std::int64_t>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(extent));
  const bool known = dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = values.mutable_as<T>();
    for (std::int64_t run = 0; extent > 0 && run * extent < x.elements(); ++run) {
      const std::int64_t start = run / inner * inner * extent + run % inner;
      const std::int64_t to_start = run / inner * inner * k + run % inner;
      std::iota(order.begin(), order.end(), 0);
      // NaN compares with nothing; counting it as the largest keeps the order a strict one.
      const auto less = [&](std::int64_t a, std::int64_t b) {
        const T va = from[static_cast<std::size_t>(start + a * inner)];
        const T vb = from[static_cast<std::size_t>(start + b * inner)];
        if constexpr (std::is_floating_point_v<T>) {
          if (va != va || vb != vb) return va == va && vb != vb;
        }
        return va < vb;
      };
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return largest ? less(b, a) : less(a, b);
      });
      for (std::int64_t i = 0; i < k; ++i) {
        const std::int64_t pick = order[static_cast<std::size_t>(i)];
        const auto target = static_cast<std::size_t>(to_start + i * inner);
        to[target] = from[static_cast<std::size_t>(start + pick * inner)];
        to_index[target] = pick;
      }
    }
  });
  if (!known) return bad(node, "not for this element type");
  return std::vector<Tensor>{std::move(values), std::move(indices)};
}

Outputs cum_sum(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(inputs[1].to_integers().at(0), x.rank());
  if (axis < 0) return bad(node, "axis outside the input");
  const bool exclusive = node.integer("exclusive", 0) != 0;
  const bool reverse = node.integer("reverse", 0) != 0;
  Tensor out(x.dtype(), x.shape());
  const std::int64_t inner = row_major_strides(x.shape())[static_cast<std::size_t>(axis)];
  const std::int64_t extent = x.dim(static_cast<std::size_t>(axis));
  dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = out.mutable_as<T>();
    for (std::int64_t run = 0; extent > 0 && run * extent < x.elements(); ++run) {
      const std::int64_t start = run / inner * inner * extent + run % inner;
      T sum{};
      for (std::int64_t i = 0; i < extent; ++i) {
        const auto p = static_cast<std::size_t>(start + (reverse ? extent - 1 - i : i) * inner);
        if (exclusive) to[p] = sum;
        sum = static_cast<T>(sum + from[p]);
        if (!exclusive) to[p] = sum;
      }
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_indexing(Registry& registry) {
  registry["Gather"] = gather;
  registry["GatherElements"] = gather_elements;
  registry["GatherND"] = gather_nd;
  registry["TopK"] = top_k;
  registry["CumSum"] = cum_sum;
}

}  // namespace kerf::engine::reference
