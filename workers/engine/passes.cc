#include "workers/engine/passes.h"

#include "workers/engine/passes/passes_internal.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {

Result<graph::Graph> simplify(graph::Graph graph, const PassOptions& options) {
  static const std::set<std::string> known{"fold-constants", "remove-identity", "fold-batch-norm",
                                           "merge-bias"};
  for (const std::string& name : options.disabled) {
    if (!known.contains(name)) {
      return invalid_argument("pass '" + name + "' isn't known; there are fold-batch-norm, "
                              "fold-constants, merge-bias and remove-identity");
    }
  }
  const auto enabled = [&](const char* name) { return !options.disabled.contains(name); };
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
