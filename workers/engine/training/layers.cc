// Conv, Gemm and MatMul with constant weights.
#include <algorithm>

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

memory::desc any(const memory::dims& dims) { return {dims, memory::data_type::f32, memory::format_tag::any}; }

/// A reorder between two descriptors, or nothing where they are the same.
class Reorder {
 public:
  Reorder() = default;
  Reorder(const memory& from, const memory& to) : from_(from), to_(to) {
    if (from.get_desc() != to.get_desc()) primitive_ = dnnl::reorder(from, to);
  }
  void run(const dnnl::stream& stream) {
    if (primitive_) primitive_.execute(stream, from_, to_);
  }

 private:
  dnnl::reorder primitive_;
  memory from_, to_;
};

/// Memory of `wanted` that holds what lies at `data` as `given`: the same bytes where it can be.
memory view_or_new(const memory::desc& given, const memory::desc& wanted, float* data) {
  return given == wanted ? memory(wanted, cpu_engine(), data) : memory(wanted, cpu_engine());
}

/// A gradient that a primitive writes: straight to its place, or into a buffer that is then
/// reordered or added.
class GradientOut {
 public:
  GradientOut() = default;
  GradientOut(const memory::desc& plain, const memory::desc& wanted, const Sink& sink)
      : count_(sink.value->count), to_(sink.to()), accumulate_(sink.accumulate) {
    const bool direct = plain == wanted && !accumulate_;
    written_ = direct ? memory(wanted, cpu_engine(), to_) : memory(wanted, cpu_engine());
    if (direct) return;
    memory target(plain, cpu_engine(), to_);
    if (accumulate_) {
      buffer_ = plain == wanted ? written_ : memory(plain, cpu_engine());
      target = buffer_;
    }
    if (plain != wanted) reorder_ = Reorder(written_, target);
  }
  [[nodiscard]] const memory& written() const { return written_; }
  void finish(const dnnl::stream& stream) {
    reorder_.run(stream);
    if (accumulate_) loops::copy(static_cast<const float*>(buffer_.get_data_handle()), count_, to_, true);
  }

 private:
  memory written_, buffer_;
  Reorder reorder_;
  std::size_t count_ = 0;
  float* to_ = nullptr;
  bool accumulate_ = false;
};

memory::dims less_one(const Shape& dilations) {
  memory::dims out;
  for (const std::int64_t d : dilations) out.push_back(d - 1);
  return out;
}

/// Shapes:   x [n, c, …], weights [o, c / groups, …], bias [o] or none -> y [n, o, …].
/// Layout:   x and y channels-last; weights as ONNX has them, packed at each step.
class Convolution final : public Op {
 public:
  Convolution(Value* x, Value* weights, Value* bias, Value* y, const Window& window)
      : x_{x}, weights_{weights}, bias_{bias}, y_(y), window_(window), stream_(cpu_engine()) {
    const auto source = dnnl_desc(x->dims, DType::kF32, Layout::kChannelsLast);
    const auto target = dnnl_desc(y->dims, DType::kF32, Layout::kChannelsLast);
    memory::dims dims = weights->dims;
    if (window.groups > 1) {
      dims[0] /= window.groups;
      dims.insert(dims.begin(), window.groups);
    }
    plain_weights_ = dnnl_desc(dims, DType::kF32, Layout::kPlain);
    const memory::desc bias_desc =
        bias != nullptr ? dnnl_desc({y->dim(1)}, DType::kF32, Layout::kPlain) : memory::desc();
    const auto direct = dnnl::algorithm::convolution_direct;
    const auto dilations = less_one(window.dilations);
    forward_ = {cpu_engine(), dnnl::prop_kind::forward_training, direct, source, any(dims), bias_desc, target,
                window.strides, dilations, window.pads_begin, window.pads_end};
    by_weights_ = {cpu_engine(), direct, source, any(dims), bias_desc, target, window.strides, dilations,
                   window.pads_begin, window.pads_end, forward_};
    kernels = {std::string("forward: ") + forward_.impl_info_str(),
               std::string("weights: ") + by_weights_.impl_info_str()};
    if (x->wants_gradient) {
      by_data_ = {cpu_engine(), direct, source, any(dims), target, window.strides, dilations, window.pads_begin,
                  window.pads_end, forward_};
      kernels.push_back(std::string("data: ") + by_data_.impl_info_str());
    }
  }

