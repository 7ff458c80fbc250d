#include "workers/compress/storage_size.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <type_traits>

#include "workers/compress/layer.h"

namespace kerf::compress {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

std::int64_t bits_of(DType dtype) {
  if (dtype == DType::kS4 || dtype == DType::kU4) return 4;
  return static_cast<std::int64_t>(graph::element_size(dtype)) * 8;
}

std::int64_t non_zeros(const Tensor& tensor) {
  const std::size_t size = graph::element_size(tensor.dtype());
  const std::byte* at = tensor.raw();
  std::int64_t count = 0;
  if (tensor.dtype() == DType::kF32) {  // −0 is a zero as well
    for (const float value : tensor.as<float>()) count += value != 0.0F ? 1 : 0;
    return count;
  }
  for (std::int64_t i = 0; i < tensor.elements(); ++i, at += size) {
    count += std::any_of(at, at + size, [](std::byte b) { return b != std::byte{0}; }) ? 1 : 0;
  }
  return count;
}

std::int64_t tensor_size(const Tensor& tensor, std::int64_t bits) {
  const std::int64_t n = tensor.elements();
  const std::int64_t dense = (n * bits + 7) / 8;
  const std::int64_t sparse = (n + 7) / 8 + (non_zeros(tensor) * bits + 7) / 8;
  return 8 + 4 * static_cast<std::int64_t>(tensor.rank()) + std::min(dense, sparse);
}

std::int64_t attribute_size(const graph::Attribute& attribute) {
  return std::visit(
      [](const auto& value) -> std::int64_t {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::int64_t>) {
          return 8;
        } else if constexpr (std::is_same_v<T, float>) {
          return 4;
        } else if constexpr (std::is_same_v<T, std::string>) {
          return static_cast<std::int64_t>(value.size());
        } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
          return 8 * static_cast<std::int64_t>(value.size());
        } else if constexpr (std::is_same_v<T, std::vector<float>>) {
          return 4 * static_cast<std::int64_t>(value.size());
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          std::int64_t sum = 0;
          for (const std::string& text : value) sum += 2 + static_cast<std::int64_t>(text.size());
          return sum;
        } else if constexpr (std::is_same_v<T, Tensor>) {
          return tensor_size(value, bits_of(value.dtype()));
        } else {
          return value ? storage_size(*value) : 0;
        }
      },
      attribute);
}

}  // namespace

std::int64_t storage_size(const Graph& graph) {
  std::map<std::string, std::int64_t> bits;  // of constants that are stored in fewer than they have
  std::set<std::string> free;                // zero points without a cost
  std::int64_t size = 64;
  for (const Node& node : graph.nodes) {
    if (node.op == "DequantizeLinear" && node.has_input(0)) {
      if (const auto stored = node.integer("kerf_bits", 0); stored > 0)
        bits[node.inputs[0]] = stored;
    }
    if ((node.op == "DequantizeLinear" || node.op == "QuantizeLinear") && node.has_input(2)) {
      const Tensor* zero = graph.constant(node.inputs[2]);
      if (zero != nullptr && (zero->rank() == 0 || non_zeros(*zero) == 0))
        free.insert(node.inputs[2]);
    }
    if (node.text("kerf_precision", "") == "bf16") bits[weights_of(graph, node)] = 16;
    size += 8 + 4 * static_cast<std::int64_t>(node.inputs.size() + node.outputs.size());
    if (graph::is_layer(graph, node)) size += static_cast<std::int64_t>(node.name.size());
    for (const auto& [name, attribute] : node.attributes) {
      if (!name.starts_with("kerf_")) size += 2 + attribute_size(attribute);
    }
  }
  for (const auto& [name, tensor] : graph.initializers) {
    if (free.contains(name)) continue;
    const auto stored = bits.find(name);
    size += tensor_size(tensor, stored != bits.end() ? stored->second : bits_of(tensor.dtype()));
  }
  const auto port_size = [](const graph::ValueInfo& port) {
    return 4 + static_cast<std::int64_t>(port.name.size()) +
           8 * static_cast<std::int64_t>(port.shape.size());
  };
  for (const graph::ValueInfo& input : graph.inputs) size += port_size(input);
  for (const graph::ValueInfo& output : graph.outputs) size += port_size(output);
  return size;
}

}  // namespace kerf::compress
