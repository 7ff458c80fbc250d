// Operators on integers (QLinearConv and its kin, com.microsoft's as ONNX Runtime's quantizer
// writes them) become DequantizeLinear, the plain op, QuantizeLinear: one form for the engine.
#include "workers/onnx/canonical.h"
#include "workers/onnx/tensor_reader.h"

namespace kerf::onnx {
namespace {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Builds the chain around one quantized node.
class Lowering {
 public:
  Lowering(Canonicalizer& c, const Node& node) : c_(c), node_(node) {}

  /// DequantizeLinear of input `x` with scale at `scale`, zero point at `zero`; the value's name.
  Result<std::string> dequantize(std::size_t x, std::size_t scale, std::size_t zero,
                                 std::int64_t axis = 0) {
    KERF_TRY(c_.input(node_, x));
    Node dq{c_.fresh(node_.name + "/dequantize" + std::to_string(x)),
            "DequantizeLinear",
            "",
            {node_.inputs[x]},
            {c_.fresh(node_.inputs[x] + "/f32")},
            {}};
    KERF_TRY(add_parameters(dq, scale, zero, axis));
    std::string value = dq.outputs[0];
    KERF_TRY(c_.emit(std::move(dq)));
    return value;
  }

  /// The plain op, then QuantizeLinear into the node's output.
  Result<void> finish(Node plain, std::size_t scale, std::size_t zero) {
    if (node_.outputs.size() != 1) return node_error(node_, "needs one output");
    plain.domain.clear();
    plain.outputs = {c_.fresh(node_.outputs[0] + "/f32")};
    Node q{c_.fresh(node_.name + "/quantize"),
           "QuantizeLinear",
           "",
           {plain.outputs[0]},
           node_.outputs,
           {}};
    KERF_TRY(add_parameters(q, scale, zero, 0));
    KERF_TRY(c_.emit(std::move(plain)));
    return c_.emit(std::move(q));
  }

 private:
  Result<void> add_parameters(Node& to, std::size_t scale, std::size_t zero, std::int64_t axis) {
    KERF_ASSIGN(const graph::shapes::Value* s, c_.input(node_, scale));
    const bool single = graph::element_count(s->shape) == 1;
    to.inputs.push_back(single ? scalar(scale, "scale") : node_.inputs[scale]);
    if (node_.has_input(zero)) {
      to.inputs.push_back(single ? scalar(zero, "zero_point") : node_.inputs[zero]);
    }
    if (!single) to.attributes["axis"] = axis;
    return {};
  }

  /// A constant of shape [1] means the same as a scalar here, and only that broadcasts always.
  std::string scalar(std::size_t i, const char* what) {
    const Tensor* given = c_.constant_input(node_, i);
    if (given == nullptr || given->rank() == 0 || given->elements() != 1) return node_.inputs[i];
    return c_.constant(node_, what, given->reshaped({}));
  }

  Canonicalizer& c_;
  const Node& node_;
};

Error arity(const Node& node) {
  return node_error(
      node, "has " + std::to_string(node.inputs.size()) + " inputs, which doesn't fit the op");
}

/// An s32 bias as f32: values times scale of input times scale of weights.
Result<std::string> bias(Canonicalizer& c, const Node& node, std::size_t at, std::size_t x_scale,
                         std::size_t w_scale) {
  const Tensor* values = c.constant_input(node, at);
  const Tensor* xs = c.constant_input(node, x_scale);
  const Tensor* ws = c.constant_input(node, w_scale);
  if (values == nullptr || xs == nullptr || ws == nullptr || xs->elements() != 1 ||
      values->dtype() != DType::kS32 || values->rank() == 0 || values->dim(values->rank() - 1) != values->elements() ||
      (ws->elements() != 1 && ws->elements() != values->elements())) {
    return node_unsupported(node, "bias and scales must be constants that fit each other");
  }
  const auto integers = values->as<std::int32_t>();
  const auto scales = ws->to_floats();
  std::vector<float> out;
  for (std::size_t i = 0; i < integers.size(); ++i) {
    out.push_back(static_cast<float>(static_cast<double>(integers[i]) * xs->to_floats()[0] *
                                     scales[scales.size() == 1 ? 0 : i]));
  }
  return c.constant(node, "bias", Tensor::f32({values->elements()}, out));
}

Result<void> qlinear_conv(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 8 || node.inputs.size() > 9) return arity(node);
  Lowering lower(c, node);
  KERF_ASSIGN(std::string x, lower.dequantize(0, 1, 2));
  KERF_ASSIGN(std::string w, lower.dequantize(3, 4, 5, 0));
  Node conv = node;
  conv.op = "Conv";
  conv.inputs = {x, w};
  if (node.has_input(8)) {
    KERF_ASSIGN(std::string b, bias(c, node, 8, 1, 4));
    conv.inputs.push_back(std::move(b));
  }
  return lower.finish(std::move(conv), 6, 7);
}

Result<void> qlinear_matmul(Canonicalizer& c, Node node) {
  if (node.inputs.size() != 8) return arity(node);
  Lowering lower(c, node);
  KERF_ASSIGN(const graph::shapes::Value* a, c.input(node, 0));
  const auto a_rank = static_cast<std::int64_t>(a->shape.size());
  KERF_ASSIGN(const graph::shapes::Value* b, c.input(node, 3));
  const auto b_rank = static_cast<std::int64_t>(b->shape.size());
  KERF_ASSIGN(std::string left, lower.dequantize(0, 1, 2, a_rank - 2));
  KERF_ASSIGN(std::string right, lower.dequantize(3, 4, 5, b_rank - 1));
  Node product = node;
  product.op = "MatMul";
  product.inputs = {left, right};
  return lower.finish(std::move(product), 6, 7);
}

/// QGemm(A, As, Az, B, Bs, Bz, C?, Ys?, Yz?); without Ys the result is f32.
Result<void> qgemm(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 6 || node.inputs.size() > 9) return arity(node);
  Lowering lower(c, node);
  const bool turned = node.integer("transB", 0) != 0;
  KERF_ASSIGN(std::string a, lower.dequantize(0, 1, 2));
  KERF_ASSIGN(std::string b, lower.dequantize(3, 4, 5, turned ? 0 : 1));
  Node gemm = node;
  gemm.op = "Gemm";
  gemm.domain.clear();
  gemm.inputs = {a, b};
  if (node.has_input(6)) {
    if (node.real("alpha", 1.0F) != 1.0F)
      return node_unsupported(node, "alpha other than 1 with a bias is not supported");
    KERF_ASSIGN(std::string sum, bias(c, node, 6, 1, 4));
    gemm.inputs.push_back(std::move(sum));
  }
  if (!node.has_input(7)) return c.emit(std::move(gemm));
  return lower.finish(std::move(gemm), 7, 8);
}

