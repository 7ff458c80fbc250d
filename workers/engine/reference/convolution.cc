// Conv, ConvTranspose, ConvInteger over any number of spatial axes.
#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// One output element's window: calls f(input offset, kernel offset) for the taps inside the input.
template <class F>
void taps(const Window& w, const Shape& out_index, F&& f) {
  const std::size_t n = w.kernel.size();
  Shape tap(n, 0);
  while (true) {
    std::int64_t in_offset = 0;
    std::int64_t kernel_offset = 0;
    bool inside = true;
    for (std::size_t i = 0; i < n; ++i) {
      const std::int64_t at =
          out_index[i] * w.strides[i] + tap[i] * w.dilations[i] - w.pads_begin[i];
      inside = inside && at >= 0 && at < w.input[i];
      in_offset = in_offset * w.input[i] + at;
      kernel_offset = kernel_offset * w.kernel[i] + tap[i];
    }
    if (inside) f(in_offset, kernel_offset);
    std::size_t axis = n;
    while (axis-- > 0) {
      if (++tap[axis] < w.kernel[axis]) break;
      tap[axis] = 0;
    }
    if (axis == static_cast<std::size_t>(-1)) return;
  }
}

std::int64_t product(const Shape& shape) {
  std::int64_t p = 1;
  for (const std::int64_t extent : shape) p *= extent;
  return p;
}

/// acc[n, oc, out] = sum over taps of (x - x_zero) * (w - w_zero[oc]).
template <class Acc, class X, class W, class Out>
void convolve(const Window& w, std::span<const X> x, std::span<const W> weights, std::int64_t batch,
              std::int64_t ic, std::int64_t oc, std::int64_t x_zero,
              const std::vector<std::int64_t>& w_zero, std::span<Out> out) {
  const std::int64_t in_size = product(w.input);
  const std::int64_t out_size = product(w.output);
  const std::int64_t kernel_size = product(w.kernel);
  const std::int64_t icg = ic / w.groups;
  const std::int64_t ocg = oc / w.groups;
  Shape index(w.output.size(), 0);
  for (std::int64_t p = 0; p < out_size; ++p) {
    std::int64_t rest = p;
    for (std::size_t i = index.size(); i-- > 0;) {
      index[i] = rest % w.output[i];
      rest /= w.output[i];
    }
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
    taps(w, index, [&](std::int64_t a, std::int64_t b) { pairs.emplace_back(a, b); });
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t o = 0; o < oc; ++o) {
        Acc sum{};
        const auto zero = static_cast<Acc>(w_zero[w_zero.size() == 1 ? 0 : static_cast<std::size_t>(o)]);
        for (std::int64_t i = 0; i < icg; ++i) {
          const std::int64_t from = (n * ic + o / ocg * icg + i) * in_size;
          const std::int64_t with = (o * icg + i) * kernel_size;
          for (const auto& [a, b] : pairs) {
            sum += (static_cast<Acc>(x[static_cast<std::size_t>(from + a)]) - static_cast<Acc>(x_zero)) *
                   (static_cast<Acc>(weights[static_cast<std::size_t>(with + b)]) - zero);
          }
        }
        out[static_cast<std::size_t>((n * oc + o) * out_size + p)] = static_cast<Out>(sum);
      }
    }
  }
}

Shape output_shape(const Window& w, std::int64_t batch, std::int64_t channels) {
  Shape shape{batch, channels};
  shape.insert(shape.end(), w.output.begin(), w.output.end());
  return shape;
}

Result<void> add_bias(const Node& node, const Tensor& bias, Tensor& out) {
  if (bias.dtype() != DType::kF32 || bias.elements() != out.dim(1)) {
    return bad(node, "bias " + graph::to_string(bias.shape()) + " for " +
                         std::to_string(out.dim(1)) + " channels");
  }
  const auto b = bias.as<float>();
  const auto to = out.mutable_as<float>();
  const std::size_t channels = b.size();
  const std::size_t size = to.size() / channels / static_cast<std::size_t>(out.dim(0));
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += b[i / size % channels];
  return {};
}

