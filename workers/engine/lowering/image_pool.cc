// MaxPool of 8-bit images by our own kernel. Of floats the library's is as fast.
#include "workers/engine/geometry.h"
#include "workers/engine/kernels/max_pool.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;

Result<bool> lower_image_pool(Values& values, const Node& node) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  if (node.op != "MaxPool" || node.outputs.size() != 1 || info.shape.size() < 3 || info.shape.size() > 4) return false;
  if (graph::element_count(info.shape).value_or(0) == 0) return false;
  KERF_ASSIGN(Rep rep, values.first(node.inputs[0]));
  const DType dtype = rep.numeric.dtype;
  if (dtype != DType::kU8 && dtype != DType::kS8) return false;
  KERF_ASSIGN(const Window w, pool_window(node, info.shape));
  ImagePool p;
  p.batch = info.shape[0];
  p.channels = info.shape[1];
  const bool planar = info.shape.size() == 4;
  const std::size_t x = planar ? 1 : 0;
  if (planar) {
    p.in_h = w.input[0];
    p.out_h = w.output[0];
    p.kernel_h = w.kernel[0];
    p.stride_h = w.strides[0];
    p.dilation_h = w.dilations[0];
    p.pad_h = w.pads_begin[0];
  }
  p.in_w = w.input[x];
  p.out_w = w.output[x];
  p.kernel_w = w.kernel[x];
  p.stride_w = w.strides[x];
  p.dilation_w = w.dilations[x];
  p.pad_w = w.pads_begin[x];
  if (p.out_h <= 0 || p.out_w <= 0) return false;
  rep = values.in_layout(node.inputs[0], rep, Layout::kChannelsLast);
  Shape dims{info.shape[0], info.shape[1]};
  dims.insert(dims.end(), w.output.begin(), w.output.end());
  Rep out = rep;
  out.slot = values.new_slot(dtype, dims, Layout::kChannelsLast);
  const auto call = [&]<class T>(T) {
    const int threads = values.threads();
    auto step = make_call("kerf:max_pool", {rep.slot}, {out.slot},
                          [p, from = rep.slot, to = out.slot, threads](Pointers pointers, std::byte* scratch) {
                            max_pool(p, at<const T>(pointers, from), at<T>(pointers, to), reinterpret_cast<T*>(scratch), threads);
                          },
                          p.scratch_elements() * threads * static_cast<std::int64_t>(sizeof(T)));
    values.emit(std::move(step), node.name, node.op, executes_as(rep.numeric));
  };
  if (dtype == DType::kU8) call(std::uint8_t{});
  else call(std::int8_t{});
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace kerf::engine
