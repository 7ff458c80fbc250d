// MaxPool, AveragePool, GlobalMaxPool.
#include "workers/engine/geometry.h"
#include "workers/engine/kernels/primitive.h"
#include "workers/engine/training/loops.h"
#include "workers/engine/training/network.h"

namespace kerf::engine::training {

using graph::DType;
using graph::Node;
using graph::Shape;

namespace {

using dnnl::memory;

/// Shapes:   x [n, c, …] -> y [n, c, …], channels-last.
class Pool final : public Op {
 public:
  Pool(Value* x, Value* y, dnnl::algorithm algorithm, const Window& w) : x_{x}, y_(y), stream_(cpu_engine()) {
    const auto source = dnnl_desc(x->dims, DType::kF32, Layout::kChannelsLast);
    const auto target = dnnl_desc(y->dims, DType::kF32, Layout::kChannelsLast);
    memory::dims dilations;
    for (const std::int64_t d : w.dilations) dilations.push_back(d - 1);
    forward_ = {cpu_engine(), dnnl::prop_kind::forward_training, algorithm, source, target, w.strides, w.kernel,
                dilations, w.pads_begin, w.pads_end};
    backward_ = {cpu_engine(), algorithm, source, target, w.strides, w.kernel, dilations, w.pads_begin, w.pads_end,
                 forward_};
    kernels = {std::string("forward: ") + forward_.impl_info_str(),
               std::string("data: ") + backward_.impl_info_str()};
  }

  void bind() override {
    run_forward_ = dnnl::pooling_forward(forward_);
    arguments_ = {{DNNL_ARG_SRC, memory(forward_.src_desc(), cpu_engine(), x_.value->data)},
                  {DNNL_ARG_DST, memory(forward_.dst_desc(), cpu_engine(), y_->data)}};
    const memory workspace(forward_.workspace_desc(), cpu_engine());
    if (forward_.workspace_desc().get_size() > 0) arguments_[DNNL_ARG_WORKSPACE] = workspace;
    if (!x_.wanted()) return;
    run_backward_ = dnnl::pooling_backward(backward_);
    buffer_ = x_.accumulate ? memory(backward_.diff_src_desc(), cpu_engine())
                            : memory(backward_.diff_src_desc(), cpu_engine(), x_.to());
    back_arguments_ = {{DNNL_ARG_DIFF_DST, memory(backward_.diff_dst_desc(), cpu_engine(), y_->gradient)},
                       {DNNL_ARG_DIFF_SRC, buffer_}};
    if (forward_.workspace_desc().get_size() > 0) back_arguments_[DNNL_ARG_WORKSPACE] = workspace;
  }

  void forward() override { run_forward_.execute(stream_, arguments_); }

  void backward() override {
    if (!x_.wanted()) return;
    run_backward_.execute(stream_, back_arguments_);
    if (x_.accumulate) {
      loops::copy(static_cast<const float*>(buffer_.get_data_handle()), x_.value->count, x_.to(), true);
    }
  }

  std::vector<Sink*> sinks() override { return {&x_}; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_;
  Value* y_;
  dnnl::stream stream_;
  dnnl::pooling_forward::primitive_desc forward_;
  dnnl::pooling_backward::primitive_desc backward_;
  dnnl::pooling_forward run_forward_;
  dnnl::pooling_backward run_backward_;
  memory buffer_;
  std::unordered_map<int, memory> arguments_, back_arguments_;
};

}  // namespace

Result<bool> add_pool(Network& network, const Node& node) {
  const bool global = node.op == "GlobalMaxPool";
  const bool max = global || node.op == "MaxPool";
  if (!max && node.op != "AveragePool") return false;
  KERF_ASSIGN(Value * x, network.value(node, 0, Layout::kChannelsLast));
  if (x->dims.size() < 3 || x->dims.size() > 5) return no_gradient(node, "an input of rank " + std::to_string(x->dims.size()));
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (!node.outputs[i].empty()) return no_gradient(node, "its indices are read");
  }
  Node described = node;
  if (global) described.attributes["kernel_shape"] = std::vector<std::int64_t>(x->dims.begin() + 2, x->dims.end());
  KERF_ASSIGN(const Window w, pool_window(described, x->dims));
  auto algorithm = max ? dnnl::algorithm::pooling_max : dnnl::algorithm::pooling_avg_exclude_padding;
  if (!max && node.integer("count_include_pad", 0) != 0) {
    algorithm = dnnl::algorithm::pooling_avg_include_padding;
    // What ceil_mode adds isn't counted by ONNX, but is by oneDNN.
    described.attributes["ceil_mode"] = std::int64_t{0};
    KERF_ASSIGN(const Window declared, pool_window(described, x->dims));
    if (declared.pads_end != w.pads_end) return no_gradient(node, "ceil_mode with count_include_pad");
  }
  Shape dims{x->dim(0), x->dim(1)};
  dims.insert(dims.end(), w.output.begin(), w.output.end());
  Value* y = network.make(dims, Layout::kChannelsLast, x->wants_gradient);
  try {
    network.add(std::make_unique<Pool>(x, y, algorithm, w));
  } catch (const dnnl::error& e) {
    return no_gradient(node, std::string("oneDNN has no kernel for it (") + e.what() + ")");
  }
  network.set(node.outputs[0], y);
  return true;
}

}  // namespace kerf::engine::training
