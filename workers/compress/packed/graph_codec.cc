#include "workers/compress/packed/graph_codec.h"

#include <cstring>
#include <unordered_map>

#include "workers/compress/packed/wire.h"

namespace kerf::compress::packed {
namespace {

using graph::Attribute;
using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

constexpr int kDeepest = 8;  // graphs within graphs
constexpr std::uint64_t kMostRank = 64;
constexpr std::size_t kLeastBudget = 1U << 20U;  // bytes in memory of a graph that is read
constexpr std::size_t kBudgetShare = 64;         // more for each byte of its text

std::uint32_t float_bits(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

/// Names get numbers in the order in which they first come up; the table stands in front.
class Encoder {
 public:
  explicit Encoder(std::vector<const Tensor*>& tensors) : tensors_(tensors) {}

  std::string encode(const Graph& graph) {
    body(graph, true);
    std::string out;
    Writer head(out);
    head.varint(names_.size());
    for (const std::string& name : names_) head.text(name);
    return out + body_;
  }

 private:
  void name(const std::string& text) {
    const auto [place, fresh] = index_.try_emplace(text, names_.size());
    if (fresh) names_.push_back(text);
    out_.varint(place->second);
  }

  void shape(const Shape& dims) {
    out_.varint(dims.size());
    for (const std::int64_t dim : dims) out_.zigzag(dim);
  }

  void port(const graph::ValueInfo& value) {
    name(value.name);
    out_.u8(static_cast<unsigned>(value.dtype));
    shape(value.shape);
  }

  void elements(const Tensor& tensor) {
    out_.bytes({reinterpret_cast<const char*>(tensor.raw()), tensor.bytes()});
  }

  void body(const Graph& graph, bool whole) {
    out_.text(graph.name);
    out_.zigzag(graph.opset);
    std::size_t kept = 0;
    for (const auto& [key, value] : graph.metadata) kept += key != kSourceKey || !whole ? 1 : 0;
    out_.varint(kept);
    for (const auto& [key, value] : graph.metadata) {
      if (key == kSourceKey && whole) continue;
      out_.text(key);
      out_.text(value);
    }
    for (const auto* ports : {&graph.inputs, &graph.outputs}) {
      out_.varint(ports->size());
      for (const graph::ValueInfo& value : *ports) port(value);
    }
    out_.varint(graph.initializers.size());
    for (const auto& [key, tensor] : graph.initializers) {
      name(key);
      out_.u8(static_cast<unsigned>(tensor.dtype()));
      shape(tensor.shape());
      const bool apart = whole && tensor.bytes() > kInlineBytes;
      out_.u8(apart ? 1 : 0);
      if (apart) {
        tensors_.push_back(&tensor);
      } else {
        elements(tensor);
      }
    }
    out_.varint(graph.nodes.size());
    for (const Node& made : graph.nodes) node(made);
  }

  void node(const Node& node) {
    name(node.name);
    name(node.op);
    name(node.domain);
    for (const auto* list : {&node.inputs, &node.outputs}) {
      out_.varint(list->size());
      for (const std::string& value : *list) name(value);
    }
    std::size_t kept = 0;
    for (const auto& [key, value] : node.attributes) kept += key.starts_with("kerf_") ? 0 : 1;
    out_.varint(kept);
    for (const auto& [key, value] : node.attributes) {
      if (key.starts_with("kerf_")) continue;
      name(key);
      attribute(value);
    }
  }

  void attribute(const Attribute& value) {
    out_.u8(value.index());
    if (const auto* i = std::get_if<std::int64_t>(&value)) {
      out_.zigzag(*i);
    } else if (const auto* f = std::get_if<float>(&value)) {
      out_.u32(float_bits(*f));
    } else if (const auto* s = std::get_if<std::string>(&value)) {
      out_.text(*s);
    } else if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&value)) {
      out_.varint(ints->size());
      for (const std::int64_t item : *ints) out_.zigzag(item);
    } else if (const auto* floats = std::get_if<std::vector<float>>(&value)) {
      out_.varint(floats->size());
      for (const float item : *floats) out_.u32(float_bits(item));
    } else if (const auto* strings = std::get_if<std::vector<std::string>>(&value)) {
      out_.varint(strings->size());
      for (const std::string& item : *strings) out_.text(item);
    } else if (const auto* tensor = std::get_if<Tensor>(&value)) {
      out_.u8(static_cast<unsigned>(tensor->dtype()));
      shape(tensor->shape());
      elements(*tensor);
    } else {
      const auto& inner = std::get<std::shared_ptr<const Graph>>(value);
      out_.u8(inner ? 1 : 0);
      if (inner) body(*inner, false);
    }
  }

