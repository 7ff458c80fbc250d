#include "workers/data/npz.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>
#include <fstream>
#include <new>
#include <optional>
#include <utility>

#include "workers/data/zip_archive.h"

namespace kerf::data {
namespace {

using graph::DType;
using graph::Shape;
using graph::Tensor;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kLongestHeader = 1U << 16U;
constexpr std::size_t kHighestRank = 32;  // NumPy's own

static_assert(std::endian::native == std::endian::little, "arrays are little endian in memory");

/// The dictionary of a header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
/// Reads exactly the literals that NumPy writes; nothing is evaluated.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  struct Fields {
    std::optional<std::string> descr;
    bool structured = false;
    std::optional<bool> fortran_order;
    std::optional<Shape> shape;
  };

  /// Errors: a short text of what is wrong.
  std::optional<std::string> parse(Fields& fields) {
    if (!take('{')) return "a dictionary";
    while (!take('}')) {
      const auto key = string();
      if (!key || !take(':')) return "a key";
      if (*key == "descr" && !fields.descr && !fields.structured) {
        if (peek() == '[') {  // a structured type; its shape doesn't matter, we can't use it
          fields.structured = true;
          return std::nullopt;
        }
        fields.descr = string();
        if (!fields.descr) return "the text of descr";
      } else if (*key == "fortran_order" && !fields.fortran_order) {
        if (word("True")) {
          fields.fortran_order = true;
        } else if (word("False")) {
          fields.fortran_order = false;
        } else {
          return "True or False as fortran_order";
        }
      } else if (*key == "shape" && !fields.shape) {
        fields.shape = tuple();
        if (!fields.shape) return "a tuple of sizes as shape";
      } else {
        return "the keys descr, fortran_order and shape, once each";
      }
      if (!take(',') && peek() != '}') return "a comma or the end of the dictionary";
    }
    if (peek() != '\0') return "nothing after the dictionary";
    if (!fields.descr || !fields.fortran_order || !fields.shape) {
      return "the keys descr, fortran_order and shape";
    }
    return std::nullopt;
  }

 private:
  char peek() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  bool word(std::string_view wanted) {
    peek();
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }
  std::optional<std::string> string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }
  std::optional<Shape> tuple() {
    if (!take('(')) return std::nullopt;
    Shape shape;
    while (!take(')')) {
      peek();
      std::int64_t size = 0;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) return std::nullopt;
      at_ += static_cast<std::size_t>(end - begin);
      word("L");  // written by Python 2
      shape.push_back(size);
      if (shape.size() > kHighestRank) return std::nullopt;
      if (!take(',') && peek() != ')') return std::nullopt;
    }
    return shape;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// A text from a file, safe to stand in a one-line message.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, 40)) {
    out += std::isprint(static_cast<unsigned char>(c)) != 0 ? c : '?';
  }
  return out + (text.size() > 40 ? "…'" : "'");
}

Result<std::pair<DType, bool>> parse_descr(const std::string& descr, std::string_view where) {
  const std::string start = std::string(where) + " has dtype " + in_quotes(descr);
  std::string_view rest = descr;
  char order = '|';
  if (!rest.empty() && std::string_view("<>|=").find(rest.front()) != std::string_view::npos) {
    order = rest.front();
    rest.remove_prefix(1);
  }
  const char kind = rest.empty() ? '\0' : rest.front();
  const std::string_view size = rest.empty() ? rest : rest.substr(1);
  if (kind == 'O') {
    return invalid_argument(start + " (Python objects, which are never loaded); expected numbers");
  }
  if (kind == 'U' || kind == 'S' || kind == 'a' || kind == 'M' || kind == 'm' || kind == 'V') {
    return unimplemented(start + "; expected numbers");
  }
  static const std::map<std::string_view, DType> kTypes = {
      {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64}, {"i1", DType::kS8},
      {"i2", DType::kS16}, {"i4", DType::kS32}, {"i8", DType::kS64}, {"u1", DType::kU8},
      {"u2", DType::kU16}, {"u4", DType::kU32}, {"u8", DType::kU64}, {"b1", DType::kBool}};
  const auto found = kTypes.find(rest);
  if (found == kTypes.end() || size.empty()) {
    return invalid_argument(start + "; expected f2, f4, f8, i1 to i8, u1 to u8 or b1");
  }
  const bool swap = order == '>' && graph::element_size(found->second) > 1;
  return std::pair{found->second, swap};
}

void swap_bytes(Tensor& tensor) {
  const std::size_t size = graph::element_size(tensor.dtype());
  std::byte* at = tensor.mutable_raw();
  for (std::int64_t i = 0; i < tensor.elements(); ++i, at += size) std::reverse(at, at + size);
}