  void bind() override {
    const memory source(forward_.src_desc(), cpu_engine(), x_.value->data);
    const memory target(forward_.dst_desc(), cpu_engine(), y_->data);
    const memory plain(plain_weights_, cpu_engine(), weights_.value->data);
    const memory weights = view_or_new(plain_weights_, forward_.weights_desc(), weights_.value->data);
    pack_forward_ = Reorder(plain, weights);
    run_forward_ = dnnl::convolution_forward(forward_);
    forward_arguments_ = {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, target}};
    if (bias_.value != nullptr) {
      forward_arguments_[DNNL_ARG_BIAS] = memory(forward_.bias_desc(), cpu_engine(), bias_.value->data);
    }
    const memory diff_target(by_weights_.diff_dst_desc(), cpu_engine(), y_->gradient);
    if (weights_.wanted()) {
      weights_gradient_ = GradientOut(plain_weights_, by_weights_.diff_weights_desc(), weights_);
      run_by_weights_ = dnnl::convolution_backward_weights(by_weights_);
      by_weights_arguments_ = {{DNNL_ARG_SRC, source},
                               {DNNL_ARG_DIFF_DST, diff_target},
                               {DNNL_ARG_DIFF_WEIGHTS, weights_gradient_.written()}};
      if (bias_.value != nullptr) {
        const auto desc = by_weights_.diff_bias_desc();
        bias_gradient_ = bias_.wanted() ? GradientOut(desc, desc, bias_) : GradientOut();
        by_weights_arguments_[DNNL_ARG_DIFF_BIAS] =
            bias_.wanted() ? bias_gradient_.written() : memory(desc, cpu_engine());
      }
    }
    if (x_.wanted()) {
      const memory weights_back = view_or_new(plain_weights_, by_data_.weights_desc(), weights_.value->data);
      pack_backward_ = Reorder(plain, weights_back);
      data_gradient_ = GradientOut(by_data_.diff_src_desc(), by_data_.diff_src_desc(), x_);
      run_by_data_ = dnnl::convolution_backward_data(by_data_);
      by_data_arguments_ = {{DNNL_ARG_DIFF_DST, diff_target},
                            {DNNL_ARG_WEIGHTS, weights_back},
                            {DNNL_ARG_DIFF_SRC, data_gradient_.written()}};
    }
  }

  void forward() override {
    pack_forward_.run(stream_);
    run_forward_.execute(stream_, forward_arguments_);
  }

  void backward() override {
    if (weights_.wanted()) {
      run_by_weights_.execute(stream_, by_weights_arguments_);
      weights_gradient_.finish(stream_);
      if (bias_.wanted()) bias_gradient_.finish(stream_);
    }
    if (x_.wanted()) {
      pack_backward_.run(stream_);
      run_by_data_.execute(stream_, by_data_arguments_);
      data_gradient_.finish(stream_);
    }
  }

  std::vector<Sink*> sinks() override { return {&x_, &weights_, &bias_}; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_, weights_, bias_;
  Value* y_;
  Window window_;
  dnnl::stream stream_;
  memory::desc plain_weights_;
  dnnl::convolution_forward::primitive_desc forward_;
  dnnl::convolution_backward_weights::primitive_desc by_weights_;
  dnnl::convolution_backward_data::primitive_desc by_data_;
  Reorder pack_forward_, pack_backward_;
  dnnl::convolution_forward run_forward_;
  dnnl::convolution_backward_weights run_by_weights_;
  dnnl::convolution_backward_data run_by_data_;
  std::unordered_map<int, memory> forward_arguments_, by_weights_arguments_, by_data_arguments_;
  GradientOut weights_gradient_, bias_gradient_, data_gradient_;
};

