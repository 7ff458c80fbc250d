// Ops that read or write at computed places, and transforms: GridSample, RoiAlign, MaxUnpool,
// Col2Im, DFT, STFT.
#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

Result<void> grid_sample(Call& call) {
  KERF_TRY(call.want_rank(0, 3, kMaxRank));
  const std::int64_t rank = call.rank(0);
  KERF_TRY(call.want_rank(1, rank, rank));
  const Shape& x = call.shape(0);
  const Shape& grid = call.shape(1);
  if (!is_float(call.dtype(0)) || !is_float(call.dtype(1)))
    return call.fail("inputs must be floating point");
  if (!compatible(x[0], grid[0]) || !compatible(grid.back(), rank - 2))
    return call.fail("the grid must have a place of " + std::to_string(rank - 2) + " numbers for each output");
  Shape out = {merge(x[0], grid[0]), x[1]};
  out.insert(out.end(), grid.begin() + 1, grid.end() - 1);
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

constexpr std::int64_t kMost = 1LL << 31U;

Result<void> roi_align(Call& call) {
  KERF_TRY(call.want_rank(0, 4, 4));
  KERF_TRY(call.want_rank(1, 2, 2));
  KERF_TRY(call.want_rank(2, 1, 1));
  const std::int64_t height = call.node.integer("output_height", 1);
  const std::int64_t width = call.node.integer("output_width", 1);
  if (height < 1 || width < 1 || height > kMost || width > kMost)
    return call.fail("output_height and output_width must be positive");
  if (!compatible(call.shape(1)[1], 4) || !compatible(call.shape(1)[0], call.shape(2)[0]))
    return call.fail("a region needs 4 numbers and the index of its image");
  const std::string mode = call.node.text("mode", "avg");
  if (mode != "avg" && mode != "max") return call.fail("mode '" + mode + "' isn't avg or max");
  call.set(0, call.dtype(0),
           {merge(call.shape(1)[0], call.shape(2)[0]), call.shape(0)[1], height, width});
  return {};
}

Result<void> max_unpool(Call& call) {
  KERF_TRY(call.want_rank(0, 3, kMaxRank));
  const auto dims = static_cast<std::size_t>(call.rank(0)) - 2;
  const auto kernel = call.node.integers("kernel_shape");
  const auto strides = call.node.integers("strides", Shape(dims, 1));
  const auto pads = call.node.integers("pads", Shape(2 * dims, 0));
  if (kernel.size() != dims || strides.size() != dims || pads.size() != 2 * dims)
    return call.fail("kernel_shape, strides or pads don't fit the input");
  Shape out = call.shape(0);
  if (call.has(2)) {
    KERF_ASSIGN(out, call.integers(2, "output_shape"));
    if (out.size() != dims + 2) return call.fail("output_shape has another rank");
  } else {
    for (std::size_t i = 0; i < dims; ++i) {
      std::int64_t& dim = out[i + 2];
      if (kernel[i] < 1 || strides[i] < 1 || kernel[i] > kMost || strides[i] > kMost || dim > kMost)
        return call.fail("kernel_shape and strides must be positive");
      if (dim >= 0) dim = (dim - 1) * strides[i] + kernel[i] - pads[i] - pads[i + dims];
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] < 0 && call.shape(0)[i] >= 0) return call.fail("the output would be empty");
  }
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> col_to_image(Call& call) {
  KERF_TRY(call.want_rank(0, 3, 3));
  KERF_ASSIGN(const std::vector<std::int64_t> image, call.integers(1, "image_shape"));
  KERF_ASSIGN(const std::vector<std::int64_t> block, call.integers(2, "block_shape"));
  std::int64_t taps = 1;
  for (const std::int64_t extent : block) {
    if (extent < 1 || extent > kMost / taps) return call.fail("block_shape must be positive");
    taps *= extent;
  }
  if (image.size() != block.size()) return call.fail("image_shape and block_shape differ in length");
  for (const std::int64_t extent : image) {
    if (extent < 1) return call.fail("image_shape must be positive");
  }
  const std::int64_t columns = call.shape(0)[1];
  if (columns >= 0 && columns % taps != 0) return call.fail("columns don't divide into blocks");
  Shape out = {call.shape(0)[0], columns < 0 ? kUnknown : columns / taps};
  out.insert(out.end(), image.begin(), image.end());
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> dft(Call& call) {
  KERF_TRY(call.want_rank(0, 2, kMaxRank));
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", 1), call.rank(0)));
  if (axis + 1 == call.rank(0)) return call.fail("axis must not be the last one");
  if (call.node.integer("inverse", 0) != 0 && call.node.integer("onesided", 0) != 0)
    return call.fail("an inverse transform of half a spectrum is not supported");
  Shape out = call.shape(0);
  std::int64_t& length = out[static_cast<std::size_t>(axis)];
  if (call.has(1)) {
    KERF_ASSIGN(const std::vector<std::int64_t> wanted, call.integers(1, "dft_length"));
    if (wanted.size() != 1 || wanted[0] < 1) return call.fail("dft_length must be positive");
    length = wanted[0];
  }
  if (out.back() > 2) return call.fail("the last dimension must be 1 or 2");
  if (length >= 0 && call.node.integer("onesided", 0) != 0) length = length / 2 + 1;
  out.back() = 2;
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> stft(Call& call) {
  KERF_TRY(call.want_rank(0, 3, 3));
  KERF_ASSIGN(const std::vector<std::int64_t> step, call.integers(1, "frame_step"));
  std::int64_t length = kUnknown;
  if (call.has(2)) {
    KERF_TRY(call.want_rank(2, 1, 1));
    length = call.shape(2)[0];
  }
  if (call.has(3)) {
    KERF_ASSIGN(const std::vector<std::int64_t> wanted, call.integers(3, "frame_length"));
    if (wanted.size() != 1 || !compatible(wanted[0], length))
      return call.fail("frame_length and window differ");
    length = wanted[0];
  }
  const std::int64_t size = call.shape(0)[1];
  if (step.size() != 1 || step[0] < 1 || length < 1 || (size >= 0 && length > size))
    return call.fail("frame_step, frame_length and signal don't fit each other");
  const std::int64_t bins = call.node.integer("onesided", 1) != 0 ? length / 2 + 1 : length;
  call.set(0, call.dtype(0),
           {call.shape(0)[0], size < 0 ? kUnknown : (size - length) / step[0] + 1, bins, 2});
  return {};
}

}  // namespace

void register_sampling(Registry& registry) {
  registry["RoiAlign"] = {roi_align, 3, 3, 1};
  registry["MaxUnpool"] = {max_unpool, 2, 3, 1};
  registry["Col2Im"] = {col_to_image, 3, 3, 1};
  registry["DFT"] = {dft, 1, 2, 1};
  registry["STFT"] = {stft, 2, 4, 1};
  registry["GridSample"] = {grid_sample, 2, 2, 1};
}

}  // namespace kerf::graph::shapes
