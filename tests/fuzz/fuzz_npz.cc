#include <cstddef>
#include <cstdint>
#include <span>

#include "workers/data/npz.h"

// The header of an array from outside: the only part of it that is text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto header = kerf::data::parse_npy_header(std::as_bytes(std::span(data, size)), "fuzz");
  (void)header.has_value();
  return 0;
}
