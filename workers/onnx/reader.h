#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::onnx {

struct ReadOptions {
  /// Tensors in files beside the model. They are opened below the model's own folder only, never
  /// through a symbolic link. Off where a model came over the network.
  bool allow_external_data = true;
  /// Bytes of the model and its external data together.
  std::uint64_t max_bytes = 2ULL << 30U;
  /// Graph inputs that are to be constants, with their values: shapes, axes and trip counts that an
  /// exporter left open.
  std::map<std::string, graph::Tensor> constants;
};

/// Reads an ONNX model (opset 7 to 24) into the canonical form that graph.h describes.
///
/// What is changed on the way: signatures become those of opset 17 with axes as inputs for every
/// Reduce*, Squeeze and Unsqueeze; Constant nodes become initializers; Dropout becomes Identity;
/// Upsample becomes Resize; local functions take the place of their calls; integer ops of com.microsoft become DequantizeLinear, op,
/// QuantizeLinear; f16, bf16 and f64 become f32; every node gets a name ("Conv:Plus30_Output_0"
/// where it has none); nodes are sorted; shapes are inferred.
///
/// Errors:   invalid_argument or unimplemented (not_found for a file that isn't there), one line
///           naming file, node or tensor, the reason, and where there is one the nearest way out.
/// Cost:     the file's bytes plus the weights as f32; a file that breaks a limit (see limits.h)
///           is refused before anything is allocated for it.
/// Threads:  reentrant.
[[nodiscard]] Result<graph::Graph> read_model(const std::string& path,
                                              const ReadOptions& options = {});

/// The inputs that a caller has to feed, in order, as the file declares them; the rest of the model
/// is not looked at.
///
/// Errors:   as read_model.
[[nodiscard]] Result<std::vector<graph::ValueInfo>> read_inputs(const std::string& path,
                                                                const ReadOptions& options = {});

/// The ops that a file may hold, by name; other domains' as "com.microsoft.Gelu".
[[nodiscard]] std::set<std::string> readable_ops();

/// Reads one TensorProto ("input_0.pb" in ONNX's own test data). Its type and numbers that aren't
/// finite stay.
///
/// Errors:   as read_model.
[[nodiscard]] Result<graph::Tensor> read_tensor(const std::string& path,
                                                std::uint64_t max_bytes = 2ULL << 30U);

/// read_model for bytes in memory; external data is refused.
[[nodiscard]] Result<graph::Graph> parse_model(std::string_view bytes, const std::string& name,
                                               const ReadOptions& options = {});

}  // namespace kerf::onnx
