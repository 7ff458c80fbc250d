// Functions of one value, rounding, and BatchNormalization.
#include <cmath>
#include <limits>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/training/loops.h"
#include "workers/engine/training/network.h"

namespace kerf::engine::training {

using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

constexpr std::size_t kPiece = 16384;

/// Calls f(begin, count) for pieces of n elements, on the team.
template <class F>
void in_pieces(std::size_t n, int threads, F&& f) {
  parallel_for((n + kPiece - 1) / kPiece, kPiece, threads, [&](std::size_t i) {
    f(i * kPiece, n - i * kPiece < kPiece ? n - i * kPiece : kPiece);
  });
}

/// y = f(x), element by element.
class Function final : public Op {
 public:
  Function(loops::Unary op, float a, float b, Value* x, Value* y, int threads)
      : op_(op), a_(a), b_(b), x_{x}, y_(y), threads_(threads) {}

  void forward() override {
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::unary_forward(op_, a_, b_, x_.value->data + i, n, y_->data + i);
    });
  }
  void backward() override {
    if (!x_.wanted()) return;
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::unary_backward(op_, a_, b_, x_.value->data + i, y_->data + i, y_->gradient + i, n, x_.to() + i,
                            x_.accumulate);
    });
  }
  std::vector<Sink*> sinks() override { return {&x_}; }
  Sink* in_place() override { return &x_; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  loops::Unary op_;
  float a_, b_;
  Sink x_;
  Value* y_;
  int threads_;
};

/// What a QuantizeLinear and a DequantizeLinear make of a value.
class Rounding final : public Op {
 public:
  Rounding(Value* x, Value* y, float scale, float zero, float low, float high, int threads)
      : x_{x}, y_(y), scale_(scale), zero_(zero), low_(low), high_(high), threads_(threads) {}

  void forward() override {
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::round_forward(x_.value->data + i, n, scale_, zero_, low_, high_, y_->data + i);
    });
  }
  void backward() override {
    if (!x_.wanted()) return;
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::round_backward(x_.value->data + i, y_->gradient + i, n, scale_, zero_, low_, high_, x_.to() + i,
                            x_.accumulate);
    });
  }
  std::vector<Sink*> sinks() override { return {&x_}; }
  Sink* in_place() override { return &x_; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_;
  Value* y_;
  float scale_, zero_, low_, high_;
  int threads_;
};

/// What is read as signs, times their scale.
class Signs final : public Op {
 public:
  Signs(Value* x, Value* y, float scale, int threads) : x_{x}, y_(y), scale_(scale), threads_(threads) {}

  void forward() override {
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::sign_forward(x_.value->data + i, n, scale_, y_->data + i);
    });
  }
  void backward() override {
    if (!x_.wanted()) return;
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::sign_backward(x_.value->data + i, y_->gradient + i, n, scale_, x_.to() + i, x_.accumulate);
    });
  }
  std::vector<Sink*> sinks() override { return {&x_}; }
  Sink* in_place() override { return &x_; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_;
  Value* y_;
  float scale_;
  int threads_;
};

class Bf16Rounding final : public Op {
 public:
  Bf16Rounding(Value* x, Value* y, int threads) : x_{x}, y_(y), threads_(threads) {}

  void forward() override {
    in_pieces(y_->count, threads_, [&](std::size_t i, std::size_t n) {
      loops::round_bf16(x_.value->data + i, n, y_->data + i);
    });
  }
  void backward() override {
    if (x_.wanted() && x_.to() != y_->gradient) loops::copy(y_->gradient, y_->count, x_.to(), x_.accumulate);
  }
  std::vector<Sink*> sinks() override { return {&x_}; }
  Sink* in_place() override { return &x_; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  Sink x_;
  Value* y_;
  int threads_;
};

/// y = (x − mean) / sqrt(var + ε) · scale + bias, per channel, with statistics that stay.
///
/// Shapes:   x, y: rows of channels in memory (channels-last, or rank 2).
class Normalization final : public Op {
 public:
  Normalization(Value* x, Value* scale, Value* bias, Value* y, std::vector<float> mean, std::vector<float> inverse)
      : x_{x}, scale_{scale}, bias_{bias}, y_(y), mean_(std::move(mean)), inverse_(std::move(inverse)),
        factor_(mean_.size()), shift_(mean_.size()), sums_(mean_.size()), products_(mean_.size()) {}