/// y = x · W + b.
///
/// Shapes:   x [rows, in], weights [in, out] (or [out, in] where transposed), bias [out] or none.
class Product final : public Op {
 public:
  Product(Value* x, Value* weights, Value* bias, Value* y, bool transposed)
      : x_{x}, weights_{weights}, bias_{bias}, y_(y), stream_(cpu_engine()) {
    in_ = weights->dim(transposed ? 1 : 0);
    out_ = weights->dim(transposed ? 0 : 1);
    rows_ = static_cast<std::int64_t>(x->count) / in_;
    const auto f32 = memory::data_type::f32;
    const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
      return memory::desc({rows, columns}, f32, memory::dims{columns, 1});
    };
    const auto flipped = [&](std::int64_t rows, std::int64_t columns) {
      return memory::desc({rows, columns}, f32, memory::dims{1, rows});
    };
    x_desc_ = matrix(rows_, in_);
    y_desc_ = matrix(rows_, out_);
    weights_desc_ = transposed ? flipped(in_, out_) : matrix(in_, out_);
    const memory::desc x_turned = flipped(in_, rows_);
    const memory::desc weights_turned = transposed ? matrix(out_, in_) : flipped(out_, in_);
    // dW as the weights lie: xᵀ·dy, or dyᵀ·x.
    gradient_desc_ = transposed ? matrix(out_, in_) : matrix(in_, out_);
    transposed_ = transposed;
    forward_ = {cpu_engine(), x_desc_, weights_desc_, y_desc_};
    by_data_ = {cpu_engine(), y_desc_, weights_turned, x_desc_};
    by_weights_ = transposed ? dnnl::matmul::primitive_desc(cpu_engine(), flipped(out_, rows_), x_desc_, gradient_desc_)
                             : dnnl::matmul::primitive_desc(cpu_engine(), x_turned, y_desc_, gradient_desc_);
    kernels = {std::string("forward: ") + forward_.impl_info_str(),
               std::string("weights: ") + by_weights_.impl_info_str(),
               std::string("data: ") + by_data_.impl_info_str()};
  }

  void bind() override {
    run_forward_ = dnnl::matmul(forward_);
    forward_arguments_ = {{DNNL_ARG_SRC, memory(forward_.src_desc(), cpu_engine(), x_.value->data)},
                          {DNNL_ARG_WEIGHTS, memory(forward_.weights_desc(), cpu_engine(), weights_.value->data)},
                          {DNNL_ARG_DST, memory(forward_.dst_desc(), cpu_engine(), y_->data)}};
    if (weights_.wanted()) {
      gradient_ = GradientOut(gradient_desc_, gradient_desc_, weights_);
      run_by_weights_ = dnnl::matmul(by_weights_);
      float* left = transposed_ ? y_->gradient : x_.value->data;
      float* right = transposed_ ? x_.value->data : y_->gradient;
      by_weights_arguments_ = {{DNNL_ARG_SRC, memory(by_weights_.src_desc(), cpu_engine(), left)},
                               {DNNL_ARG_WEIGHTS, memory(by_weights_.weights_desc(), cpu_engine(), right)},
                               {DNNL_ARG_DST, gradient_.written()}};
    }
    if (x_.wanted()) {
      data_gradient_ = GradientOut(x_desc_, x_desc_, x_);
      run_by_data_ = dnnl::matmul(by_data_);
      by_data_arguments_ = {
          {DNNL_ARG_SRC, memory(by_data_.src_desc(), cpu_engine(), y_->gradient)},
          {DNNL_ARG_WEIGHTS, memory(by_data_.weights_desc(), cpu_engine(), weights_.value->data)},
          {DNNL_ARG_DST, data_gradient_.written()}};
    }
  }

  void forward() override {
    run_forward_.execute(stream_, forward_arguments_);
    if (bias_.value == nullptr) return;
    const auto n = static_cast<std::size_t>(out_);
    for (std::int64_t r = 0; r < rows_; ++r) loops::copy(bias_.value->data, n, y_->data + r * out_, true);
  }

  void backward() override {
    if (bias_.wanted()) {
      const auto n = static_cast<std::size_t>(out_);
      for (std::int64_t r = 0; r < rows_; ++r) {
        loops::copy(y_->gradient + r * out_, n, bias_.to(), bias_.accumulate || r > 0);
      }
    }
    if (weights_.wanted()) {
      run_by_weights_.execute(stream_, by_weights_arguments_);
      gradient_.finish(stream_);
    }
    if (x_.wanted()) {
      run_by_data_.execute(stream_, by_data_arguments_);
      data_gradient_.finish(stream_);
    }
  }

  std::vector<Sink*> sinks() override { return {&x_, &weights_, &bias_}; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_, weights_, bias_;
  Value* y_;
  dnnl::stream stream_;
  std::int64_t rows_ = 0, in_ = 0, out_ = 0;
  bool transposed_ = false;
  memory::desc x_desc_, y_desc_, weights_desc_, gradient_desc_;
  dnnl::matmul::primitive_desc forward_, by_data_, by_weights_;
  dnnl::matmul run_forward_, run_by_data_, run_by_weights_;
  std::unordered_map<int, memory> forward_arguments_, by_weights_arguments_, by_data_arguments_;
  GradientOut gradient_, data_gradient_;
};

