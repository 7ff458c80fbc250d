#include <cstddef>
#include <cstdint>
#include <string_view>

#include "workers/onnx/reader.h"

// A model from outside, without a folder for external data.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto graph =
      kerf::onnx::parse_model({reinterpret_cast<const char*>(data), size}, "fuzz", {.allow_external_data = false});
  (void)graph.has_value();
  return 0;
}