  std::vector<const Tensor*>& tensors_;
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<std::string> names_;
  std::string body_;
  Writer out_{body_};
};

/// Every length is bounded by the bytes that are left, so that a wrong one takes no memory.
class Decoder {
 public:
  Decoder(std::string_view text, std::vector<TensorSlot>& slots)
      : in_(text), slots_(slots), budget_(kLeastBudget + kBudgetShare * text.size()) {}

  bool decode(Graph& graph) {
    const std::uint64_t names = in_.count();
    for (std::uint64_t i = 0; i < names && in_.ok(); ++i) names_.emplace_back(in_.text());
    return in_.ok() && body(graph, 0) && in_.finished();
  }

 private:
  std::string name() {
    const std::uint64_t index = in_.varint();
    if (!in_.ok() || index >= names_.size()) {
      in_.fail();
      return {};
    }
    const std::string& out = names_[static_cast<std::size_t>(index)];
    spend(sizeof(std::string) + out.size());
    return in_.ok() ? out : std::string();
  }

  /// Few bytes may name much: what they make has to stay in proportion to them.
  void spend(std::size_t bytes) {
    if (bytes > budget_) {
      in_.fail();
      return;
    }
    budget_ -= bytes;
  }

  DType dtype() {
    const std::uint8_t code = in_.u8();
    if (code > static_cast<std::uint8_t>(DType::kU4)) in_.fail();
    return in_.ok() ? static_cast<DType>(code) : DType::kF32;
  }

  Shape shape() {
    Shape out;
    const std::uint64_t rank = in_.count();
    if (rank > kMostRank) in_.fail();
    for (std::uint64_t i = 0; i < rank && in_.ok(); ++i) out.push_back(in_.zigzag());
    return out;
  }

  bool elements(DType dtype, const Shape& dims, Tensor& tensor) {
    const auto count = graph::element_count(dims);
    if (!in_.ok() || !count) return false;
    const std::size_t element = graph::element_size(dtype);
    if (static_cast<std::size_t>(*count) > in_.left() / element) return false;
    const std::string_view bytes = in_.bytes(static_cast<std::size_t>(*count) * element);
    tensor = Tensor(dtype, dims);
    if (!bytes.empty()) std::memcpy(tensor.mutable_raw(), bytes.data(), bytes.size());
    return in_.ok();
  }

