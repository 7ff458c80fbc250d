#pragma once

#include <string>
#include <string_view>

namespace kerf::api {

/// A file of web/, compiled in.
struct Asset {
  std::string_view name;
  std::string_view content_type;
  std::string content;
};

/// By name ("index.html", "openapi.json"); nullptr where there is none. There are no folders.
[[nodiscard]] const Asset* find_asset(std::string_view name);

}  // namespace kerf::api