  void forward() override {
    const std::size_t n = mean_.size();
    refresh();
    for (std::size_t i = 0; i < y_->count; i += n) {
      loops::multiply_add(x_.value->data + i, factor_.data(), shift_.data(), n, y_->data + i);
    }
  }
  void backward() override {
    const std::size_t n = mean_.size();
    std::fill(sums_.begin(), sums_.end(), 0.0F);
    std::fill(products_.begin(), products_.end(), 0.0F);
    for (std::size_t i = 0; i < y_->count; i += n) {
      loops::copy(y_->gradient + i, n, sums_.data(), true);
      loops::multiply(y_->gradient + i, x_.value->data + i, n, products_.data(), true);
    }
    for (std::size_t c = 0; c < n; ++c) products_[c] = (products_[c] - mean_[c] * sums_[c]) * inverse_[c];
    if (scale_.wanted()) loops::copy(products_.data(), n, scale_.to(), scale_.accumulate);
    if (bias_.wanted()) loops::copy(sums_.data(), n, bias_.to(), bias_.accumulate);
    if (!x_.wanted()) return;
    for (std::size_t i = 0; i < y_->count; i += n) {
      loops::multiply(y_->gradient + i, factor_.data(), n, x_.to() + i, x_.accumulate);
    }
  }
  std::vector<Sink*> sinks() override { return {&x_, &scale_, &bias_}; }
  [[nodiscard]] Value* output() const override { return y_; }

 private:
  void refresh() {
    for (std::size_t c = 0; c < mean_.size(); ++c) {
      factor_[c] = scale_.value->data[c] * inverse_[c];
      shift_[c] = bias_.value->data[c] - mean_[c] * factor_[c];
    }
  }
  Sink x_, scale_, bias_;
  Value* y_;
  std::vector<float> mean_, inverse_, factor_, shift_, sums_, products_;
};

struct Described {
  loops::Unary op;
  float a = 0, b = 0;
};

Result<float> scalar(const Network& network, const Node& node, std::size_t input, float fallback) {
  if (!node.has_input(input)) return fallback;
  const Tensor* constant = network.graph().constant(node.inputs[input]);
  if (constant == nullptr || constant->elements() != 1) return no_gradient(node, "a bound that isn't constant");
  return constant->to_floats()[0];
}

Result<std::optional<Described>> describe(const Network& network, const Node& node) {
  using U = loops::Unary;
  const auto some = [](U op, float a = 0, float b = 0) { return std::optional<Described>({op, a, b}); };
  if (node.op == "Relu") return some(U::kRelu);
  if (node.op == "LeakyRelu") return some(U::kRelu, node.real("alpha", 0.01F));
  if (node.op == "Clip") {
    KERF_ASSIGN(const float low, scalar(network, node, 1, std::numeric_limits<float>::lowest()));
    KERF_ASSIGN(const float high, scalar(network, node, 2, std::numeric_limits<float>::max()));
    return some(U::kClip, low, high);
  }
  if (node.op == "HardSigmoid") return some(U::kHardSigmoid, node.real("alpha", 0.2F), node.real("beta", 0.5F));
  if (node.op == "HardSwish") return some(U::kHardSwish);
  if (node.op == "Sigmoid") return some(U::kSigmoid);
  if (node.op == "kerf_Swish") return some(U::kSwish);
  if (node.op == "Tanh") return some(U::kTanh);
  if (node.op == "Gelu") return some(node.text("approximate", "none") == "tanh" ? U::kGeluTanh : U::kGelu);
  if (node.op == "Erf") return some(U::kErf);
  if (node.op == "Elu") return some(U::kElu, node.real("alpha", 1.0F));
  if (node.op == "Softplus") return some(U::kSoftplus);
  if (node.op == "Abs") return some(U::kAbsolute);
  if (node.op == "Neg") return some(U::kNegate);
  if (node.op == "Exp") return some(U::kExponential);
  if (node.op == "Sqrt") return some(U::kSquareRoot);
  return std::optional<Described>();
}

/// Sign, and behind it QuantizeLinear and DequantizeLinear, which carry the scale: one op for all.
Result<void> add_signs(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0));
  const graph::Graph& graph = network.graph();
  const Tensor* scale = nullptr;
  for (const Node* quantize : graph.consumers(node.outputs[0])) {
    for (const Node* dequantize : graph.consumers(quantize->outputs[0])) {
      const Tensor* found = dequantize->op == "DequantizeLinear" ? graph.constant(dequantize->inputs[1]) : nullptr;
      if (quantize->op != "QuantizeLinear" || found == nullptr || (scale != nullptr && found != scale)) {
        return no_gradient(node, "only signs with one scale behind them");
      }
      scale = found;
    }
  }
  if (scale == nullptr || scale->elements() != 1) return no_gradient(node, "only signs with one scale behind them");
  Value* y = network.make(x->dims, x->layout, x->wants_gradient);
  y->rounded = true;
  network.add(std::make_unique<Signs>(x, y, scale->to_floats()[0], network.threads()));
  network.set(node.outputs[0], y);
  return {};
}

