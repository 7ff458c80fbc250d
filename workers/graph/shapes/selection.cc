// Ops that pick, join or cut: Concat, Split, Slice, Gather, GatherElements, OneHot, Trilu,
// Scatter*.
#include <algorithm>
#include <numeric>

#include "workers/graph/shapes/call.h"

namespace kerf::graph::shapes {
namespace {

using Shared = std::shared_ptr<const Elements>;

Result<void> concat(Call& call) {
  if (!call.node.attributes.contains("axis")) return call.fail("attribute axis is missing");
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", 0), call.rank(0)));
  const auto along = static_cast<std::size_t>(axis);
  Shape out = call.shape(0);
  auto joined = std::make_shared<Elements>();
  bool followed = out.size() == 1;
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    if (!call.has(i)) return call.fail("input " + std::to_string(i) + " must be given");
    KERF_TRY(call.want_same_dtype(0, i));
    const Shape& next = call.shape(i);
    if (next.size() != out.size()) return call.fail("inputs differ in rank");
    followed = followed && call.elements(i) != nullptr &&
               static_cast<std::int64_t>(joined->size()) <= kMaxFollowed;
    if (followed) joined->insert(joined->end(), call.elements(i)->begin(), call.elements(i)->end());
    if (i == 0) continue;
    for (std::size_t d = 0; d < out.size(); ++d) {
      if (d == along) {
        if (out[d] >= 0 && next[d] >= 0)
          out[d] += next[d];
        else if (next[d] != 0)
          out[d] = out[d] == 0 ? next[d] : kUnknown;
      } else if (!compatible(out[d], next[d])) {
        return call.fail("inputs differ along axis " + std::to_string(d) + ", only axis " +
                         std::to_string(axis) + " may differ");
      } else {
        out[d] = merge(out[d], next[d]);
      }
    }
    if (out[along] > (1LL << 40U)) return call.fail("dimensions overflow");
  }
  call.set(0, call.dtype(0), std::move(out), followed ? Shared(joined) : nullptr);
  return {};
}

Result<void> split(Call& call) {
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", 0), call.rank(0)));
  const std::int64_t dim = call.shape(0)[static_cast<std::size_t>(axis)];
  const auto parts = static_cast<std::int64_t>(call.out.size());
  std::vector<std::int64_t> sizes;
  if (call.has(1)) {
    KERF_ASSIGN(sizes, call.integers(1, "split"));
    std::int64_t sum = 0;
    for (const std::int64_t size : sizes) {
      if (size < 0 || size > (1LL << 40U)) return call.fail("split holds " + std::to_string(size));
      sum += size;
    }
    if (static_cast<std::int64_t>(sizes.size()) != parts || !compatible(sum, dim)) {
      return call.fail("split " + to_string(sizes) + " doesn't fit " + std::to_string(parts) +
                       " outputs of dimension " + std::to_string(dim));
    }
  } else {
    if (dim >= 0 && dim % parts != 0) {
      return call.fail("dimension " + std::to_string(dim) + " doesn't divide into " +
                       std::to_string(parts) + " outputs");
    }
    sizes.assign(static_cast<std::size_t>(parts),
                 dim < 0 ? (parts == 1 ? dim : kUnknown) : dim / parts);
  }
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < call.out.size(); ++i) {
    Shape out = call.shape(0);
    out[static_cast<std::size_t>(axis)] = sizes[i];
    Shared part;
    if (call.elements(0) != nullptr && out.size() == 1 && sizes[i] >= 0) {
      const auto from = call.elements(0)->begin() + begin;
      part = std::make_shared<Elements>(from, from + sizes[i]);
      begin += sizes[i];
    }
    call.set(i, call.dtype(0), std::move(out), std::move(part));
  }
  return {};
}