/// Column-major bytes under `tensor`'s shape -> row-major.
Tensor from_fortran_order(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  const std::size_t rank = shape.size();
  if (rank < 2 || tensor.elements() == 0) return tensor;
  Tensor out(tensor.dtype(), shape);
  const std::size_t size = graph::element_size(tensor.dtype());
  std::vector<std::size_t> stride(rank);  // in the file, in elements
  std::size_t step = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    stride[axis] = step;
    step *= static_cast<std::size_t>(shape[axis]);
  }
  std::vector<std::int64_t> at(rank, 0);
  const std::byte* from = tensor.raw();
  std::byte* to = out.mutable_raw();
  std::size_t offset = 0;
  for (std::int64_t i = 0; i < tensor.elements(); ++i, to += size) {
    std::memcpy(to, from + offset * size, size);
    for (std::size_t axis = rank; axis-- > 0;) {
      offset += stride[axis];
      if (++at[axis] < shape[axis]) break;
      offset -= stride[axis] * static_cast<std::size_t>(shape[axis]);
      at[axis] = 0;
    }
  }
  return out;
}

/// Bytes as they lie in the file -> as we hold them.
Tensor finish(Tensor tensor, const NpyHeader& header) {
  if (header.swap_bytes) swap_bytes(tensor);
  if (header.dtype == DType::kBool) {
    for (std::uint8_t& value : tensor.mutable_as<std::uint8_t>()) value = value != 0 ? 1 : 0;
  }
  return header.fortran_order ? from_fortran_order(tensor) : tensor;
}

Error too_short(std::string_view where, const NpyHeader& header, std::uint64_t bytes) {
  return invalid_argument(std::string(where) + " is " +
                          std::string(graph::to_string(header.dtype)) + " " +
                          graph::to_string(header.shape) + " but has " + std::to_string(bytes) +
                          " bytes of data; expected " + std::to_string(header.data_bytes));
}

Error out_of_memory(const std::string& path) {
  return {ErrorCode::kResourceExhausted, path + ": memory ended while it was read"};
}

std::string npy_header(const Tensor& tensor, DType dtype) {
  static const std::map<DType, std::string> kDescr = {
      {DType::kF16, "<f2"}, {DType::kF32, "<f4"}, {DType::kF64, "<f8"}, {DType::kS8, "|i1"},
      {DType::kS16, "<i2"}, {DType::kS32, "<i4"}, {DType::kS64, "<i8"}, {DType::kU8, "|u1"},
      {DType::kU16, "<u2"}, {DType::kU32, "<u4"}, {DType::kU64, "<u8"}, {DType::kBool, "|b1"},
      {DType::kS4, "|i1"},  {DType::kU4, "|u1"}};
  std::string shape;
  for (const std::int64_t dim : tensor.shape()) shape += std::to_string(dim) + ", ";
  if (tensor.rank() > 1) shape.erase(shape.size() - 2);
  if (tensor.rank() == 1) shape.pop_back();
  std::string text = "{'descr': '" + kDescr.at(dtype) + "', 'fortran_order': False, 'shape': (" +
                     shape + "), }";
  constexpr std::size_t kAlign = 64;
  const std::size_t preamble = kMagic.size() + 4;
  text.append(kAlign - (preamble + text.size() + 1) % kAlign, ' ');
  text += '\n';
  std::string header(kMagic);
  header += '\1';
  header += '\0';
  header += static_cast<char>(text.size() & 0xFFU);
  header += static_cast<char>(text.size() >> 8U);
  return header + text;
}

std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace

Result<NpyHeader> parse_npy_header(std::span<const std::byte> bytes, std::string_view where) {
  const std::string start(where);
  if (bytes.size() < kMagic.size() + 4 ||
      std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return invalid_argument(start + " isn't a .npy array (its first bytes say otherwise)");
  }
  const auto byte = [&](std::size_t i) { return std::to_integer<std::size_t>(bytes[i]); };
  const std::size_t major = byte(6);
  if (major < 1 || major > 3 || byte(7) != 0) {
    return invalid_argument(start + " has .npy version " + std::to_string(major) + "." +
                            std::to_string(byte(7)) + "; expected 1.0, 2.0 or 3.0");
  }
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  const std::size_t text_at = 8 + length_bytes;
  if (bytes.size() < text_at) return invalid_argument(start + " ends within its header");
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= byte(8 + i) << (8 * i);
  if (length > kLongestHeader) {
    return invalid_argument(start + " has a header of " + std::to_string(length) +
                            " bytes; expected at most " + std::to_string(kLongestHeader));
  }
  if (bytes.size() - text_at < length) return invalid_argument(start + " ends within its header");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + text_at, length);

  HeaderParser::Fields fields;
  if (const auto wrong = HeaderParser(text).parse(fields)) {
    return invalid_argument(start + " has a malformed header; expected " + *wrong);
  }
  if (fields.structured) return unimplemented(start + " has a structured dtype; expected numbers");
  KERF_ASSIGN(const auto type, parse_descr(*fields.descr, where));
  NpyHeader header;
  header.dtype = type.first;
  header.swap_bytes = type.second;
  header.fortran_order = *fields.fortran_order;
  header.shape = *fields.shape;
  header.data_offset = text_at + length;
  // A dimension of 0 hides the others from element_count().
  Shape not_empty = header.shape;
  for (std::int64_t& dim : not_empty) dim = std::max<std::int64_t>(dim, 1);
  if (!graph::element_count(not_empty)) {
    return invalid_argument(start + " claims shape " + graph::to_string(header.shape) +
                            "; expected at most 2^40 elements");
  }
  header.data_bytes = static_cast<std::uint64_t>(*graph::element_count(header.shape)) *
                      graph::element_size(header.dtype);
  return header;
}

