#include "workers/engine/passes.h"

#include <algorithm>
#include <array>

#include "core/json.h"
#include "workers/engine/lowering/lowering.h"
#include "workers/engine/passes/passes_internal.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

namespace {

constexpr std::array<PassInfo, 7> kPasses = {{
    {"fold-batch-norm", "BatchNormalization goes into the layer before it"},
    {"fold-constants", "what depends on constants alone becomes a constant"},
    {graph::kFuseActivations, "activations, sums and rounding run in the step of the layer before them"},
    {"merge-bias", "a constant Add behind a layer becomes its bias"},
    {kPackSigns, "layers of signs count bits where that is faster"},
    {graph::kRemoveDeadNodes, "nodes that no output needs go"},
    {"remove-identity", "nodes that change nothing go"},
}};

Error unknown_pass(const std::string& name) {
  std::string_view nearest;
  std::string all;
  for (const PassInfo& pass : kPasses) {
    nearest = nearest_word(name, {nearest, pass.name});
    all += (all.empty() ? "" : ", ") + std::string(pass.name);
  }
  return invalid_argument("pass \"" + name + "\" isn't known; " +
                          (nearest.empty() ? "" : "nearest: \"" + std::string(nearest) + "\"; ") +
                          "there are " + all);
}

}  // namespace

std::span<const PassInfo> passes() { return kPasses; }

Result<graph::Graph> simplify(graph::Graph graph, const PassOptions& options) {
  for (const std::string& name : options.disabled) {
    const bool known = std::any_of(kPasses.begin(), kPasses.end(),
                                   [&](const PassInfo& pass) { return pass.name == name; });
    if (!known) return unknown_pass(name);
  }
  const auto enabled = [&](const char* name) { return !options.disabled.contains(name); };
  for (const char* lasting : {graph::kFuseActivations, kPackSigns, graph::kRemoveDeadNodes}) {
    if (!enabled(lasting)) graph.disabled_passes.insert(lasting);
  }
  KERF_TRY(graph.check());
  KERF_TRY(qoperator_to_qdq(graph));
  KERF_TRY(integer_to_qdq(graph));
  KERF_TRY(graph::infer_shapes(graph));
  if (enabled("remove-identity")) KERF_TRY(remove_identity(graph));
  if (enabled("fold-constants")) {
    KERF_TRY(fold_constants(graph, false));
    KERF_TRY(graph::infer_shapes(graph));
    // What a transpose of constant weights left behind, and reshapes that are now known.
    KERF_TRY(fold_constants(graph, false));
  }
  KERF_TRY(graph::infer_shapes(graph));
  bool changed = true;
  while (changed) {
    changed = false;
    if (enabled("merge-bias")) {
      KERF_ASSIGN(changed, merge_bias(graph));
    }
    if (enabled("fold-batch-norm")) {
      KERF_ASSIGN(const bool folded, fold_batch_norm(graph));
      changed = changed || folded;
    }
  }
  graph.remove_dead();
  KERF_TRY(graph::infer_shapes(graph));
  KERF_TRY(graph.check());
  return graph;
}

}  // namespace kerf::engine
