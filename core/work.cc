#include "core/work.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace kerf {
namespace {

constexpr std::array<std::pair<WorkKind, std::string_view>, 5> kKinds = {{
    {WorkKind::kInspect, "inspect"},
    {WorkKind::kTrial, "trial"},
    {WorkKind::kVerify, "verify"},
    {WorkKind::kExport, "export"},
    {WorkKind::kProfile, "profile"},
}};

Json key_json(const WorkKey& key) {
  return {{"study", key.study}, {"kind", std::string(to_string(key.kind))}, {"number", key.number}};
}

WorkKey parse_key(const Json& document) {
  WorkKey key;
  key.study = document.at("study").get<std::string>();
  const auto kind = work_kind_from_string(document.at("kind").get<std::string>());
  if (!kind) throw Json::other_error::create(501, "unknown kind of work", nullptr);
  key.kind = *kind;
  key.number = document.at("number").get<std::int64_t>();
  return key;
}

}  // namespace

std::string_view to_string(WorkKind kind) {
  for (const auto& [value, text] : kKinds) {
    if (value == kind) return text;
  }
  return "unknown";
}

std::optional<WorkKind> work_kind_from_string(std::string_view text) {
  for (const auto& [value, name] : kKinds) {
    if (name == text) return value;
  }
  return std::nullopt;
}

Json Work::to_json() const {
  return {{"key", key_json(key)}, {"token", token}, {"payload", payload}};
}

Result<Work> Work::parse(const Json& document) {
  try {
    return Work{parse_key(document.at("key")), document.at("token").get<std::int64_t>(),
                document.at("payload")};
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("work: ") + e.what());
  }
}

Json WorkOutcome::to_json() const {
  Json out = {{"key", key_json(key)}, {"token", token}, {"result", result}, {"retry", retry}};
  if (error) out["error"] = kerf::to_json(*error);
  return out;
}

Result<WorkOutcome> WorkOutcome::parse(const Json& document) {
  try {
    WorkOutcome out;
    out.key = parse_key(document.at("key"));
    out.token = document.at("token").get<std::int64_t>();
    out.result = document.value("result", Json());
    out.retry = document.value("retry", false);
    if (document.contains("error")) out.error = parse_error(document.at("error"));
    return out;
  } catch (const Json::exception& e) {
    return invalid_argument(std::string("outcome of work: ") + e.what());
  }
}

Json to_json(const Error& error) {
  return {{"code", std::string(to_string(error.code))}, {"message", error.message}};
}

Error parse_error(const Json& document) {
  return {error_code_from_string(document.at("code").get<std::string>()),
          document.at("message").get<std::string>()};
}

}  // namespace kerf
