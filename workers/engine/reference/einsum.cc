// Einsum: any number of operands, one sum over all letters that the output lacks.
#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"
#include "workers/graph/einsum.h"

namespace kerf::engine::reference {
namespace {

Outputs einsum(const Node& node, Inputs inputs) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (inputs[i].dtype() != DType::kF32) return bad(node, "expected f32");
    ranks.push_back(inputs[i].rank());
  }
  const auto equation = graph::parse_einsum(node.text("equation", ""), ranks);
  if (!equation) return bad(node, "the equation doesn't fit the inputs");
  // Letters of the output first: the walk then meets each output element in one run.
  std::string letters = equation->output;
  for (const std::string& input : equation->inputs) {
    for (const char c : input) {
      if (letters.find(c) == std::string::npos) letters += c;
    }
  }
  Shape extents(letters.size(), 1);
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    for (std::size_t k = 0; k < ranks[i]; ++k) {
      std::int64_t& extent = extents[letters.find(equation->inputs[i][k])];
      const std::int64_t own = inputs[i].dim(k);
      if (extent != own && extent != 1 && own != 1) return bad(node, "axes of one letter differ");
      if (own != 1) extent = own;
    }
  }
  const Shape shape(extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(equation->output.size()));
  if (!graph::element_count(shape)) return bad(node, "dimensions overflow");
  Tensor out(DType::kF32, shape);
  std::vector<Shape> strides;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    Shape own(letters.size(), 0);
    const Shape plain = row_major_strides(inputs[i].shape());
    for (std::size_t k = 0; k < ranks[i]; ++k) {
      if (inputs[i].dim(k) != 1) own[letters.find(equation->inputs[i][k])] += plain[k];
    }
    strides.push_back(std::move(own));
  }
  for (const std::int64_t extent : extents) {
    if (extent == 0) return std::vector<Tensor>{std::move(out)};
  }
  const auto to = out.mutable_as<float>();
  Shape index(letters.size(), 0);
  for (float& result : to) {
    double sum = 0;
    bool more = true;
    while (more) {
      double product = 1;
      for (std::size_t i = 0; i < strides.size(); ++i) {
        std::int64_t at = 0;
        for (std::size_t k = 0; k < index.size(); ++k) at += index[k] * strides[i][k];
        product *= static_cast<double>(inputs[i].as<float>()[static_cast<std::size_t>(at)]);
      }
      sum += product;
      more = false;
      for (std::size_t k = index.size(); k-- > shape.size();) {
        if (++index[k] < extents[k]) {
          more = true;
          break;
        }
        index[k] = 0;
      }
    }
    result = static_cast<float>(sum);
    for (std::size_t k = shape.size(); k-- > 0;) {
      if (++index[k] < extents[k]) break;
      index[k] = 0;
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_einsum(Registry& registry) { registry["Einsum"] = einsum; }

}  // namespace kerf::engine::reference
