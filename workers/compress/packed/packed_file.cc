#include "workers/compress/packed/packed_file.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "workers/compress/packed/crc32c.h"
#include "workers/compress/packed/graph_codec.h"
#include "workers/compress/packed/tensor_codec.h"
#include "workers/compress/packed/text_codec.h"
#include "workers/compress/packed/wire.h"
#include "workers/graph/digest.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Tensor;
using packed::Reader;
using packed::Writer;

constexpr std::string_view kMagic("\x89KERF\r\n\x1a", 8);
constexpr std::uint16_t kVersion = 1;
constexpr std::uint16_t kHasSource = 1;
constexpr std::size_t kHeaderBytes = 52;
constexpr std::size_t kHashBytes = 32;
constexpr std::uint8_t kGraphSection = 1;
constexpr std::uint8_t kTensorSection = 2;
constexpr std::size_t kMostBytes = std::size_t{1} << 31U;  // of the file, and of what it holds
constexpr std::size_t kMostText = std::size_t{16} << 20U;
constexpr std::string_view kHashPrefix = "sha256:";

std::size_t section_size(std::size_t payload) {
  return 1 + packed::varint_size(payload) + payload + 4;
}

/// The 32 bytes of "sha256:" and 64 hex digits; nullopt for any other text.
std::optional<std::string> hash_bytes(const std::string& text) {
  if (text.size() != kHashPrefix.size() + 2 * kHashBytes || !text.starts_with(kHashPrefix)) {
    return std::nullopt;
  }
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  std::string out;
  for (std::size_t i = kHashPrefix.size(); i < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
  }
  return out;
}

std::string hash_text(std::string_view bytes) {
  std::string out(kHashPrefix);
  for (const char c : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    out.push_back(kDigits[static_cast<std::uint8_t>(c) >> 4U]);
    out.push_back(kDigits[static_cast<std::uint8_t>(c) & 0x0FU]);
  }
  return out;
}

void add_section(std::uint8_t kind, std::string_view payload, std::string& out) {
  const std::size_t begin = out.size();
  Writer writer(out);
  writer.u8(kind);
  writer.varint(payload.size());
  writer.bytes(payload);
  writer.u32(packed::crc32c(std::string_view(out).substr(begin)));
}

/// The graph's section, and the tensors that get their own.
struct Parts {
  std::string graph;
  std::vector<const Tensor*> tensors;
  bool too_long = false;

  explicit Parts(const Graph& source) {
    const std::string text = packed::encode_graph(source, tensors);
    too_long = text.size() > kMostText;
    graph = packed::shorten(text);
  }
};

/// Sizes of tensors' payloads by content: candidates of one model differ in a few layers, and the
/// forms of the others needn't be tried again.
class PayloadSizes {
 public:
  std::size_t of(const Tensor& tensor) {
    const Key key{graph::digest(tensor.raw(), tensor.bytes()), tensor.dtype(), tensor.bytes()};
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (const auto known = sizes_.find(key); known != sizes_.end()) return known->second;
    }
    const std::size_t size = packed::TensorPlan(tensor).size();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (sizes_.size() >= kMost) sizes_.clear();
    sizes_[key] = size;
    return size;
  }

 private:
  using Key = std::tuple<graph::Digest, graph::DType, std::size_t>;
  static constexpr std::size_t kMost = 1U << 15U;  // about 3 MiB

  std::mutex mutex_;
  std::map<Key, std::size_t> sizes_;
};

PayloadSizes& payload_sizes() {
  static PayloadSizes made;
  return made;
}

Error damaged(const std::string& what) {
  return invalid_argument("packed model: " + what);
}

/// The payload of the next section, its checksum verified.
Result<std::string_view> read_section(std::string_view bytes, std::size_t& at, std::uint8_t kind,
                                      const std::string& what) {
  Reader in(bytes.substr(at));
  const std::uint8_t found = in.u8();
  const std::uint64_t size = in.varint();
  const std::string_view payload = in.bytes(size);
  const std::size_t covered = bytes.size() - at - in.left();
  const std::uint32_t sum = in.u32();
  if (!in.ok()) return damaged("it ends within " + what);
  if (packed::crc32c(bytes.substr(at, covered)) != sum) return damaged(what + " is damaged");
  if (found != kind) return damaged(what + " is of another kind");
  at += covered + 4;
  return payload;
}

}  // namespace