Result<void> slice(Call& call) {
  const Shape& x = call.shape(0);
  for (std::size_t i = 1; i < call.in.size(); ++i) {
    if (call.has(i) && (call.rank(i) != 1 || is_float(call.dtype(i)))) {
      return call.fail("starts, ends, axes and steps must be vectors of integers");
    }
  }
  const auto count = call.shape(1)[0];
  std::vector<std::int64_t> axes;
  std::vector<std::int64_t> steps;
  if (call.has(3)) {
    KERF_ASSIGN(axes, call.integers(3, "axes"));
  } else {
    if (count < 0 || count > call.rank(0)) return call.fail("more starts than axes");
    axes.resize(static_cast<std::size_t>(count));
    std::iota(axes.begin(), axes.end(), 0);
  }
  steps.assign(axes.size(), 1);
  if (call.has(4)) {
    KERF_ASSIGN(steps, call.integers(4, "steps"));
  }
  const auto wanted = static_cast<std::int64_t>(axes.size());
  if (!compatible(call.shape(1)[0], wanted) || !compatible(call.shape(2)[0], wanted) ||
      steps.size() != axes.size()) {
    return call.fail("starts, ends, axes and steps differ in length");
  }
  const Elements* starts = call.elements(1);
  const Elements* ends = call.elements(2);
  Shape out = x;
  Shared cut = x.size() == 1 ? call.in[0]->elements : nullptr;
  std::vector<bool> seen(x.size(), false);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    KERF_ASSIGN(const std::int64_t axis, call.axis(axes[i], call.rank(0)));
    const auto at = static_cast<std::size_t>(axis);
    if (seen[at]) return call.fail("axis " + std::to_string(axis) + " stands twice");
    seen[at] = true;
    if (steps[i] == 0) return call.fail("a step is 0");
    const std::int64_t dim = x[at];
    const Element start = starts != nullptr ? (*starts)[i] : Element{0, kUnknown};
    const Element end = ends != nullptr ? (*ends)[i] : Element{0, kUnknown};
    const bool from_zero = start.known() && start.value == 0;
    if (steps[i] == 1 && from_zero && dim < 0 &&
        (end.known() ? end.value >= (1LL << 31U) - 1 : end.symbol == dim && dim != kUnknown)) {
      continue;  // all of a free dimension
    }
    if (steps[i] == 1 && from_zero && !end.known() && end.symbol != kUnknown && dim == kUnknown) {
      out[at] = end.symbol;
      continue;
    }
    if (dim < 0 || !start.known() || !end.known()) {
      out[at] = kUnknown;
      cut = nullptr;
      continue;
    }
    std::int64_t s = to_dim(start);
    std::int64_t e = to_dim(end);
    if (s < 0) s += dim;
    if (e < 0 && e >= -dim) e += dim;
    const bool backwards = steps[i] < 0;
    s = std::clamp<std::int64_t>(s, 0, backwards ? std::max<std::int64_t>(dim - 1, 0) : dim);
    e = backwards ? std::clamp<std::int64_t>(e, -1, dim - 1) : std::clamp<std::int64_t>(e, 0, dim);
    const std::int64_t span = backwards ? s - e : e - s;
    // The magnitude as unsigned: INT64_MIN has none as s64.
    const auto stride =
        backwards ? 0 - static_cast<std::uint64_t>(steps[i]) : static_cast<std::uint64_t>(steps[i]);
    out[at] = span <= 0 || dim == 0
                  ? 0
                  : static_cast<std::int64_t>((static_cast<std::uint64_t>(span) - 1) / stride) + 1;
    if (cut) {
      auto taken = std::make_shared<Elements>();
      for (std::int64_t k = 0, from = s; k < out[at]; ++k, from += k < out[at] ? steps[i] : 0) {
        taken->push_back((*call.elements(0))[static_cast<std::size_t>(from)]);
      }
      cut = std::move(taken);
    }
  }
  call.set(0, call.dtype(0), std::move(out), std::move(cut));
  return {};
}

Result<void> gather(Call& call) {
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", 0), call.rank(0)));
  const Shape& x = call.shape(0);
  const Shape& at = call.shape(1);
  if (is_float(call.dtype(1))) return call.fail("indices must be integers");
  const std::int64_t dim = x[static_cast<std::size_t>(axis)];
  Shape out(x.begin(), x.begin() + axis);
  out.insert(out.end(), at.begin(), at.end());
  out.insert(out.end(), x.begin() + axis + 1, x.end());
  Shared picked;
  if (const Elements* indices = call.elements(1)) {
    auto values = std::make_shared<Elements>();
    for (const Element& index : *indices) {
      std::int64_t i = to_dim(index);
      if (index.known() && dim >= 0 && (i < -dim || i >= dim)) {
        return call.fail("index " + std::to_string(i) + " is not within dimension " +
                         std::to_string(dim));
      }
      if (i < 0) i += dim;
      const bool usable = index.known() && x.size() == 1 && call.elements(0) != nullptr && dim >= 0;
      values->push_back(usable ? (*call.elements(0))[static_cast<std::size_t>(i)]
                               : Element{0, kUnknown});
    }
    if (x.size() == 1 && call.elements(0) != nullptr) picked = std::move(values);
  }
  call.set(0, call.dtype(0), std::move(out), std::move(picked));
  return {};
}