Result<Arrays> read_npz(const std::string& path, const NpzLimits& limits,
                        std::map<std::string, std::string>* left_out) {
  KERF_ASSIGN(const ZipArchive archive,
              ZipArchive::open(path, {limits.bytes, limits.arrays, limits.bomb_ratio,
                                      limits.bomb_bytes}));
  Arrays arrays;
  constexpr std::string_view kSuffix = ".npy";
  for (const ZipArchive::Member& member : archive.members()) {
    if (!member.name.ends_with(kSuffix)) {
      if (left_out != nullptr) (*left_out)[member.name] = "it isn't a .npy array";
      continue;
    }
    const std::string name = member.name.substr(0, member.name.size() - kSuffix.size());
    const std::string where = path + ": " + name;
    NpyHeader header;
    Tensor tensor;
    try {
      const auto read = archive.read(
          member, kLongestHeader + 12,
          [&](std::span<const std::byte> start) -> Result<std::span<std::byte>> {
            KERF_ASSIGN(header, parse_npy_header(start, where));
            const std::uint64_t bytes = member.bytes - header.data_offset;
            if (bytes != header.data_bytes) return too_short(where, header, bytes);
            tensor = Tensor(header.dtype, header.shape);
            const std::size_t had = start.size() - header.data_offset;
            if (had > 0) std::memcpy(tensor.mutable_raw(), start.data() + header.data_offset, had);
            return std::span<std::byte>(tensor.mutable_raw() + had, tensor.bytes() - had);
          });
      if (!read.has_value()) {
        if (read.error().code != ErrorCode::kUnimplemented) return read.error();
        if (left_out != nullptr) (*left_out)[name] = read.error().message.substr(path.size() + 2);
        continue;
      }
      arrays[name] = finish(std::move(tensor), header);
    } catch (const std::bad_alloc&) {
      return out_of_memory(path);
    }
  }
  return arrays;
}

Result<Tensor> read_npy(const std::string& path, const NpzLimits& limits) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return not_found(path + ": no such file, or it may not be read");
  const auto size = static_cast<std::uint64_t>(file.tellg());
  if (size > limits.bytes) {
    return invalid_argument(path + ": " + std::to_string(size) + " bytes; expected at most " +
                            std::to_string(limits.bytes));
  }
  file.seekg(0);
  std::vector<std::byte> start(
      static_cast<std::size_t>(std::min<std::uint64_t>(size, kLongestHeader + 12)));
  file.read(reinterpret_cast<char*>(start.data()), static_cast<std::streamsize>(start.size()));
  const std::string where = path + ": the array";
  KERF_ASSIGN(const NpyHeader header, parse_npy_header(start, where));
  if (size - header.data_offset != header.data_bytes) {
    return too_short(where, header, size - header.data_offset);
  }
  try {
    Tensor tensor(header.dtype, header.shape);
    file.clear();
    file.seekg(static_cast<std::streamoff>(header.data_offset));
    if (tensor.bytes() > 0 &&
        !file.read(reinterpret_cast<char*>(tensor.mutable_raw()),
                   static_cast<std::streamsize>(tensor.bytes()))) {
      return invalid_argument(where + " is truncated");
    }
    return finish(std::move(tensor), header);
  } catch (const std::bad_alloc&) {
    return out_of_memory(path);
  }
}

Result<void> write_npz(const std::string& path, const Arrays& arrays, bool compressed) {
  std::map<std::string, std::pair<std::string, Tensor>> parts;  // owns what the entries point to
  std::vector<ZipEntry> entries;
  for (const auto& [name, tensor] : arrays) {
    const Tensor written = tensor.dtype() == DType::kBF16 ? tensor.to_f32() : tensor;
    auto& part = parts[name] = {npy_header(written, written.dtype()), written};
    entries.push_back({name + ".npy",
                       {as_bytes(part.first), {part.second.raw(), part.second.bytes()}}});
  }
  return write_zip(path, entries, compressed);
}

std::vector<std::byte> npy_bytes(const Tensor& tensor) {
  const Tensor written = tensor.dtype() == DType::kBF16 ? tensor.to_f32() : tensor;
  const std::string header = npy_header(written, written.dtype());
  const auto start = as_bytes(header);
  std::vector<std::byte> out(start.begin(), start.end());
  out.insert(out.end(), written.raw(), written.raw() + written.bytes());
  return out;
}

}  // namespace kerf::data
