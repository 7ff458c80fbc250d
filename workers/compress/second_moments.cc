#include "workers/compress/second_moments.h"

#include <algorithm>
#include <cmath>

#include "workers/compress/linear_algebra.h"

namespace kerf::compress {
namespace {

constexpr std::size_t kBufferedRows = 256;  // as many as add_gram sums in f32

/// Positions to read of each item.
std::size_t positions_to_read(const LayerInput& input, std::int64_t items) {
  constexpr double kWork = 4e9;
  constexpr double kMostRows = 65536;
  const auto columns = static_cast<double>(input.depth());
  const double work = kWork / (columns * columns * static_cast<double>(input.groups()));
  const double rows = std::max(8 * columns, std::min(work, kMostRows));
  const double wanted = std::ceil(rows / static_cast<double>(std::max<std::int64_t>(1, items)));
  return std::min(input.positions(), static_cast<std::size_t>(std::max(1.0, wanted)));
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

std::size_t SecondMoments::bytes() const {
  std::size_t out = 0;
  for (const MomentBlock& block : blocks) {
    out += sizeof(double) * (block.gram.size() + block.mean.size() + block.cross.size());
  }
  return out;
}

std::size_t SecondMoments::bytes_for(const LayerInput& input, std::size_t outputs) {
  const std::size_t columns = std::min(input.depth(), kMostColumns);
  return sizeof(double) * input.groups() * input.depth() * (columns + outputs);
}

MomentCollector::MomentCollector(const LayerInput& input, std::int64_t items,
                                 std::vector<std::size_t> wanted, std::size_t wanted_of)
    : input_(input),
      wanted_(std::move(wanted)),
      wanted_of_(wanted_of),
      positions_(positions_to_read(input, items)),
      row_(input.depth()) {
  out_.groups = input.groups();
  out_.depth = input.depth();
  out_.outputs = wanted_.empty() ? 0 : input.outputs();
  const std::size_t parts = (out_.depth + SecondMoments::kMostColumns - 1) / SecondMoments::kMostColumns;
  for (std::size_t g = 0; g < out_.groups; ++g) {
    for (std::size_t p = 0; p < parts; ++p) {
      MomentBlock block;
      block.group = g;
      block.begin = p * out_.depth / parts;
      block.columns = (p + 1) * out_.depth / parts - block.begin;
      const std::size_t stride = block.columns + 1 + out_.outputs;
      buffers_.emplace_back(kBufferedRows * stride);
      sums_.emplace_back(stride * stride, 0.0);
      out_.blocks.push_back(std::move(block));
    }
  }
}

bool MomentCollector::add(std::span<const float> inputs, std::span<const float> outputs) {
  const std::size_t size = input_.item_size();
  const std::size_t output_size =
      wanted_.empty() ? 0 : input_.output_place(wanted_of_ - 1, input_.positions() - 1) + 1;
  if (inputs.size() % size != 0 || outputs.size() != inputs.size() / size * output_size ||
      !all_finite(inputs) || !all_finite(outputs)) {
    return false;
  }
  const std::size_t all = input_.positions();
  for (std::size_t i = 0; i < inputs.size() / size; ++i, ++items_seen_) {
    const float* item = inputs.data() + i * size;
    const float* output = outputs.data() + i * output_size;
    // Another offset an item, so that over the items every position is seen.
    const std::size_t offset = static_cast<std::size_t>(items_seen_) * 7919 % all;
    for (std::size_t p = 0; p < positions_; ++p) {
      const std::size_t position = (p * all / positions_ + offset) % all;
      std::size_t b = 0;
      for (std::size_t g = 0; g < out_.groups; ++g) {
        input_.read(item, g, position, row_.data());
        for (; b < out_.blocks.size() && out_.blocks[b].group == g; ++b) {
          const MomentBlock& block = out_.blocks[b];
          float* target = buffers_[b].data() + buffered_ * (block.columns + 1 + out_.outputs);
          target = std::copy_n(row_.data() + block.begin, block.columns, target);
          *target++ = 1.0F;
          for (std::size_t o = 0; o < out_.outputs; ++o) {
            *target++ = output[input_.output_place(wanted_[g * out_.outputs + o], position)];
          }
        }
      }
      ++out_.rows;
      if (++buffered_ == kBufferedRows) flush();
    }
  }
  return true;
}

void MomentCollector::flush() {
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    add_gram(buffers_[b], buffered_, out_.blocks[b].columns + 1 + out_.outputs, sums_[b]);
  }
  buffered_ = 0;
}

SecondMoments MomentCollector::finish() {
  if (buffered_ > 0) flush();
  const double count = static_cast<double>(std::max<std::int64_t>(1, out_.rows));
  out_.output_mean.assign(out_.groups * out_.outputs, 0.0);
  for (std::size_t b = 0; b < sums_.size(); ++b) {
    MomentBlock& block = out_.blocks[b];
    const std::size_t n = block.columns;
    const std::size_t stride = n + 1 + out_.outputs;
    const std::vector<double>& sums = sums_[b];
    block.gram.resize(n * n);
    block.mean.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = i; j < n; ++j) block.gram[i * n + j] = sums[i * stride + j] / count;
      block.mean[i] = sums[i * stride + n] / count;
      for (std::size_t o = 0; o < out_.outputs; ++o)
        block.cross.push_back(sums[i * stride + n + 1 + o] / count);
    }
    mirror(block.gram, n);
    for (std::size_t o = 0; o < out_.outputs; ++o) {
      out_.output_mean[block.group * out_.outputs + o] = sums[n * stride + n + 1 + o] / count;
    }
    sums_[b].clear();
    sums_[b].shrink_to_fit();
  }
  return std::move(out_);
}

}  // namespace kerf::compress