Result<void> add_rounding(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0));
  if (x->rounded) {
    network.set(node.outputs[0], x);
    return {};
  }
  const graph::Graph& graph = network.graph();
  const Tensor* scale = graph.constant(node.inputs[1]);
  const Tensor* zero = node.has_input(2) ? graph.constant(node.inputs[2]) : nullptr;
  if (scale == nullptr || scale->elements() != 1 || zero == nullptr || zero->elements() != 1) {
    return no_gradient(node, "only one constant scale and zero point for the whole value");
  }
  const bool is_signed = zero->dtype() == graph::DType::kS8;
  if (!is_signed && zero->dtype() != graph::DType::kU8) return no_gradient(node, "only to 8 bits");
  const auto zero_point = static_cast<float>(zero->to_integers()[0]);
  Value* y = network.make(x->dims, x->layout, x->wants_gradient);
  network.add(std::make_unique<Rounding>(x, y, scale->to_floats()[0], zero_point, is_signed ? -128.0F : 0.0F,
                                         is_signed ? 127.0F : 255.0F, network.threads()));
  network.set(node.outputs[0], y);
  return {};
}

Result<void> add_normalization(Network& network, const Node& node) {
  KERF_ASSIGN(Value * x, network.value(node, 0, Layout::kChannelsLast));
  if (x->dims.size() < 2 || node.integer("training_mode", 0) != 0) return no_gradient(node, "only in inference form");
  KERF_ASSIGN(Value * scale, network.parameter(node, 1));
  KERF_ASSIGN(Value * bias, network.parameter(node, 2));
  std::vector<std::vector<float>> statistics;
  for (const std::size_t i : {3U, 4U}) {
    KERF_ASSIGN(const Value* constant, network.value(node, i));
    statistics.emplace_back(constant->data, constant->data + constant->count);
  }
  const auto channels = static_cast<std::size_t>(x->dim(1));
  if (scale->count != channels || bias->count != channels || statistics[0].size() != channels ||
      statistics[1].size() != channels) {
    return no_gradient(node, "its constants don't have one element a channel");
  }
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  for (float& variance : statistics[1]) {
    variance = static_cast<float>(1.0 / std::sqrt(static_cast<double>(variance) + epsilon));
  }
  Value* y = network.make(x->dims, Layout::kChannelsLast, true);
  network.add(std::make_unique<Normalization>(x, scale, bias, y, statistics[0], statistics[1]));
  network.set(node.outputs[0], y);
  return {};
}

}  // namespace

std::unique_ptr<Op> make_bf16_rounding(Value* from, Value* to, int threads) {
  return std::make_unique<Bf16Rounding>(from, to, threads);
}

Result<bool> add_pointwise(Network& network, const Node& node) {
  if (node.op == "Sign") {
    KERF_TRY(add_signs(network, node));
    return true;
  }
  if (node.op == "QuantizeLinear") {
    KERF_TRY(add_rounding(network, node));
    return true;
  }
  if (node.op == "DequantizeLinear" || node.op == "Identity" || node.op == "Dropout") {
    // A QuantizeLinear gives the values that its integers stand for.
    KERF_ASSIGN(Value * x, network.value(node, 0));
    network.set(node.outputs[0], x);
    return true;
  }
  if (node.op == "BatchNormalization") {
    KERF_TRY(add_normalization(network, node));
    return true;
  }
  KERF_ASSIGN(const auto described, describe(network, node));
  if (!described) return false;
  KERF_ASSIGN(Value * x, network.value(node, 0));
  Value* y = network.make(x->dims, x->layout, x->wants_gradient);
  network.add(std::make_unique<Function>(described->op, described->a, described->b, x, y, network.threads()));
  network.set(node.outputs[0], y);
  return true;
}

}  // namespace kerf::engine::training
