#include "workers/engine/training/nest.h"

#include "workers/engine/training/loops.h"

namespace kerf::engine::training {

using graph::Shape;

Nest::Nest(const Shape& extents, std::vector<Shape> of_arrays, const Shape& order) : strides(of_arrays.size()) {
  for (const std::int64_t axis : order) {
    const auto a = static_cast<std::size_t>(axis);
    if (extents[a] == 1) continue;
    bool joins = !dims.empty();
    for (std::size_t k = 0; joins && k < strides.size(); ++k) {
      joins = strides[k].back() == of_arrays[k][a] * extents[a];
    }
    if (joins) {
      dims.back() *= extents[a];
      for (std::size_t k = 0; k < strides.size(); ++k) strides[k].back() = of_arrays[k][a];
    } else {
      dims.push_back(extents[a]);
      for (std::size_t k = 0; k < strides.size(); ++k) strides[k].push_back(of_arrays[k][a]);
    }
  }
}

std::int64_t Nest::outer() const {
  std::int64_t out = 1;
  for (std::size_t i = 0; i + 1 < dims.size(); ++i) out *= dims[i];
  return dims.empty() || dims.back() > 0 ? out : 0;
}

void move(const Nest& nest, const float* from, float* to, float factor, bool accumulate) {
  const std::int64_t n = nest.inner();
  const auto count = static_cast<std::size_t>(n);
  const std::int64_t from_step = nest.inner_stride(0);
  const std::int64_t to_step = nest.inner_stride(1);
  nest.for_each([&](const Shape& offsets) {
    const float* source = from + offsets[0];
    float* target = to + offsets[1];
    if (from_step == 1 && to_step == 1) {
      if (factor == 1.0F) {
        loops::copy(source, count, target, accumulate);
      } else {
        loops::scale(source, factor, count, target, accumulate);
      }
      return;
    }
    if (from_step == 1 && to_step == 0 && n > 1) {
      *target += factor * loops::sum(source, count);
      return;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      float& place = target[i * to_step];
      place = accumulate ? place + factor * source[i * from_step] : factor * source[i * from_step];
    }
  });
}

}  // namespace kerf::engine::training