Result<void> gather_elements(Call& call) {
  KERF_TRY(call.axis(call.node.integer("axis", 0), call.rank(0)));
  if (call.rank(0) != call.rank(1)) return call.fail("data and indices differ in rank");
  if (is_float(call.dtype(1))) return call.fail("indices must be integers");
  call.set(0, call.dtype(0), call.shape(1));
  return {};
}

Result<void> gather_nd(Call& call) {
  if (call.rank(0) < 1 || call.rank(1) < 1)
    return call.fail("data and indices need a rank of 1 or more");
  const std::int64_t batch = call.node.integer("batch_dims", 0);
  const std::int64_t last = call.shape(1).back();
  if (batch < 0 || batch >= std::min(call.rank(0), call.rank(1)))
    return call.fail("batch_dims doesn't fit");
  if (last < 1 || last > call.rank(0) - batch)
    return call.fail("indices' last dimension doesn't fit");
  Shape out(call.shape(1).begin(), call.shape(1).end() - 1);
  out.insert(out.end(), call.shape(0).begin() + batch + last, call.shape(0).end());
  call.set(0, call.dtype(0), std::move(out));
  return {};
}

Result<void> scatter(Call& call) {
  KERF_TRY(call.want_same_dtype(0, 2));
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> one_hot(Call& call) {
  KERF_ASSIGN(const std::int64_t axis, call.axis(call.node.integer("axis", -1), call.rank(0) + 1));
  Shape out = call.shape(0);
  const Elements* depth = call.elements(1);
  if (element_count(call.shape(1)) != 1) return call.fail("depth must be one number");
  const std::int64_t size = depth != nullptr ? to_dim(depth->front()) : kUnknown;
  if (depth != nullptr && depth->front().known() && size < 0) return call.fail("depth is negative");
  out.insert(out.begin() + axis, size);
  call.set(0, call.dtype(2), std::move(out));
  return {};
}

Result<void> trilu(Call& call) {
  KERF_TRY(call.want_rank(0, 2, kMaxRank));
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

Result<void> eye_like(Call& call) {
  KERF_TRY(call.want_rank(0, 2, 2));
  DType dtype = call.dtype(0);
  if (call.node.attributes.contains("dtype")) {
    const auto wanted = dtype_of_code(call.node.integer("dtype", 0));
    if (!wanted) return call.fail("attribute dtype is no type that is supported");
    dtype = *wanted;
  }
  call.set(0, dtype, call.shape(0));
  return {};
}

Result<void> reverse_sequence(Call& call) {
  KERF_TRY(call.want_rank(0, 2, kMaxRank));
  KERF_TRY(call.want_rank(1, 1, 1));
  const std::int64_t batch = call.node.integer("batch_axis", 1);
  if (batch < 0 || batch > 1 || call.node.integer("time_axis", 0) + batch != 1)
    return call.fail("time_axis and batch_axis must be 0 and 1");
  if (is_float(call.dtype(1)) ||
      !compatible(call.shape(1)[0], call.shape(0)[static_cast<std::size_t>(batch)])) {
    return call.fail("there must be a length for each sequence");
  }
  call.set(0, call.dtype(0), call.shape(0));
  return {};
}

}  // namespace

void register_selection(Registry& registry) {
  registry["Concat"] = {concat, 1, kAny, 1};
  registry["Split"] = {split, 1, 2, kAny};
  registry["Slice"] = {slice, 3, 5, 1};
  registry["Gather"] = {gather, 2, 2, 1};
  registry["GatherElements"] = {gather_elements, 2, 2, 1};
  registry["GatherND"] = {gather_nd, 2, 2, 1};
  registry["ScatterElements"] = {scatter, 3, 3, 1};
  registry["ScatterND"] = {scatter, 3, 3, 1};
  registry["OneHot"] = {one_hot, 3, 3, 1};
  registry["EyeLike"] = {eye_like, 1, 1, 1};
  registry["ReverseSequence"] = {reverse_sequence, 2, 2, 1};
  registry["Trilu"] = {trilu, 1, 2, 1};
}

}  // namespace kerf::graph::shapes