/// What a layer reads: rounded to bf16 where it runs so.
Value* layer_input(Network& network, const Node& node, Value* x) {
  if (node.text("kerf_precision", "") != "bf16") return x;
  Value* rounded = network.make(x->dims, x->layout, x->wants_gradient);
  network.add(make_bf16_rounding(x, rounded, network.threads()));
  return rounded;
}

Result<void> add_conv(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0, Layout::kChannelsLast));
  if (x->dims.size() < 3 || x->dims.size() > 5) return no_gradient(node, "an input of rank " + std::to_string(x->dims.size()));
  KERF_ASSIGN(Value * weights, network.parameter(node, 1));
  Value* bias = nullptr;
  if (node.has_input(2)) {
    KERF_ASSIGN(bias, network.parameter(node, 2));
  }
  KERF_ASSIGN(const Window window, conv_window(node, x->dims, weights->dims));
  Shape dims{x->dim(0), weights->dim(0)};
  dims.insert(dims.end(), window.output.begin(), window.output.end());
  Value* y = network.make(dims, Layout::kChannelsLast, true);
  try {
    network.add(std::make_unique<Convolution>(layer_input(network, node, x), weights, bias, y, window));
  } catch (const dnnl::error& e) {
    return no_gradient(node, std::string("oneDNN has no kernel for it (") + e.what() + ")");
  }
  network.set(node.outputs[0], y);
  return {};
}

Result<void> add_product(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0, Layout::kPlain));
  KERF_ASSIGN(Value * weights, network.parameter(node, 1));
  const bool gemm = node.op == "Gemm";
  if (weights->dims.size() != 2 || x->dims.size() < 2 || (gemm && node.integer("transA", 0) != 0) ||
      (gemm && (node.real("alpha", 1.0F) != 1.0F || (node.has_input(2) && node.real("beta", 1.0F) != 1.0F)))) {
    return no_gradient(node, "only a 2-D constant on the right, without transA, alpha and beta");
  }
  const bool transposed = gemm && node.integer("transB", 0) != 0;
  const std::int64_t out = weights->dim(transposed ? 0 : 1);
  Value* bias = nullptr;
  if (node.has_input(2)) {
    KERF_ASSIGN(bias, network.parameter(node, 2));
    if (static_cast<std::int64_t>(bias->count) != out || bias->dims.empty() || bias->dims.back() != out) {
      return no_gradient(node, "a bias of shape " + graph::to_string(bias->dims));
    }
  }
  Shape dims = x->dims;
  dims.back() = out;
  Value* y = network.make(dims, Layout::kPlain, true);
  try {
    network.add(std::make_unique<Product>(layer_input(network, node, x), weights, bias, y, transposed));
  } catch (const dnnl::error& e) {
    return no_gradient(node, std::string("oneDNN has no kernel for it (") + e.what() + ")");
  }
  network.set(node.outputs[0], y);
  return {};
}

}  // namespace

Result<bool> add_layer(Network& network, const Node& node) {
  if (node.op == "Conv") {
    KERF_TRY(add_conv(network, node));
    return true;
  }
  if (node.op == "Gemm" || node.op == "MatMul") {
    KERF_TRY(add_product(network, node));
    return true;
  }
  return false;
}

}  // namespace kerf::engine::training
