#include "cli/server_access.h"

#include <cstdlib>
#include <filesystem>

namespace kerf::cli {
namespace {

namespace fs = std::filesystem;

Json config() {
  const char* home = std::getenv("HOME");
  const char* base = std::getenv("XDG_CONFIG_HOME");
  const fs::path folder = base != nullptr ? fs::path(base) : fs::path(home != nullptr ? home : ".") / ".config";
  const std::string path = (folder / "kerf" / "config.json").string();
  if (!fs::exists(path)) return Json::object();
  auto parsed = read_json_file(path);
  return parsed.has_value() && parsed->is_object() ? *parsed : Json::object();
}

}  // namespace

Result<HttpClient> connect_to_server(const std::string& server) {
  const Json known = config();
  const char* token = std::getenv("KERF_TOKEN");
  return HttpClient::make(server.empty() ? known.value("server", kDefaultServer) : server,
                          token != nullptr ? token : known.value("token", ""));
}

}  // namespace kerf::cli
