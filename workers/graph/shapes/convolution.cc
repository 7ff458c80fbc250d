// Convolutions and pooling: everything that slides a window over [N, C, D1, D2, …].
#include "workers/graph/shapes/call.h"

#include <algorithm>

namespace kerf::graph::shapes {
namespace {

constexpr std::int64_t kMaxWindow = 1LL << 31U;

struct Window {
  std::vector<std::int64_t> kernel, strides, dilations, pads;
  std::string auto_pad;
};

Result<Window> read_window(const Call& call, std::size_t dims, std::vector<std::int64_t> kernel) {
  const Node& node = call.node;
  const std::vector<std::int64_t> ones(dims, 1);
  Window w{std::move(kernel), node.integers("strides", ones), node.integers("dilations", ones),
           node.integers("pads", std::vector<std::int64_t>(2 * dims, 0)),
           node.text("auto_pad", "NOTSET")};
  if (w.strides.size() != dims || w.dilations.size() != dims || w.pads.size() != 2 * dims ||
      w.kernel.size() != dims) {
    return call.fail("kernel_shape, strides and dilations need " + std::to_string(dims) +
                     " values and pads " + std::to_string(2 * dims));
  }
  for (std::size_t i = 0; i < dims; ++i) {
    if (w.kernel[i] < 1 || w.kernel[i] > kMaxWindow || w.strides[i] < 1 ||
        w.strides[i] > kMaxWindow || w.dilations[i] < 1 || w.dilations[i] > kMaxWindow) {
      return call.fail("kernel_shape, strides and dilations must be positive");
    }
  }
  for (const std::int64_t pad : w.pads) {
    if (pad < 0 || pad > kMaxWindow) return call.fail("pads must not be negative");
  }
  if (w.auto_pad != "NOTSET" && w.auto_pad != "VALID" && w.auto_pad != "SAME_UPPER" &&
      w.auto_pad != "SAME_LOWER") {
    return call.fail("auto_pad '" + w.auto_pad +
                     "' isn't one of NOTSET, VALID, SAME_UPPER, SAME_LOWER");
  }
  if (w.auto_pad == "VALID") w.pads.assign(2 * dims, 0);
  return w;
}

/// One spatial dimension after a window has slid over it.
Result<std::int64_t> slide(const Call& call, const Window& w, std::size_t i, std::int64_t size,
                           bool ceil_mode) {
  const bool same = w.auto_pad.starts_with("SAME");
  const std::int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
  const std::int64_t padding = w.pads[i] + w.pads[i + w.kernel.size()];
  if (size < 0) {
    const bool kept = w.strides[i] == 1 && (same || padding == reach - 1);
    return kept ? size : kUnknown;
  }
  if (same) return (size + w.strides[i] - 1) / w.strides[i];
  const std::int64_t room = size + padding - reach;
  if (room < 0) {
    return call.fail("a window of " + std::to_string(reach) + " doesn't fit into " +
                     std::to_string(size) + " padded by " + std::to_string(padding) +
                     " along spatial dimension " + std::to_string(i));
  }
  std::int64_t out = room / w.strides[i] + 1;
  if (ceil_mode && room % w.strides[i] != 0) {
    // A window that would start in the padding behind the end doesn't count.
    if (out * w.strides[i] < size + w.pads[i]) ++out;
  }
  return out;
}

/// x at input `x`, weights at input `w`.
Result<void> convolve(Call& call, std::size_t x, std::size_t w, std::size_t bias, DType result) {
  KERF_TRY(call.want_rank(x, 3, kMaxRank));
  if (call.rank(w) != call.rank(x)) {
    return call.fail("weights have rank " + std::to_string(call.rank(w)) +
                     ", expected the input's " + std::to_string(call.rank(x)));
  }
  const auto dims = static_cast<std::size_t>(call.rank(x)) - 2;
  const Shape& weights = call.shape(w);
  const std::int64_t group = call.node.integer("group", 1);
  if (group < 1) return call.fail("group must be positive");
  if (weights[1] >= 0 && weights[1] > kMaxWindow / group) return call.fail("group is too large");
  if (weights[1] >= 0 && !compatible(call.shape(x)[1], weights[1] * group)) {
    return call.fail("input has " + std::to_string(call.shape(x)[1]) +
                     " channels, but the weights " + to_string(weights) + " with group " +
                     std::to_string(group) + " take " + std::to_string(weights[1] * group));
  }
  if (weights[0] >= 0 && weights[0] % group != 0) {
    return call.fail(std::to_string(weights[0]) + " output channels don't divide into " +
                     std::to_string(group) + " groups");
  }
  std::vector<std::int64_t> kernel(weights.begin() + 2, weights.end());
  const auto stated = call.node.integers("kernel_shape", kernel);
  for (std::size_t i = 0; i < kernel.size(); ++i) {
    if (stated.size() != kernel.size() || !compatible(stated[i], kernel[i])) {
      return call.fail("kernel_shape " + to_string(stated) + " differs from the weights' shape");
    }
  }
  if (call.has(bias) && (call.rank(bias) != 1 || !compatible(call.shape(bias)[0], weights[0]))) {
    return call.fail("bias must have the shape [" + std::to_string(weights[0]) + "]");
  }
  KERF_ASSIGN(const Window window, read_window(call, dims, stated));
  Shape out = {call.shape(x)[0], weights[0]};
  for (std::size_t i = 0; i < dims; ++i) {
    KERF_ASSIGN(const std::int64_t size, slide(call, window, i, call.shape(x)[i + 2], false));
    out.push_back(size);
  }
  call.set(0, result, std::move(out));
  return {};
}

Result<void> conv(Call& call) {
  KERF_TRY(call.want_same_dtype(0, 1));
  return convolve(call, 0, 1, 2, call.dtype(0));
}

Result<void> conv_integer(Call& call) { return convolve(call, 0, 1, kAny, DType::kS32); }

Result<void> qlinear_conv(Call& call) { return convolve(call, 0, 3, 8, call.dtype(7)); }

Result<void> conv_transpose(Call& call) {
  KERF_TRY(call.want_rank(0, 3, kMaxRank));
  KERF_TRY(call.want_same_dtype(0, 1));
  if (call.rank(1) != call.rank(0)) {
    return call.fail("weights have rank " + std::to_string(call.rank(1)) +
                     ", expected the input's " + std::to_string(call.rank(0)));
  }
  const auto dims = static_cast<std::size_t>(call.rank(0)) - 2;
  const Shape& weights = call.shape(1);
  const std::int64_t group = call.node.integer("group", 1);
  if (group < 1 || group > kMaxWindow) return call.fail("group must be positive");
  if (!compatible(call.shape(0)[1], weights[0]) || (weights[0] >= 0 && weights[0] % group != 0)) {
    return call.fail("input channels, weights " + to_string(weights) + " and group " +
                     std::to_string(group) + " don't fit");
  }
  if (weights[1] > kMaxWindow) return call.fail("too many output channels");
  std::vector<std::int64_t> kernel(weights.begin() + 2, weights.end());
  KERF_ASSIGN(const Window window,
              read_window(call, dims, call.node.integers("kernel_shape", kernel)));
  const auto extra = call.node.integers("output_padding", std::vector<std::int64_t>(dims, 0));
  const auto wanted = call.node.integers("output_shape");
  if (extra.size() != dims || (!wanted.empty() && wanted.size() != dims)) {
    return call.fail("output_padding and output_shape need " + std::to_string(dims) + " values");
  }
  const std::int64_t channels = weights[1] < 0 ? kUnknown : weights[1] * group;
  if (call.has(2) && (call.rank(2) != 1 || !compatible(call.shape(2)[0], channels))) {
    return call.fail("bias must have the shape [" + std::to_string(channels) + "]");
  }
  Shape out = {call.shape(0)[0], channels};
  for (std::size_t i = 0; i < dims; ++i) {
    const std::int64_t size = call.shape(0)[i + 2];
    if (extra[i] < 0 || extra[i] > kMaxWindow)
      return call.fail("output_padding must not be negative");
    if (!wanted.empty()) {
      if (wanted[i] < 1) return call.fail("output_shape must be positive");
      out.push_back(wanted[i]);
    } else if (size < 0) {
      out.push_back(kUnknown);
    } else if (size > kMaxWindow) {
      return call.fail("spatial dimensions are too large");
    } else if (window.auto_pad.starts_with("SAME")) {
      out.push_back(size * window.strides[i]);
    } else {
      const std::int64_t reach = (window.kernel[i] - 1) * window.dilations[i] + 1;
      const std::int64_t grown = window.strides[i] * (size - 1) + extra[i] + reach -
                                 window.pads[i] - window.pads[i + dims];
      if (grown < 1) return call.fail("the pads take away the whole output");
      out.push_back(grown);
    }
  }
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> pool(Call& call) {
  KERF_TRY(call.want_rank(0, 3, kMaxRank));
  const auto dims = static_cast<std::size_t>(call.rank(0)) - 2;
  const auto kernel = call.node.integers("kernel_shape");
  if (kernel.empty()) return call.fail("attribute kernel_shape is missing");
  KERF_ASSIGN(const Window window, read_window(call, dims, kernel));
  Shape out = {call.shape(0)[0], call.shape(0)[1]};
  for (std::size_t i = 0; i < dims; ++i) {
    KERF_ASSIGN(const std::int64_t size, slide(call, window, i, call.shape(0)[i + 2],
                                               call.node.integer("ceil_mode", 0) != 0));
    out.push_back(size);
  }
  call.set(1, DType::kS64, out);
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> global_pool(Call& call) {
  KERF_TRY(call.want_rank(0, 3, kMaxRank));
  Shape out(call.shape(0).size(), 1);
  out[0] = call.shape(0)[0];
  out[1] = call.shape(0)[1];
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

}  // namespace

void register_convolution(Registry& registry) {
  registry["Conv"] = {conv, 2, 3, 1};
  registry["ConvTranspose"] = {conv_transpose, 2, 3, 1};
  registry["ConvInteger"] = {conv_integer, 2, 4, 1};
  registry["QLinearConv"] = {qlinear_conv, 8, 9, 1};
  registry["MaxPool"] = {pool, 1, 1, 2};
  registry["AveragePool"] = {pool, 1, 1, 1};
  registry["LpPool"] = {pool, 1, 1, 1};
  for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) {
    registry[op] = {global_pool, 1, 1, 1};
  }
}

}  // namespace kerf::graph::shapes
