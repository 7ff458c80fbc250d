#pragma once

#include <map>
#include <string>

#include "core/result.h"
#include "workers/compress/compress.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// The compressed model as standard ONNX (QDQ), for onnx::write_model.
///
/// Integer layers get their bias as DequantizeLinear(s32, scale_x · scale_w[channel], axis 0),
/// which is what runtimes fuse into integer kernels; weights-only layers keep DequantizeLinear(s8);
/// weights of bf16 layers are f32 initializers of bf16 values. Every attribute `kerf_…` is gone.
/// `metadata` is added to graph.metadata (the plan, the product's version …).
///
/// Maths:    bias_q = round(b / (s_x·s_w)), within ±(2^31 − 1); its error is at most s_x·s_w / 2. A
///           bias that would saturate stays f32.
[[nodiscard]] Result<graph::Graph> to_standard_onnx(
    const CompressedModel& model, const std::map<std::string, std::string>& metadata);

}  // namespace kerf::compress