/// Op(A, As, Az, B, Bs, Bz, Ys, Yz).
Result<void> qlinear_binary(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 7 || node.inputs.size() > 8) return arity(node);
  Lowering lower(c, node);
  KERF_ASSIGN(std::string a, lower.dequantize(0, 1, 2));
  KERF_ASSIGN(std::string b, lower.dequantize(3, 4, 5));
  Node plain = node;
  plain.op = node.op.substr(std::string("QLinear").size());
  plain.inputs = {a, b};
  return lower.finish(std::move(plain), 6, 7);
}

/// Op(X, Xs, Xz, Ys, Yz).
Result<void> qlinear_unary(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 4 || node.inputs.size() > 5) return arity(node);
  if (node.integer("channels_last", 0) != 0)
    return node_unsupported(node, "channels_last = 1 is not supported");
  Lowering lower(c, node);
  KERF_ASSIGN(std::string x, lower.dequantize(0, 1, 2));
  Node plain = node;
  plain.op = node.op.substr(std::string("QLinear").size());
  plain.inputs = {x};
  plain.attributes.erase("channels_last");
  if (plain.op == "Softmax") {
    if (node.integer("opset", 13) < 13)
      return node_unsupported(node, "Softmax of an opset before 13 is not supported");
    plain.attributes.erase("opset");
  }
  return lower.finish(std::move(plain), 3, 4);
}

/// QLinearConcat(Ys, Yz, X0, X0s, X0z, X1, …).
Result<void> qlinear_concat(Canonicalizer& c, Node node) {
  if (node.inputs.size() < 5 || (node.inputs.size() - 2) % 3 != 0) return arity(node);
  Lowering lower(c, node);
  Node plain = node;
  plain.op = "Concat";
  plain.inputs.clear();
  for (std::size_t i = 2; i < node.inputs.size(); i += 3) {
    KERF_ASSIGN(std::string x, lower.dequantize(i, i + 1, i + 2));
    plain.inputs.push_back(std::move(x));
  }
  return lower.finish(std::move(plain), 0, 1);
}

/// QuantizeLinear and DequantizeLinear of any opset and of com.microsoft.
Result<void> quantize_or_back(Canonicalizer& c, Node node) {
  node.domain.clear();
  node.attributes.erase("saturate");
  node.attributes.erase("precision");
  if (const std::int64_t code = node.integer("output_dtype", 0); code != 0) {
    if (node.op == "DequantizeLinear") {
      const auto to = dtype_of(static_cast<std::int32_t>(code));
      if (!to || canonical_dtype(*to) != DType::kF32)
        return node_unsupported(node, "output_dtype is not supported");
    } else if (!node.has_input(2)) {
      const auto to = dtype_of(static_cast<std::int32_t>(code));
      KERF_ASSIGN(const graph::shapes::Value* scale, c.input(node, 1));
      if (!to || graph::shapes::is_float(*to) || !graph::element_count(scale->shape)) {
        return node_unsupported(node, "output_dtype " + std::to_string(code) + " is not supported");
      }
      node.inputs.resize(2);
      node.inputs.push_back(c.constant(node, "zero_point", Tensor(*to, scale->shape)));
    }
    node.attributes.erase("output_dtype");
  }
  if (node.integer("block_size", 0) == 0) node.attributes.erase("block_size");
  return c.emit(std::move(node));
}

}  // namespace

void add_quantized_rules(CanonicalRules& rules) {
  rules["QLinearConv"] = qlinear_conv;
  rules["QLinearMatMul"] = qlinear_matmul;
  rules["com.microsoft.QLinearConv"] = qlinear_conv;
  rules["com.microsoft.QGemm"] = qgemm;
  for (const char* op : {"QLinearAdd", "QLinearMul"})
    rules[std::string("com.microsoft.") + op] = qlinear_binary;
  for (const char* op : {"QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
                         "QLinearSigmoid", "QLinearSoftmax"}) {
    rules[std::string("com.microsoft.") + op] = qlinear_unary;
  }
  rules["com.microsoft.QLinearConcat"] = qlinear_concat;
  for (const char* op : {"QuantizeLinear", "DequantizeLinear"}) {
    rules[op] = quantize_or_back;
    rules[std::string("com.microsoft.") + op] = quantize_or_back;
  }
}

}  // namespace kerf::onnx
