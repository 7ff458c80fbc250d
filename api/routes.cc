#include <charconv>

#include "api/assets.h"
#include "api/request.h"

namespace kerf::api {
namespace {

constexpr std::int64_t kDefaultLimit = 100;
constexpr std::int64_t kLargestLimit = 1000;

Result<std::int64_t> number_of(const std::string& text, const char* what, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || value < low || value > high) {
    return invalid_argument(std::string(what) + ": \"" + text.substr(0, 40) + "\"; expected an integer from " +
                            std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

Result<std::int64_t> limit_of(const Request& request) {
  const auto found = request.query.find("limit");
  if (found == request.query.end()) return kDefaultLimit;
  return number_of(found->second, "limit", 1, kLargestLimit);
}

std::string cursor_of(const Request& request) {
  const auto found = request.query.find("cursor");
  return found == request.query.end() ? "" : found->second;
}

Response answer_of(const Result<Json>& result, int status = 200) {
  return result.has_value() ? json_response(status, *result) : problem_response(result.error());
}

Response not_there() { return problem_response(404, "not_found", "no such resource"); }

/// One route, matched: the scope it needs, the methods it has, and what it does.
struct Match {
  bool found = false;
  Scope scope = Scope::kRead;
  std::map<std::string, std::function<Result<Plan>()>> methods;
};

Plan answering(std::function<Response()> answer) {
  Plan plan;
  plan.answer = std::move(answer);
  return plan;
}

Match match_uploads(const Request& request, StudyService& service, UploadKind kind) {
  Match match{true, Scope::kRead, {}};
  if (request.path.size() == 2) {
    if (request.method == "POST") match.scope = Scope::kSubmit;
    match.methods["POST"] = [kind]() -> Result<Plan> {
      Plan plan;
      plan.upload = kind;
      return plan;
    };
    match.methods["GET"] = [&service, &request, kind]() -> Result<Plan> {
      KERF_ASSIGN(const std::int64_t limit, limit_of(request));
      return answering([&service, kind, limit, cursor = cursor_of(request)] {
        return answer_of(service.uploads(kind, cursor, limit));
      });
    };
  } else if (request.path.size() == 3) {
    match.methods["GET"] = [&service, &request, kind]() -> Result<Plan> {
      return answering([&service, kind, id = request.path[2]] { return answer_of(service.upload(kind, id)); });
    };
  } else {
    match.found = false;
  }
  return match;
}

Match match_trials(const Request& request, StudyService& service, const std::string& id) {
  Match match{true, Scope::kRead, {}};
  const auto& path = request.path;
  if (path.size() == 4) {
    match.methods["GET"] = [&service, &request, id]() -> Result<Plan> {
      KERF_ASSIGN(const std::int64_t limit, limit_of(request));
      std::int64_t first = 0;
      if (const std::string cursor = cursor_of(request); !cursor.empty()) {
        KERF_ASSIGN(first, number_of(cursor, "cursor", 0, INT64_MAX));
      }
      return answering([&service, id, first, limit] { return answer_of(service.trials(id, first, limit)); });
    };
  } else if (path.size() == 5) {
    match.methods["GET"] = [&service, &path, id]() -> Result<Plan> {
      KERF_ASSIGN(const std::int64_t number, number_of(path[4], "trial", 0, INT64_MAX));
      return answering([&service, id, number] { return answer_of(service.trial(id, number)); });
    };
  } else if (path.size() == 6 && path[5] == "model") {
    match.methods["GET"] = [&path, id]() -> Result<Plan> {
      KERF_ASSIGN(const std::int64_t number, number_of(path[4], "trial", 0, INT64_MAX));
      Plan plan;
      plan.model = std::pair(id, number);
      return plan;
    };
  } else {
    match.found = false;
  }
  return match;
}

Match match_studies(const Request& request, StudyService& service) {
  Match match{true, Scope::kRead, {}};
  const auto& path = request.path;
  if (path.size() == 2) {
    if (request.method == "POST") match.scope = Scope::kSubmit;
    match.methods["GET"] = [&service, &request]() -> Result<Plan> {
      KERF_ASSIGN(const std::int64_t limit, limit_of(request));
      return answering([&service, limit, cursor = cursor_of(request)] {
        return answer_of(service.studies(cursor, limit));
      });
    };
    match.methods["POST"] = [&service, &request]() -> Result<Plan> {
      Plan plan;
      plan.with_json = [&service, key = request.idempotency_key](const Json& body) {
        const auto made = service.create_study(body, key);
        if (!made.has_value()) {
          // The same key with another body is the client's mistake, not a state to wait out.
          Response refused = problem_response(made.error());
          if (made.error().code == ErrorCode::kAlreadyExists) {
            refused = problem_response(422, "already_exists", made.error().message);
          }
          return refused;
        }
        Response response = json_response(201, *made);
        response.headers["Location"] = "/v1/studies/" + made->value("id", "");
        return response;
      };
      return plan;
    };
    return match;
  }
  const std::string& id = path[2];
  if (path.size() == 3) {
    match.methods["GET"] = [&service, id]() -> Result<Plan> {
      return answering([&service, id] { return answer_of(service.study(id)); });
    };
    return match;
  }
  const std::string& what = path[3];
  if (what == "trials") return match_trials(request, service, id);
  if (path.size() != 4) return {};
  if (what == "front") {
    match.methods["GET"] = [&service, id]() -> Result<Plan> {
      return answering([&service, id] { return answer_of(service.front(id)); });
    };
  } else if (what == "events") {
    match.methods["GET"] = [&request, id]() -> Result<Plan> {
      std::int64_t after = 0;
      if (!request.last_event_id.empty()) {
        KERF_ASSIGN(after, number_of(request.last_event_id, "Last-Event-ID", 0, INT64_MAX));
      }
      Plan plan;
      plan.events = std::pair(id, after);
      return plan;
    };
  } else if (what == "cancel" || what == "pause" || what == "resume") {
    match.scope = Scope::kSubmit;
    match.methods["POST"] = [&service, id, what]() -> Result<Plan> {
      return answering([&service, id, what] { return answer_of(service.change(id, what)); });
    };
  } else {
    return {};
  }
  return match;
}

Match match_sweeps() {
  Match match{true, Scope::kSubmit, {}};
  const auto refuse = []() -> Result<Plan> {
    return answering([] {
      return problem_response(501, "unimplemented", "sweeps aren't offered by this version; submit one study a kind of hardware");
    });
  };
  match.methods["POST"] = refuse;
  match.methods["GET"] = refuse;
  return match;
}

Match match_v1(const Request& request, StudyService& service) {
  const auto& path = request.path;
  if (path.size() < 2) return {};
  if (path[1] == "models") return match_uploads(request, service, UploadKind::kModel);
  if (path[1] == "datasets") return match_uploads(request, service, UploadKind::kDataset);
  if (path[1] == "studies") return match_studies(request, service);
  if (path[1] == "sweeps" && path.size() <= 3) return match_sweeps();
  Match match{true, Scope::kRead, {}};
  if (path.size() == 2 && path[1] == "workers") {
    match.methods["GET"] = [&service]() -> Result<Plan> {
      return answering([&service] { return answer_of(service.workers()); });
    };
    return match;
  }
  if (path.size() == 2 && path[1] == "hardware") {
    match.methods["GET"] = [&service]() -> Result<Plan> {
      return answering([&service] { return answer_of(service.hardware()); });
    };
    return match;
  }
  return {};
}

Match match_outside(const Request& request, StudyService& service) {
  Match match{true, Scope::kNone, {}};
  const std::string name = request.path.size() == 1 ? request.path[0] : "";
  if (request.path.size() > 1) return {};
  if (name == "healthz") {
    match.methods["GET"] = []() -> Result<Plan> {
      return answering([] { return json_response(200, {{"status", "ok"}}); });
    };
  } else if (name == "readyz") {
    match.methods["GET"] = [&service]() -> Result<Plan> {
      return answering([&service] {
        const auto ready = service.ready();
        return ready.has_value() ? json_response(200, {{"status", "ready"}}) : problem_response(ready.error());
      });
    };
  } else if (name == "metrics") {
    match.scope = Scope::kRead;
    match.methods["GET"] = [&service]() -> Result<Plan> {
      return answering([&service] {
        const auto text = service.metrics();
        if (!text.has_value()) return problem_response(text.error());
        Response response;
        response.content_type = "text/plain; version=0.0.4; charset=utf-8";
        response.body = *text;
        return response;
      });
    };
  } else if (const Asset* asset = find_asset(name.empty() ? "index.html" : name)) {
    match.methods["GET"] = [asset]() -> Result<Plan> {
      return answering([asset] {
        Response response;
        response.content_type = asset->content_type;
        response.body = asset->content;
        response.headers["Cache-Control"] = "no-cache";
        response.headers["Content-Security-Policy"] =
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        return response;
      });
    };
  } else {
    return {};
  }
  return match;
}

}  // namespace

Routed route(const Request& request, StudyService& service, const TokenTable& tokens) {
  const bool v1 = !request.path.empty() && request.path[0] == "v1";
  Match match = v1 ? match_v1(request, service) : match_outside(request, service);
  Routed routed;
  // Below /v1 the token comes first: what exists there is nobody else's business.
  const Scope scope = match.found ? match.scope : v1 ? Scope::kRead : Scope::kNone;
  if (const auto allowed = tokens.check(request.authorization, scope); !allowed.has_value()) {
    routed.refused = problem_response(allowed.error());
    return routed;
  }
  if (!match.found) {
    routed.refused = not_there();
    return routed;
  }
  const auto method = match.methods.find(request.method == "HEAD" ? "GET" : request.method);
  if (method == match.methods.end()) {
    routed.refused = problem_response(405, "method_not_allowed", "this resource has no " + request.method.substr(0, 20));
    std::string allow;
    for (const auto& [name, handler] : match.methods) allow += (allow.empty() ? "" : ", ") + name;
    routed.refused->headers["Allow"] = allow;
    return routed;
  }
  auto plan = method->second();
  if (plan.has_value()) {
    routed.plan = std::move(*plan);
  } else {
    routed.refused = problem_response(plan.error());
  }
  return routed;
}

}  // namespace kerf::api
