#include "workers/data/split.h"

#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kerf::data {
namespace {

using graph::Tensor;

/// A number below `bound`, without bias and the same everywhere (the standard library's
/// distributions differ between implementations).
std::uint64_t below(std::mt19937_64& random, std::uint64_t bound) {
  const std::uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  std::uint64_t value = random();
  while (value >= limit) value = random();
  return value % bound;
}

Tensor pick(const Tensor& tensor, std::span<const std::int64_t> chosen) {
  graph::Shape shape = tensor.shape();
  const std::size_t row = shape[0] == 0 ? 0 : tensor.bytes() / static_cast<std::size_t>(shape[0]);
  shape[0] = static_cast<std::int64_t>(chosen.size());
  Tensor out(tensor.dtype(), shape);
  std::byte* to = out.mutable_raw();
  for (const std::int64_t from : chosen) {
    if (row > 0) std::memcpy(to, tensor.raw() + static_cast<std::size_t>(from) * row, row);
    to += row;
  }
  return out;
}

DataSet pick(const DataSet& data, std::span<const std::int64_t> chosen) {
  DataSet out;
  out.samples = static_cast<std::int64_t>(chosen.size());
  out.images = data.images;
  out.left_out = data.left_out;
  // An array of another length isn't about samples; if a model asks for it, bind() refuses it.
  const auto has_samples = [&](const Tensor& tensor) { return tensor.dim(0) == data.samples; };
  for (const auto& [name, tensor] : data.inputs) {
    out.inputs[name] = has_samples(tensor) ? pick(tensor, chosen) : tensor;
  }
  if (data.labels) out.labels = has_samples(*data.labels) ? pick(*data.labels, chosen) : *data.labels;
  if (data.last_column) out.last_column = pick(*data.last_column, chosen);
  return out;
}

}  // namespace

Result<Split> split(const DataSet& data, std::uint64_t seed) {
  constexpr std::int64_t kFewest = 5;
  if (data.samples < kFewest) {
    return invalid_argument("data set of " + std::to_string(data.samples) +
                            " samples; expected at least 5 to split into calibration, evaluation "
                            "and test");
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(data.samples));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(random, i)]);
  const std::size_t calibration = order.size() / 5;
  const std::size_t evaluation = order.size() * 2 / 5;
  // Each part keeps the dealt order: its first samples are a fair draw of the whole, which early
  // stopping relies on, even where the file is sorted by class.
  const auto part = [&](std::size_t begin, std::size_t end) {
    return pick(data, std::span(order).subspan(begin, end - begin));
  };
  return Split{part(0, calibration), part(calibration, calibration + evaluation),
               part(calibration + evaluation, order.size())};
}

}  // namespace kerf::data
