#pragma once

#include <string>

#include "cli/http_client.h"

namespace kerf::cli {

inline constexpr const char* kDefaultServer = "http://127.0.0.1:8080";

/// A client of `server`, or where that is empty of the config file's server, else of kDefaultServer.
/// The token comes from KERF_TOKEN, else from the config file
/// (~/.config/kerf/config.json: {"server": "http://…", "token": "…"}).
[[nodiscard]] Result<HttpClient> connect_to_server(const std::string& server);

}  // namespace kerf::cli