Outputs conv(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const Tensor& weights = inputs[1];
  KERF_ASSIGN(const Window w, conv_window(node, x.shape(), weights.shape()));
  if (x.dtype() != DType::kF32 || weights.dtype() != DType::kF32) return bad(node, "expected f32");
  Tensor out(DType::kF32, output_shape(w, x.dim(0), weights.dim(0)));
  if (out.elements() == 0) return std::vector<Tensor>{std::move(out)};
  convolve<double>(w, x.as<float>(), weights.as<float>(), x.dim(0), x.dim(1), weights.dim(0), 0,
                   {0}, out.mutable_as<float>());
  if (given(inputs, 2)) KERF_TRY(add_bias(node, inputs[2], out));
  return std::vector<Tensor>{std::move(out)};
}

Outputs conv_integer(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const Tensor& weights = inputs[1];
  KERF_ASSIGN(const Window w, conv_window(node, x.shape(), weights.shape()));
  Tensor out(DType::kS32, output_shape(w, x.dim(0), weights.dim(0)));
  const std::int64_t x_zero = given(inputs, 2) ? inputs[2].to_integers().at(0) : 0;
  std::vector<std::int64_t> w_zero{0};
  if (given(inputs, 3)) w_zero = inputs[3].to_integers();
  if (w_zero.size() != 1 && static_cast<std::int64_t>(w_zero.size()) != weights.dim(0)) {
    return bad(node, "weights' zero points don't fit the output channels");
  }
  const std::vector<std::int64_t> xi = x.to_integers();
  const std::vector<std::int64_t> wi = weights.to_integers();
  convolve<std::int64_t>(w, std::span(xi), std::span(wi), x.dim(0), x.dim(1), weights.dim(0),
                         x_zero, w_zero, out.mutable_as<std::int32_t>());
  return std::vector<Tensor>{std::move(out)};
}

Outputs conv_transpose(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const Tensor& weights = inputs[1];
  KERF_ASSIGN(const Window w, transposed_window(node, x.shape(), weights.shape()));
  if (x.dtype() != DType::kF32 || weights.dtype() != DType::kF32) return bad(node, "expected f32");
  const std::int64_t ic = x.dim(1);
  const std::int64_t ocg = weights.dim(1);
  const std::int64_t oc = ocg * w.groups;
  const std::int64_t icg = ic / w.groups;
  Tensor out(DType::kF32, output_shape(w, x.dim(0), oc));
  const std::int64_t in_size = product(w.input);
  const std::int64_t out_size = product(w.output);
  const std::int64_t kernel_size = product(w.kernel);
  std::vector<double> sums(static_cast<std::size_t>(out.elements()));
  const auto xs = x.as<float>();
  const auto ws = weights.as<float>();
  for (std::int64_t p = 0; p < in_size; ++p) {
    for (std::int64_t k = 0; k < kernel_size; ++k) {
      std::int64_t rest_p = p;
      std::int64_t rest_k = k;
      std::int64_t at = 0;
      std::int64_t step = 1;
      bool inside = true;
      for (std::size_t i = w.input.size(); i-- > 0;) {
        const std::int64_t o = rest_p % w.input[i] * w.strides[i] +
                               rest_k % w.kernel[i] * w.dilations[i] - w.pads_begin[i];
        inside = inside && o >= 0 && o < w.output[i];
        at += o * step;
        step *= w.output[i];
        rest_p /= w.input[i];
        rest_k /= w.kernel[i];
      }
      if (!inside) continue;
      for (std::int64_t n = 0; n < x.dim(0); ++n) {
        for (std::int64_t i = 0; i < ic; ++i) {
          const double v = static_cast<double>(xs[static_cast<std::size_t>((n * ic + i) * in_size + p)]);
          for (std::int64_t o = 0; o < ocg; ++o) {
            sums[static_cast<std::size_t>((n * oc + i / icg * ocg + o) * out_size + at)] +=
                v * static_cast<double>(ws[static_cast<std::size_t>((i * ocg + o) * kernel_size + k)]);
          }
        }
      }
    }
  }
  const auto to = out.mutable_as<float>();
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(sums[i]);
  if (given(inputs, 2)) KERF_TRY(add_bias(node, inputs[2], out));
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_convolution(Registry& registry) {
  registry["Conv"] = conv;
  registry["ConvInteger"] = conv_integer;
  registry["ConvTranspose"] = conv_transpose;
}

}  // namespace kerf::engine::reference
