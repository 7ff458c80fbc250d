#include "workers/engine/lowering/conv_desc.h"

#include "workers/engine/kernels/primitive.h"

namespace kerf::engine {

using graph::Shape;

dnnl::memory::desc conv_weights_desc(const Shape& shape, graph::DType dtype, std::int64_t groups, bool transposed) {
  const Shape own = row_major_strides(shape);
  const std::int64_t out = transposed ? shape[1] : shape[0] / groups;
  const std::int64_t in = transposed ? shape[0] / groups : shape[1];
  dnnl::memory::dims dims;
  dnnl::memory::dims strides;
  if (groups > 1) {
    dims.push_back(groups);
    strides.push_back((transposed ? in : out) * own[0]);
  }
  dims.insert(dims.end(), {out, in});
  strides.insert(strides.end(), {own[transposed ? 1 : 0], own[transposed ? 0 : 1]});
  dims.insert(dims.end(), shape.begin() + 2, shape.end());
  strides.insert(strides.end(), own.begin() + 2, own.end());
  return {dims, dnnl_type(dtype), strides};
}

Shape transposed_ends(const Window& w) {
  Shape ends;
  for (std::size_t i = 0; i < w.kernel.size(); ++i) {
    const std::int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
    ends.push_back((w.input[i] - 1) * w.strides[i] + reach - w.pads_begin[i] - w.output[i]);
  }
  return ends;
}

dnnl::memory::dims dilation_gaps(const Shape& dilations) {
  dnnl::memory::dims gaps;
  for (const std::int64_t d : dilations) gaps.push_back(d - 1);
  return gaps;
}

}  // namespace kerf::engine
