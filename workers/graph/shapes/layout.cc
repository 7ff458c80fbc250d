// Ops that keep every element and change how they are laid out.
#include <algorithm>

#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

constexpr std::int64_t kMaxCount = 1LL << 40U;

/// A product kept apart: what is known of it and the symbols in it.
struct Factors {
  std::int64_t known = 1;
  std::vector<std::int64_t> symbols;
  bool overflow = false;

  void take(std::int64_t dim) {
    if (dim < 0) {
      symbols.push_back(dim);
    } else if (dim != 0 && known > kMaxCount / dim) {
      overflow = true;
    } else {
      known *= dim;
    }
  }
};

/// Takes away the symbols that stand in both; false where something unknown is left.
bool cancel(Factors& a, Factors& b) {
  for (auto it = a.symbols.begin(); it != a.symbols.end();) {
    const auto other =
        *it == kUnknown ? b.symbols.end() : std::find(b.symbols.begin(), b.symbols.end(), *it);
    if (other == b.symbols.end()) {
      ++it;
    } else {
      b.symbols.erase(other);
      it = a.symbols.erase(it);
    }
  }
  return std::find(a.symbols.begin(), a.symbols.end(), kUnknown) == a.symbols.end() &&
         std::find(b.symbols.begin(), b.symbols.end(), kUnknown) == b.symbols.end();
}

Result<void> reshape(Call& call) {
  const Elements* target = call.elements(1);
  if (call.rank(1) != 1 || is_float(call.dtype(1))) {
    return call.fail("the target shape must be a vector of integers");
  }
  if (target == nullptr) {
    return call.fail("target shape '" + call.node.inputs[1] +
                     "' must be a constant or follow from shapes");
  }
  const Shape& from = call.shape(0);
  const bool zero_means_zero = call.node.integer("allowzero", 0) != 0;
  Shape out;
  std::optional<std::size_t> open;
  for (std::size_t i = 0; i < target->size(); ++i) {
    const Element& element = (*target)[i];
    std::int64_t dim = to_dim(element);
    if (element.known() && (dim < -1 || dim > kMaxCount)) {
      return call.fail("the target shape holds " + std::to_string(dim));
    }
    if (element.known() && dim == -1) {
      if (open) return call.fail("the target shape holds -1 twice");
      open = i;
    } else if (element.known() && dim == 0 && !zero_means_zero) {
      if (i >= from.size())
        return call.fail("the target shape's 0 copies a dimension that isn't there");
      dim = from[i];
    }
    out.push_back(dim);
  }
  Factors have;
  for (const std::int64_t dim : from) have.take(dim);
  Factors want;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!open || i != *open) want.take(out[i]);
  }
  if (want.overflow || have.overflow) return call.fail("the target shape overflows");
  const auto mismatch = [&] {
    return call.fail("cannot reshape " + to_string(from) + " to " + to_string(out));
  };
  const bool definite = cancel(have, want);
  if (open) {
    std::int64_t& dim = out[*open];
    dim = kUnknown;
    if (definite && want.symbols.empty() && have.symbols.empty()) {
      if (want.known == 0 || have.known % want.known != 0) {
        dim = -1;
        return mismatch();
      }
      dim = have.known / want.known;
    } else if (definite && want.symbols.empty() && have.symbols.size() == 1 && want.known != 0) {
      if (have.known == want.known) dim = have.symbols.front();
    }
  } else if (definite && have.symbols.empty() && want.symbols.empty() && have.known != want.known) {
    return mismatch();
  }
  call.set(0, call.dtype(0), std::move(out), call.in[0]->elements);
  return {};
}

Result<void> flatten(Call& call) {
  const std::int64_t rank = call.rank(0);
  std::int64_t axis = call.node.integer("axis", 1);
  if (axis < -rank || axis > rank) {
    return call.fail("axis " + std::to_string(axis) + " doesn't exist in rank " +
                     std::to_string(rank));
  }
  if (axis < 0) axis += rank;
  const Shape& x = call.shape(0);
  const auto rows = product(Shape(x.begin(), x.begin() + axis));
  const auto columns = product(Shape(x.begin() + axis, x.end()));
  if (!rows || !columns) return call.fail("dimensions overflow");
  call.set(0, call.dtype(0), {*rows, *columns}, call.in[0]->elements);
  return {};
}