  bool body(Graph& graph, int depth) {
    if (depth > kDeepest) return false;
    graph.name = in_.text();
    graph.opset = in_.zigzag();
    const std::uint64_t entries = in_.count(2);
    for (std::uint64_t i = 0; i < entries && in_.ok(); ++i) {
      const std::string key(in_.text());
      graph.metadata[key] = in_.text();
    }
    for (auto* ports : {&graph.inputs, &graph.outputs}) {
      const std::uint64_t count = in_.count(3);
      for (std::uint64_t i = 0; i < count && in_.ok(); ++i) {
        graph::ValueInfo value;
        value.name = name();
        value.dtype = dtype();
        value.shape = shape();
        ports->push_back(std::move(value));
      }
    }
    const std::uint64_t tensors = in_.count(4);
    for (std::uint64_t i = 0; i < tensors && in_.ok(); ++i) {
      const std::string key = name();
      spend(sizeof(Tensor));
      const DType type = dtype();
      Shape dims = shape();
      const std::uint8_t apart = in_.u8();
      if (!in_.ok() || apart > 1 || graph.initializers.contains(key)) return false;
      if (apart == 1) {
        if (depth > 0) return false;
        graph.initializers[key];
        slots_.push_back({key, type, std::move(dims)});
      } else if (!elements(type, dims, graph.initializers[key])) {
        return false;
      }
    }
    const std::uint64_t nodes = in_.count(6);
    for (std::uint64_t i = 0; i < nodes && in_.ok(); ++i) {
      spend(sizeof(Node));
      graph.nodes.emplace_back();
      if (!node(graph.nodes.back(), depth)) return false;
    }
    return in_.ok();
  }

  bool node(Node& node, int depth) {
    node.name = name();
    node.op = name();
    node.domain = name();
    for (auto* list : {&node.inputs, &node.outputs}) {
      const std::uint64_t count = in_.count();
      for (std::uint64_t i = 0; i < count && in_.ok(); ++i) list->push_back(name());
    }
    const std::uint64_t count = in_.count(2);
    for (std::uint64_t i = 0; i < count && in_.ok(); ++i) {
      const std::string key = name();
      spend(sizeof(Attribute));
      if (!in_.ok() || !attribute(node.attributes[key], depth)) return false;
    }
    return in_.ok();
  }

  bool attribute(Attribute& value, int depth) {
    const std::uint8_t kind = in_.u8();
    if (!in_.ok()) return false;
    switch (kind) {
      case 0: value = in_.zigzag(); break;
      case 1: value = float_of(in_.u32()); break;
      case 2: value = std::string(in_.text()); break;
      case 3: {
        std::vector<std::int64_t> items;
        const std::uint64_t count = in_.count();
        for (std::uint64_t i = 0; i < count && in_.ok(); ++i) items.push_back(in_.zigzag());
        value = std::move(items);
        break;
      }
      case 4: {
        std::vector<float> items;
        const std::uint64_t count = in_.count(4);
        for (std::uint64_t i = 0; i < count && in_.ok(); ++i) items.push_back(float_of(in_.u32()));
        value = std::move(items);
        break;
      }
      case 5: {
        std::vector<std::string> items;
        const std::uint64_t count = in_.count();
        for (std::uint64_t i = 0; i < count && in_.ok(); ++i) items.emplace_back(in_.text());
        value = std::move(items);
        break;
      }
      case 6: {
        const DType type = dtype();
        const Shape dims = shape();
        Tensor tensor;
        if (!elements(type, dims, tensor)) return false;
        value = std::move(tensor);
        break;
      }
      case 7: {
        const std::uint8_t there = in_.u8();
        if (!in_.ok() || there > 1) return false;
        if (there == 0) {
          value = std::shared_ptr<const Graph>();
          break;
        }
        auto inner = std::make_shared<Graph>();
        if (!body(*inner, depth + 1)) return false;
        value = std::shared_ptr<const Graph>(std::move(inner));
        break;
      }
      default: return false;
    }
    return in_.ok();
  }

  Reader in_;
  std::vector<TensorSlot>& slots_;
  std::size_t budget_;
  std::vector<std::string> names_;
};

}  // namespace

std::string encode_graph(const Graph& graph, std::vector<const Tensor*>& tensors) {
  return Encoder(tensors).encode(graph);
}

Result<Graph> decode_graph(std::string_view text, std::vector<TensorSlot>& slots) {
  Graph graph;
  if (!Decoder(text, slots).decode(graph)) {
    return invalid_argument("packed model: its graph can't be read");
  }
  return graph;
}

}  // namespace kerf::compress::packed
