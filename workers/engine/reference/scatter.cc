// Ops that put elements where indices say: Scatter*, OneHot, Trilu, EyeLike, ReverseSequence.
#include <algorithm>
#include <cstring>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

template <class T>
T reduced(const std::string& how, T old, T update) {
  if (how == "add") return static_cast<T>(old + update);
  if (how == "mul") return static_cast<T>(old * update);
  if (how == "max") return std::max(old, update);
  if (how == "min") return std::min(old, update);
  return update;
}

Result<void> check_reduction(const Node& node) {
  const std::string how = node.text("reduction", "none");
  for (const char* known : {"none", "add", "mul", "max", "min"}) {
    if (how == known) return {};
  }
  return bad(node, "reduction '" + how + "' isn't known");
}

Outputs scatter_elements(const Node& node, Inputs inputs) {
  KERF_TRY(check_reduction(node));
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), x.rank());
  if (axis < 0 || inputs[1].rank() != x.rank() || inputs[2].shape() != inputs[1].shape() ||
      inputs[2].dtype() != x.dtype()) {
    return bad(node, "axis, indices or updates don't fit the input");
  }
  const auto at = static_cast<std::size_t>(axis);
  for (std::size_t i = 0; i < x.rank(); ++i) {
    if (i != at && inputs[1].dim(i) > x.dim(i)) return bad(node, "indices reach outside the input");
  }
  const std::vector<std::int64_t> indices = inputs[1].to_integers();
  Shape strides = row_major_strides(x.shape());
  const std::int64_t along = strides[at];
  strides[at] = 0;
  const std::string how = node.text("reduction", "none");
  Tensor out = x;
  bool fits = true;
  dispatch(x.dtype(), [&]<class T>(T) {
    const auto to = out.mutable_as<T>();
    const auto from = inputs[2].as<T>();
    std::size_t next = 0;
    walk(inputs[1].shape(), std::array<Shape, 1>{strides}, [&](const auto& offset) {
      std::int64_t i = indices[next];
      if (i < 0) i += x.dim(at);
      if (i < 0 || i >= x.dim(at)) {
        fits = false;
      } else {
        T& place = to[static_cast<std::size_t>(offset[0] + i * along)];
        place = reduced<T>(how, place, from[next]);
      }
      ++next;
    });
  });
  if (!fits) return bad(node, "index outside the axis");
  return std::vector<Tensor>{std::move(out)};
}

Outputs scatter_nd(const Node& node, Inputs inputs) {
  KERF_TRY(check_reduction(node));
  const Tensor& x = inputs[0];
  const Shape& shape = inputs[1].shape();
  if (shape.empty() || shape.back() > static_cast<std::int64_t>(x.rank()) ||
      inputs[2].dtype() != x.dtype()) {
    return bad(node, "indices or updates don't fit the input");
  }
  const auto depth = static_cast<std::size_t>(shape.back());
  Shape wanted(shape.begin(), shape.end() - 1);
  wanted.insert(wanted.end(), x.shape().begin() + shape.back(), x.shape().end());
  if (inputs[2].shape() != wanted) return bad(node, "updates don't fit the indices");
  const std::vector<std::int64_t> indices = inputs[1].to_integers();
  const Shape strides = row_major_strides(x.shape());
  std::size_t run = 1;
  for (std::size_t i = depth; i < x.rank(); ++i) run *= static_cast<std::size_t>(x.dim(i));
  const std::string how = node.text("reduction", "none");
  Tensor out = x;
  bool fits = true;
  const std::size_t count = static_cast<std::size_t>(*graph::element_count(
      Shape(shape.begin(), shape.end() - 1)));
  dispatch(x.dtype(), [&]<class T>(T) {
    const auto to = out.mutable_as<T>();
    const auto from = inputs[2].as<T>();
    for (std::size_t k = 0; k < count; ++k) {
      std::int64_t offset = 0;
      for (std::size_t i = 0; i < depth; ++i) {
        std::int64_t v = indices[k * depth + i];
        if (v < 0) v += x.dim(i);
        if (v < 0 || v >= x.dim(i)) {
          fits = false;
          return;
        }
        offset += v * strides[i];
      }
      for (std::size_t i = 0; i < run; ++i) {
        T& place = to[static_cast<std::size_t>(offset) + i];
        place = reduced<T>(how, place, from[k * run + i]);
      }
    }
  });
  if (!fits) return bad(node, "index outside the axis");
  return std::vector<Tensor>{std::move(out)};
}