Result<std::string> pack(const Graph& graph) {
  const Parts parts(graph);
  if (parts.too_long) {
    return Error{ErrorCode::kResourceExhausted,
                 "the graph without its weights is larger than 16 MiB"};
  }
  std::string out;
  Writer header(out);
  const auto source = graph.metadata.find(packed::kSourceKey);
  const auto hash = source == graph.metadata.end() ? std::nullopt : hash_bytes(source->second);
  if (source != graph.metadata.end() && !hash) {
    return invalid_argument("metadata " + source->first + ": " + source->second +
                            "; expected sha256: and 64 hex digits");
  }
  header.bytes(kMagic);
  header.u16(kVersion);
  header.u16(hash ? kHasSource : 0U);
  header.bytes(hash.value_or(std::string(kHashBytes, '\0')));
  header.u32(parts.tensors.size());
  header.u32(packed::crc32c(out));
  add_section(kGraphSection, parts.graph, out);
  std::string payload;
  for (const Tensor* tensor : parts.tensors) {
    payload.clear();
    packed::TensorPlan(*tensor).write(payload);
    add_section(kTensorSection, payload, out);
    if (out.size() > kMostBytes) {
      return Error{ErrorCode::kResourceExhausted, "the packed model is larger than 2 GiB"};
    }
  }
  return out;
}

std::int64_t packed_size(const Graph& graph) {
  const Parts parts(graph);
  std::size_t size = kHeaderBytes + section_size(parts.graph.size());
  for (const Tensor* tensor : parts.tensors) size += section_size(payload_sizes().of(*tensor));
  return static_cast<std::int64_t>(size);
}

Result<Graph> unpack(std::string_view bytes) {
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return invalid_argument("not a packed model: it doesn't begin with \\x89KERF");
  }
  if (bytes.size() < kHeaderBytes) return damaged("it ends within its header");
  Reader header(bytes.substr(kMagic.size(), kHeaderBytes - kMagic.size()));
  const std::uint16_t version = header.u16();
  const std::uint16_t flags = header.u16();
  const std::string_view source = header.bytes(kHashBytes);
  const std::uint32_t count = header.u32();
  if (header.u32() != packed::crc32c(bytes.substr(0, kHeaderBytes - 4))) {
    return damaged("its header is damaged");
  }
  if (version != kVersion) {
    return unimplemented("packed model: version " + std::to_string(version) +
                         "; this build reads version " + std::to_string(kVersion));
  }
  if ((flags & ~kHasSource) != 0) return damaged("its header has unknown flags");

  std::size_t at = kHeaderBytes;
  KERF_ASSIGN(const std::string_view graph_payload,
              read_section(bytes, at, kGraphSection, "the section of its graph"));
  Reader graph_in(graph_payload);
  std::string text;
  if (!packed::lengthen(graph_in, kMostText, text)) return damaged("its graph can't be read");
  std::vector<packed::TensorSlot> slots;
  KERF_ASSIGN(Graph graph, packed::decode_graph(text, slots));
  if (slots.size() != count) {
    return damaged("it has " + std::to_string(count) + " tensors; its graph names " +
                   std::to_string(slots.size()));
  }
  std::size_t held = 0;
  for (const packed::TensorSlot& slot : slots) {
    KERF_ASSIGN(const std::string_view payload,
                read_section(bytes, at, kTensorSection, "the tensor '" + slot.name + "'"));
    if (!packed::read_tensor(payload, slot.dtype, slot.shape, graph.initializers[slot.name])) {
      return damaged("the tensor '" + slot.name + "' can't be read");
    }
    held += graph.initializers[slot.name].bytes();
    if (held > kMostBytes) {
      return Error{ErrorCode::kResourceExhausted, "packed model: it holds more than 2 GiB"};
    }
  }
  if (at != bytes.size()) {
    return damaged("it goes on for " + std::to_string(bytes.size() - at) +
                   " bytes after its last section");
  }
  if ((flags & kHasSource) != 0) graph.metadata[packed::kSourceKey] = hash_text(source);
  const auto checked = graph.check();
  if (!checked.has_value()) return damaged("its graph is none: " + checked.error().message);
  return graph;
}

}  // namespace kerf::compress
