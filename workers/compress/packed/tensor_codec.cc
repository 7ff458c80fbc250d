#include "workers/compress/packed/tensor_codec.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "workers/compress/packed/text_codec.h"

namespace kerf::compress::packed {
namespace {

using graph::DType;
using graph::Tensor;

constexpr std::uint8_t kSparse = 1;
constexpr std::uint8_t kPalette = 2;
constexpr std::size_t kMostValues = 256;
constexpr std::size_t kZerosShare = 32;  // one zero in so many: fewer are not worth their gaps

bool is_signed_byte(DType dtype) { return dtype == DType::kS8 || dtype == DType::kS4; }

/// Calls f with a number of the element's size, so that loops know it when they are compiled.
template <class F>
auto with_word(std::size_t element, F&& f) {
  switch (element) {
    case 1: return f(std::uint8_t{});
    case 2: return f(std::uint16_t{});
    case 4: return f(std::uint32_t{});
    default: return f(std::uint64_t{});
  }
}

template <class Word>
Word word_at(std::span<const std::uint8_t> bytes, std::size_t i) {
  Word out = 0;
  std::memcpy(&out, bytes.data() + i * sizeof(Word), sizeof(Word));
  return out;
}

/// Values by their bits, ascending; nullopt where there are more than kMostValues.
std::optional<std::vector<std::uint64_t>> values_of(std::span<const std::uint8_t> bytes,
                                                    std::size_t element) {
  // Open addressing in a table that is never more than half full.
  constexpr std::size_t kSlots = 1024;
  return with_word(element, [&]<class Word>(Word) -> std::optional<std::vector<std::uint64_t>> {
    std::array<std::uint64_t, kSlots> slots{};
    std::array<bool, kSlots> taken{};
    std::vector<std::uint64_t> values;
    for (std::size_t i = 0; i < bytes.size() / sizeof(Word); ++i) {
      const std::uint64_t bits = word_at<Word>(bytes, i);
      std::size_t slot = (bits * 0x9E3779B97F4A7C15ULL) >> 54U;
      while (taken[slot] && slots[slot] != bits) slot = (slot + 1) % kSlots;
      if (taken[slot]) continue;
      if (values.size() == kMostValues) return std::nullopt;
      taken[slot] = true;
      slots[slot] = bits;
      values.push_back(bits);
    }
    std::sort(values.begin(), values.end());
    return values;
  });
}

std::vector<std::uint8_t> indices_of(std::span<const std::uint8_t> bytes, std::size_t element,
                                     const std::vector<std::uint64_t>& values) {
  std::unordered_map<std::uint64_t, std::uint8_t> index;
  for (std::size_t i = 0; i < values.size(); ++i) index[values[i]] = static_cast<std::uint8_t>(i);
  std::vector<std::uint8_t> out(bytes.size() / element);
  with_word(element, [&]<class Word>(Word) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = index.find(word_at<Word>(bytes, i))->second;
    }
  });
  return out;
}

std::vector<std::vector<std::uint8_t>> planes_of(std::span<const std::uint8_t> bytes,
                                                 std::size_t element) {
  std::vector<std::vector<std::uint8_t>> out(element);
  for (std::size_t p = 0; p < element; ++p) {
    out[p].resize(bytes.size() / element);
    for (std::size_t i = 0; i < out[p].size(); ++i) out[p][i] = bytes[i * element + p];
  }
  return out;
}

std::size_t count_zeros(std::span<const std::uint8_t> bytes, std::size_t element) {
  return with_word(element, [&]<class Word>(Word) {
    std::size_t zeros = 0;
    for (std::size_t i = 0; i < bytes.size() / sizeof(Word); ++i) {
      zeros += word_at<Word>(bytes, i) == 0 ? 1U : 0U;
    }
    return zeros;
  });
}

