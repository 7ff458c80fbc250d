// Cast between types of other sizes or kinds.
#include "workers/engine/kernels/cast.h"

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;

Result<bool> lower_cast(Values& values, const Node& node) {
  if (node.op != "Cast") return false;
  const DType from_type = values.info(node.inputs[0]).dtype;
  const DType to_type = values.info(node.outputs[0]).dtype;
  const CastRun run = cast_run(from_type, to_type);
  if (run == nullptr) return false;
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  const auto n = static_cast<std::size_t>(*graph::element_count(values.dims(x)));
  const SlotId to = make_output(values, node);
  const std::size_t from_size = graph::element_size(from_type);
  const std::size_t to_size = graph::element_size(to_type);
  const int threads = values.threads();
  values.emit(make_call("kerf:cast", {x.slot}, {to},
                        [=, from = x.slot](Pointers pointers, std::byte*) {
                          constexpr std::size_t kPart = 16384;
                          parallel_for((n + kPart - 1) / kPart, kPart / 4, threads, [&](std::size_t i) {
                            const std::size_t first = i * kPart;
                            run(pointers[from] + first * from_size, pointers[to] + first * to_size, std::min(kPart, n - first));
                          });
                        }),
              node.name, node.op, std::string(graph::to_string(to_type)));
  return true;
}

}  // namespace kerf::engine
