#include "workers/graph/fingerprint.h"

#include <type_traits>

namespace kerf::graph {
namespace {

Digest of(const std::string& text) { return digest(text.data(), text.size()); }

template <class T>
Digest of_number(const T& number) {
  return digest(&number, sizeof number);
}

template <class T>
Digest of_numbers(const std::vector<T>& numbers) {
  return digest(numbers.data(), numbers.size() * sizeof(T));
}

Digest of(const Tensor& tensor) {
  return of_number(tensor.dtype()) + of_numbers(tensor.shape()) + digest(tensor.raw(), tensor.bytes());
}

Digest of(const Attribute& attribute) {
  const Digest value = std::visit(
      [](const auto& held) -> Digest {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::string> || std::is_same_v<Held, Tensor>) {
          return of(held);
        } else if constexpr (std::is_same_v<Held, std::vector<std::int64_t>> || std::is_same_v<Held, std::vector<float>>) {
          return of_numbers(held);
        } else if constexpr (std::is_same_v<Held, std::vector<std::string>>) {
          Digest all = of_number(held.size());
          for (const std::string& text : held) all = all + of(text);
          return all;
        } else if constexpr (std::is_same_v<Held, std::shared_ptr<const Graph>>) {
          // A body reads values of the graph around it: equal to itself only.
          return of_number(held.get());
        } else {
          return of_number(held);
        }
      },
      attribute);
  return of_number(attribute.index()) + value;
}

}  // namespace

std::map<std::string, Digest> fingerprints(const Graph& graph) {
  std::map<std::string, Digest> out;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    out[graph.inputs[i].name] = of(std::string("input")) + of_number(i) + of_number(graph.inputs[i].dtype);
  }
  std::map<std::string, Digest> constants;
  const auto of_value = [&](const std::string& name) {
    if (name.empty()) return Digest{};
    if (const auto known = out.find(name); known != out.end()) return known->second;
    const auto [constant, fresh] = constants.try_emplace(name);
    if (fresh) {
      const Tensor* tensor = graph.constant(name);
      constant->second = tensor != nullptr ? of(*tensor) : of(name);
    }
    return constant->second;
  };
  for (const Node& node : graph.nodes) {
    Digest made = of(node.op) + of(node.domain);
    for (const auto& [name, attribute] : node.attributes) made = made + of(name) + of(attribute);
    for (const std::string& input : node.inputs) made = made + of_value(input);
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      if (!node.outputs[k].empty()) out[node.outputs[k]] = made + of_number(k);
    }
  }
  return out;
}

}  // namespace kerf::graph