/// The elements that aren't zero, and the zeros before each. No branch hangs on an element: whether
/// the next one is zero is a coin's toss.
void split(std::span<const std::uint8_t> bytes, std::size_t element, std::size_t others_count,
           std::vector<std::uint8_t>& gaps, std::vector<std::uint8_t>& others) {
  const std::size_t count = bytes.size() / element;
  gaps.assign(others_count + count / 255 + 1, 0);
  others.assign((others_count + 1) * element, 0);
  std::size_t gap = 0;
  with_word(element, [&]<class Word>(Word) {
    std::size_t other = 0;
    unsigned run = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Word word = word_at<Word>(bytes, i);
      std::memcpy(others.data() + other * sizeof(Word), &word, sizeof(Word));
      gaps[gap] = static_cast<std::uint8_t>(run);
      const unsigned there = word != 0 ? 1 : 0;
      other += there;
      gap += there;
      run = there != 0 ? 0 : run + 1;
      if (run == 255) {
        gaps[gap++] = 255;
        run = 0;
      }
    }
  });
  while (gap > 0 && gaps[gap - 1] == 255) --gap;  // zeros behind the last one need no words
  gaps.resize(gap);
  others.resize(others_count * element);
}

}  // namespace

/// One form of the elements that are written, with its size.
struct TensorPlan::Candidate {
  std::vector<std::uint64_t> palette;
  std::vector<std::vector<std::uint8_t>> runs;
  std::vector<StreamPlan> plans;
  std::size_t size = 0;

  /// The smaller of planes and palette. One-byte elements are their own plane: runs stays empty.
  static Candidate best(std::span<const std::uint8_t> bytes, std::size_t element,
                        std::uint8_t flip, bool constants = true) {
    Candidate planes;
    if (element == 1) {
      planes.plans.emplace_back(bytes, flip, constants);
      planes.size = planes.plans[0].size();
      return planes;
    }
    planes.runs = planes_of(bytes, element);
    for (const auto& run : planes.runs) {
      planes.plans.emplace_back(run, 0, constants);
      planes.size += planes.plans.back().size();
    }
    const auto values = values_of(bytes, element);
    if (!values || values->empty()) return planes;
    Candidate palette;
    palette.palette = *values;
    palette.runs.push_back(indices_of(bytes, element, *values));
    palette.plans.emplace_back(palette.runs[0], 0, constants);
    palette.size = 1 + values->size() * element + palette.plans[0].size();
    return palette.size < planes.size ? palette : planes;
  }
};

TensorPlan::TensorPlan(const Tensor& tensor)
    : flip_(is_signed_byte(tensor.dtype()) ? 0x80 : 0),
      element_(graph::element_size(tensor.dtype())),
      tensor_(tensor) {
  const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(tensor.raw()),
                                            tensor.bytes());
  Candidate dense = Candidate::best(bytes, element_, flip_);
  if (bytes.size() > most_bytes_from(1 + dense.size)) {
    dense = Candidate::best(bytes, element_, flip_, false);
  }
  size_ = 1 + dense.size;

  // With few zeros their gaps cost what they save.
  const std::size_t zeros = count_zeros(bytes, element_);
  if (zeros * kZerosShare >= bytes.size() / element_) try_sparse(bytes, zeros, dense);
  palette_ = std::move(dense.palette);
  runs_ = std::move(dense.runs);
  plans_ = std::move(dense.plans);
}

void TensorPlan::try_sparse(std::span<const std::uint8_t> bytes, std::size_t zeros,
                            Candidate& best) {
  others_ = bytes.size() / element_ - zeros;
  std::vector<std::uint8_t> others;
  split(bytes, element_, others_, gaps_, others);
  gaps_plan_ = StreamPlan(gaps_, 0);
  Candidate rest = Candidate::best(others, element_, flip_);
  const std::size_t size = 1 + varint_size(others_) + varint_size(gaps_.size() - others_) +
                           gaps_plan_.size() + rest.size;
  if (size >= size_ || bytes.size() > most_bytes_from(size)) return;
  sparse_ = true;
  size_ = size;
  if (element_ == 1) rest.runs.push_back(std::move(others));
  best = std::move(rest);
}