Outputs one_hot(const Node& node, Inputs inputs) {
  const std::size_t rank = inputs[0].rank() + 1;
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), rank);
  if (axis < 0 || inputs[1].elements() != 1 || inputs[2].elements() != 2)
    return bad(node, "axis, depth or values don't fit");
  const auto depth = static_cast<std::int64_t>(inputs[1].to_floats()[0]);
  if (depth < 1) return bad(node, "depth must be positive");
  Shape shape = inputs[0].shape();
  shape.insert(shape.begin() + axis, depth);
  if (!graph::element_count(shape)) return bad(node, "dimensions overflow");
  Tensor out(inputs[2].dtype(), shape);
  std::vector<std::int64_t> indices;
  if (inputs[0].dtype() == DType::kF32) {
    for (const float v : inputs[0].as<float>()) {
      // An index outside has no place, whatever it is.
      indices.push_back(v > -2e9F && v < 2e9F ? static_cast<std::int64_t>(v) : depth);
    }
  } else {
    indices = inputs[0].to_integers();
  }
  const std::int64_t inner = row_major_strides(shape)[static_cast<std::size_t>(axis)];
  dispatch(out.dtype(), [&]<class T>(T) {
    const auto to = out.mutable_as<T>();
    const auto values = inputs[2].as<T>();
    std::fill(to.begin(), to.end(), values[0]);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::int64_t at = indices[i] < 0 ? indices[i] + depth : indices[i];
      if (at < 0 || at >= depth) continue;
      const auto flat = static_cast<std::int64_t>(i);
      to[static_cast<std::size_t>((flat / inner * depth + at) * inner + flat % inner)] = values[1];
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs trilu(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.rank() < 2) return bad(node, "expected rank 2 or more");
  const std::int64_t k = given(inputs, 1) ? inputs[1].to_integers().at(0) : 0;
  const bool upper = node.integer("upper", 1) != 0;
  const std::int64_t rows = x.dim(x.rank() - 2);
  const std::int64_t columns = x.dim(x.rank() - 1);
  Tensor out = x;
  const std::size_t size = graph::element_size(x.dtype());
  std::byte* to = out.mutable_raw();
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    const std::int64_t diagonal = i % columns - i / columns % rows;
    const bool keeps = upper ? diagonal >= k : diagonal <= k;
    if (!keeps) std::memset(to + static_cast<std::size_t>(i) * size, 0, size);
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs eye_like(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.rank() != 2) return bad(node, "expected rank 2");
  const std::int64_t k = node.integer("k", 0);
  const DType dtype = node.attributes.contains("dtype")
                          ? dtype_of_onnx(node.integer("dtype", 1))
                          : x.dtype();
  Tensor out(dtype, x.shape());
  dispatch(dtype, [&]<class T>(T) {
    const auto to = out.mutable_as<T>();
    for (std::int64_t row = 0; row < x.dim(0); ++row) {
      const std::int64_t column = row + k;
      if (column >= 0 && column < x.dim(1)) to[static_cast<std::size_t>(row * x.dim(1) + column)] = T{1};
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs reverse_sequence(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t time = node.integer("time_axis", 0);
  const std::int64_t batch = node.integer("batch_axis", 1);
  if (x.rank() < 2 || time + batch != 1 || time < 0 || batch < 0)
    return bad(node, "time_axis and batch_axis must be 0 and 1");
  const std::vector<std::int64_t> lengths = inputs[1].to_integers();
  const std::int64_t count = x.dim(static_cast<std::size_t>(batch));
  const std::int64_t steps = x.dim(static_cast<std::size_t>(time));
  if (static_cast<std::int64_t>(lengths.size()) != count)
    return bad(node, "there must be a length for each sequence");
  Tensor out(x.dtype(), x.shape());
  if (x.elements() == 0) return std::vector<Tensor>{std::move(out)};
  const std::size_t run = x.bytes() / static_cast<std::size_t>(count * steps);
  std::byte* to = out.mutable_raw();
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t length = lengths[static_cast<std::size_t>(n)];
    if (length < 0 || length > steps) return bad(node, "a length is outside the time axis");
    for (std::int64_t t = 0; t < steps; ++t) {
      const std::int64_t from = t < length ? length - 1 - t : t;
      const auto place = [&](std::int64_t s) {
        return static_cast<std::size_t>(time == 0 ? s * count + n : n * steps + s) * run;
      };
      std::memcpy(to + place(t), x.raw() + place(from), run);
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_scatter(Registry& registry) {
  registry["ScatterElements"] = scatter_elements;
  registry["ScatterND"] = scatter_nd;
  registry["OneHot"] = one_hot;
  registry["Trilu"] = trilu;
  registry["EyeLike"] = eye_like;
  registry["ReverseSequence"] = reverse_sequence;
}

}  // namespace kerf::engine::reference
