// Reads models and writes them again, for reference_test.py: one "IN OUT [BATCH]" a line on stdin
// (separated by tabs), one line of answer each: "ok", or "CODE: message".
#include <iostream>
#include <sstream>
#include <string>

#include "workers/graph/shape_inference.h"
#include "workers/onnx/reader.h"
#include "workers/onnx/writer.h"

namespace {

kerf::Result<void> convert(const std::string& in, const std::string& out,
                           const std::string& batch) {
  KERF_ASSIGN(kerf::graph::Graph graph, kerf::onnx::read_model(in));
  if (!batch.empty()) {
    KERF_ASSIGN(graph, kerf::graph::with_batch(graph, std::stoll(batch)));
  }
  return kerf::onnx::write_model(graph, out);
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string in, out, batch;
    std::getline(fields, in, '\t');
    std::getline(fields, out, '\t');
    std::getline(fields, batch, '\t');
    const auto done = convert(in, out, batch);
    if (done.has_value())
      std::cout << "ok" << std::endl;
    else
      std::cout << to_string(done.error().code) << ": " << done.error().message << std::endl;
  }
}