void TensorPlan::write(std::string& out) const {
  Writer writer(out);
  writer.u8((sparse_ ? kSparse : 0U) | (palette_.empty() ? 0U : kPalette));
  if (sparse_) {
    writer.varint(others_);
    writer.varint(gaps_.size() - others_);
    gaps_plan_.write(gaps_, writer, out);
  }
  if (!palette_.empty()) {
    writer.u8(palette_.size() - 1);
    for (const std::uint64_t bits : palette_) {
      out.append(reinterpret_cast<const char*>(&bits), element_);
    }
  }
  if (runs_.empty()) {
    plans_[0].write({reinterpret_cast<const std::uint8_t*>(tensor_.raw()), tensor_.bytes()}, writer,
                    out);
    return;
  }
  for (std::size_t i = 0; i < runs_.size(); ++i) plans_[i].write(runs_[i], writer, out);
}

namespace {

/// Elements in a row, from planes or a palette.
bool read_elements(Reader& in, bool palette, std::size_t element, std::uint8_t flip,
                   std::span<std::uint8_t> bytes) {
  const std::size_t count = bytes.size() / element;
  if (!palette && element == 1) return read_stream(in, flip, bytes);
  std::vector<std::uint8_t> run(count);
  if (palette) {
    if (element == 1) return false;
    const std::size_t values = std::size_t{in.u8()} + 1;
    const std::string_view bits = in.bytes(values * element);
    if (!in.ok() || !read_stream(in, 0, run)) return false;
    for (std::size_t i = 0; i < count; ++i) {
      if (run[i] >= values) return false;
      std::memcpy(bytes.data() + i * element, bits.data() + run[i] * element, element);
    }
    return true;
  }
  for (std::size_t p = 0; p < element; ++p) {
    if (!read_stream(in, 0, run)) return false;
    for (std::size_t i = 0; i < count; ++i) bytes[i * element + p] = run[i];
  }
  return true;
}

}  // namespace

bool read_tensor(std::string_view payload, DType dtype, const graph::Shape& shape, Tensor& tensor) {
  const std::size_t element = graph::element_size(dtype);
  const auto count = graph::element_count(shape);
  if (!count || static_cast<std::size_t>(*count) > most_bytes_from(payload.size()) / element) {
    return false;
  }
  Reader in(payload);
  const std::uint8_t mode = in.u8();
  if (!in.ok() || mode > (kSparse | kPalette)) return false;
  const bool palette = (mode & kPalette) != 0;
  const std::uint8_t flip = is_signed_byte(dtype) ? 0x80 : 0;
  tensor = Tensor(dtype, shape);
  const std::span<std::uint8_t> bytes(reinterpret_cast<std::uint8_t*>(tensor.mutable_raw()),
                                      tensor.bytes());
  if ((mode & kSparse) == 0) {
    return read_elements(in, palette, element, flip, bytes) && in.finished();
  }
  const std::uint64_t others = in.varint();
  const std::uint64_t more = in.varint();
  const auto elements = static_cast<std::uint64_t>(*count);
  if (!in.ok() || others > elements || more > elements / 255) return false;
  std::vector<std::uint8_t> gaps(static_cast<std::size_t>(others + more));
  std::vector<std::uint8_t> rest(static_cast<std::size_t>(others) * element);
  if (!read_stream(in, 0, gaps) || !read_elements(in, palette, element, flip, rest) ||
      !in.finished()) {
    return false;
  }
  std::size_t at = 0;
  std::size_t taken = 0;
  for (const std::uint8_t gap : gaps) {
    at += gap;
    if (gap == 255) continue;
    if (at >= elements || taken == others) return false;
    std::memcpy(bytes.data() + at * element, rest.data() + taken * element, element);
    ++at;
    ++taken;
  }
  return taken == others;
}

}  // namespace kerf::compress::packed