Result<void> squeeze(Call& call) {
  const Shape& x = call.shape(0);
  std::vector<bool> gone(x.size(), false);
  if (call.has(1)) {
    KERF_ASSIGN(const std::vector<std::int64_t> axes, call.integers(1, "axes"));
    for (const std::int64_t raw : axes) {
      KERF_ASSIGN(const std::int64_t axis, call.axis(raw, call.rank(0)));
      const auto at = static_cast<std::size_t>(axis);
      if (!compatible(x[at], 1)) {
        return call.fail("cannot squeeze axis " + std::to_string(axis) + " of " + to_string(x));
      }
      gone[at] = true;
    }
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) gone[i] = x[i] == 1;
  }
  Shape out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!gone[i]) out.push_back(x[i]);
  }
  call.set(0, call.dtype(0), std::move(out), call.in[0]->elements);
  return {};
}

Result<void> unsqueeze(Call& call) {
  KERF_ASSIGN(const std::vector<std::int64_t> axes, call.integers(1, "axes"));
  const std::int64_t rank = call.rank(0) + static_cast<std::int64_t>(axes.size());
  if (rank > static_cast<std::int64_t>(kMaxRank)) return call.fail("rank would be above 16");
  Shape out(static_cast<std::size_t>(rank), 0);
  for (const std::int64_t raw : axes) {
    KERF_ASSIGN(const std::int64_t axis, call.axis(raw, rank));
    if (out[static_cast<std::size_t>(axis)] == 1) return call.fail("an axis stands twice");
    out[static_cast<std::size_t>(axis)] = 1;
  }
  std::size_t next = 0;
  for (std::int64_t& dim : out) {
    if (dim == 0) dim = call.shape(0)[next++];
  }
  call.set(0, call.dtype(0), std::move(out), call.in[0]->elements);
  return {};
}

Result<void> transpose(Call& call) {
  const Shape& x = call.shape(0);
  std::vector<std::int64_t> order = call.node.integers("perm");
  if (order.empty()) {
    for (std::int64_t i = call.rank(0); i-- > 0;) order.push_back(i);
  }
  std::vector<bool> used(x.size(), false);
  Shape out;
  for (const std::int64_t axis : order) {
    if (axis < 0 || axis >= call.rank(0) || used[static_cast<std::size_t>(axis)] ||
        order.size() != x.size()) {
      return call.fail("perm " + to_string(order) + " isn't an order of the " +
                       std::to_string(x.size()) + " axes");
    }
    used[static_cast<std::size_t>(axis)] = true;
    out.push_back(x[static_cast<std::size_t>(axis)]);
  }
  call.set(0, call.dtype(0), std::move(out), x.size() <= 1 ? call.in[0]->elements : nullptr);
  return {};
}

Result<std::int64_t> block_size(const Call& call) {
  KERF_TRY(call.want_rank(0, 4, 4));
  const std::int64_t block = call.node.integer("blocksize", 0);
  if (block < 1 || block > 1 << 15) return call.fail("blocksize must be positive");
  return block;
}

Result<void> depth_to_space(Call& call) {
  KERF_ASSIGN(const std::int64_t block, block_size(call));
  Shape out = call.shape(0);
  if (out[1] >= 0 && out[1] % (block * block) != 0) {
    return call.fail("channels don't divide by blocksize " + std::to_string(block) + " squared");
  }
  if (out[2] > kMaxCount / block || out[3] > kMaxCount / block)
    return call.fail("dimensions overflow");
  out[1] = out[1] < 0 ? kUnknown : out[1] / (block * block);
  out[2] = out[2] < 0 ? kUnknown : out[2] * block;
  out[3] = out[3] < 0 ? kUnknown : out[3] * block;
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> space_to_depth(Call& call) {
  KERF_ASSIGN(const std::int64_t block, block_size(call));
  Shape out = call.shape(0);
  for (const std::size_t i : {2U, 3U}) {
    if (out[i] >= 0 && out[i] % block != 0) {
      return call.fail("height and width must divide by blocksize " + std::to_string(block));
    }
    out[i] = out[i] < 0 ? kUnknown : out[i] / block;
  }
  if (out[1] > kMaxCount / (block * block)) return call.fail("dimensions overflow");
  out[1] = out[1] < 0 ? kUnknown : out[1] * block * block;
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

}  // namespace

void register_layout(Registry& registry) {
  registry["Reshape"] = {reshape, 2, 2, 1};
  registry["Flatten"] = {flatten, 1, 1, 1};
  registry["Squeeze"] = {squeeze, 1, 2, 1};
  registry["Unsqueeze"] = {unsqueeze, 2, 2, 1};
  registry["Transpose"] = {transpose, 1, 1, 1};
  registry["DepthToSpace"] = {depth_to_space, 1, 1, 1};
  registry["SpaceToDepth"] = {space_to_depth, 1, 1, 1};
}

}  // namespace kerf::graph::shapes
