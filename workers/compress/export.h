#pragma once

#include <map>
#include <string>

#include "core/result.h"
#include "workers/compress/compress.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

struct ExportOptions {
  bool int4_as_int8 = false;  ///< Integers of 4 bits or fewer as s8, for runtimes before opset 21.
};

/// The compressed model as standard ONNX (QDQ), for onnx::write_model.
///
/// Integer layers get their bias as DequantizeLinear(s32, scale_x · scale_w[channel], axis 0),
/// which is what runtimes fuse into integer kernels; weights-only layers keep DequantizeLinear(s8);
/// integers of 4 bits or fewer are s4, which makes the file opset 21, unless the options say s8;
/// weights of bf16 layers are f32 initializers of bf16 values. Every attribute `kerf_…` is gone.
/// `metadata` is added to graph.metadata (the plan, the product's version …).
///
/// Maths:    bias_q = round(b / (s_x·s_w)), within ±(2^31 − 1); its error is at most s_x·s_w / 2. A
///           bias that would saturate stays f32, and so does that of a layer that reads signs: there
///           s_x is as large as the values.
[[nodiscard]] Result<graph::Graph> to_standard_onnx(
    const CompressedModel& model, const std::map<std::string, std::string>& metadata,
    const ExportOptions& options = {});

/// What `kerf export` says of itself in a file: the plan, the product's version, and the source's
/// hash ("sha256:…") unless that is empty.
[[nodiscard]] std::map<std::string, std::string> export_metadata(const CompressionPlan& plan,
                                                                 const std::string& source);

}  // namespace kerf::compress
