#include "workers/measure/hardware.h"

#include <sys/utsname.h>

#include <fstream>
#include <sstream>
#include <string_view>

#include "workers/engine/executor.h"
#include "workers/measure/latency.h"

namespace kerf::measure {
namespace {

std::string trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t") - begin + 1));
}

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::string cpu_model(const std::string& cpuinfo) {
  std::string implementer;
  std::string part;
  std::istringstream lines(cpuinfo);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = trimmed(std::string_view(line).substr(0, colon));
    const std::string value = trimmed(std::string_view(line).substr(colon + 1));
    if (key == "model name" && !value.empty()) return value;
    if (key == "CPU implementer" && implementer.empty()) implementer = value;
    if (key == "CPU part" && part.empty()) part = value;
  }
  if (!part.empty()) return "ARM " + implementer + " part " + part;
  return "unknown";
}

HardwareFingerprint hardware_fingerprint(int threads) {
  HardwareFingerprint out;
  out.cpu_model = cpu_model(file_text("/proc/cpuinfo"));
  out.isa = engine::isa_in_use();
  out.onednn_version = engine::onednn_version();
  const std::vector<int> cores = allowed_cores();
  out.cores = static_cast<int>(cores.size());
  out.threads = threads;
  utsname system{};
  if (uname(&system) == 0) out.kernel = system.release;
  const std::string core = cores.empty() ? "0" : std::to_string(cores.back());
  out.governor = trimmed(
      file_text("/sys/devices/system/cpu/cpu" + core + "/cpufreq/scaling_governor"));
  while (!out.governor.empty() && out.governor.back() == '\n') out.governor.pop_back();
  return out;
}

}  // namespace kerf::measure
