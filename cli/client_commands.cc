#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <tuple>

#include "cli/commands.h"
#include "cli/data_dir.h"
#include "cli/front_pick.h"
#include "cli/http_client.h"
#include "cli/report.h"
#include "cli/server_access.h"
#include "cli/study_host.h"
#include "cli/table.h"
#include "core/clock.h"
#include "core/sha256.h"
#include "core/study.h"

namespace kerf::cli {
namespace {

namespace fs = std::filesystem;

struct ClientOptions {
  std::string server;
  std::string data_dir;   ///< Read instead of asking a server.
  std::string study;   ///< A file for submit, else an id.
  std::int64_t trial = 0;
  std::string output;
  bool json = false;
  bool csv = false;
  bool wait = false;
  std::vector<std::string> most;   ///< METRIC=VALUE: what a pick of the front may have at most.
  std::vector<std::string> least;
  std::string best;                ///< The metric that a pick is best in.
};

Result<HttpClient> connect(const ClientOptions& options) { return connect_to_server(options.server); }

std::string study_path(const std::string& id) { return "/v1/studies/" + url_encoded(id); }

bool is_final(const Json& study) {
  const std::string state = study.value("state", "");
  return state == "complete" || state == "failed" || state == "cancelled";
}

Result<void> submit(const ClientOptions& options) {
  KERF_ASSIGN(HttpClient client, connect(options));
  KERF_ASSIGN(const Json document, read_json_file(options.study));
  auto parsed = StudyDefinition::parse(document);
  if (!parsed.has_value()) return with_context(options.study, parsed.error());
  StudyDefinition study = std::move(*parsed);
  const fs::path folder = fs::absolute(options.study).parent_path();
  const auto upload = [&](const char* route, std::string& file) -> Result<void> {
    if (file.empty() || is_file_id(file)) return {};
    const std::string path = (folder / file).lexically_normal().string();
    KERF_ASSIGN(const Json answer, client.post_file(route, path));
    file = answer.value("id", "");
    return {};
  };
  KERF_TRY(upload("/v1/models", study.model));
  KERF_TRY(upload("/v1/datasets", study.data.single));
  KERF_TRY(upload("/v1/datasets", study.data.calibration));
  KERF_TRY(upload("/v1/datasets", study.data.evaluation));
  KERF_TRY(upload("/v1/datasets", study.data.test));
  // The same study sent twice, after a lost answer, is one study.
  const std::string key = sha256_hex(canonical_text(study.to_json()));
  KERF_ASSIGN(Json answer, client.post("/v1/studies", study.to_json(), {{"Idempotency-Key", key}}));
  const std::string id = answer.value("id", "");
  while (options.wait && !is_final(answer)) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    KERF_ASSIGN(answer, client.get(study_path(id)));
  }
  if (options.json) {
    print_json(answer);
  } else {
    std::printf("%s  %s\n", id.c_str(), answer.value("state", "").c_str());
  }
  return {};
}

Result<void> list(const ClientOptions& options) {
  KERF_ASSIGN(HttpClient client, connect(options));
  Json all = Json::array();
  std::string cursor;
  do {
    KERF_ASSIGN(const Json page, client.get("/v1/studies?limit=100" +
                                            (cursor.empty() ? "" : "&cursor=" + url_encoded(cursor))));
    for (const Json& study : page.at("studies")) all.push_back(study);
    cursor = page.contains("next_cursor") && page["next_cursor"].is_string()
                 ? page["next_cursor"].get<std::string>() : "";
  } while (!cursor.empty());
  if (options.json) {
    print_json({{"studies", all}});
    return {};
  }
  Table table({"study", "state", "created", "name"});
  for (const Json& study : all) {
    table.add({study.value("id", ""), study.value("state", ""), study.value("created_at", ""), study.value("name", "")});
  }
  std::fputs(table.text().c_str(), stdout);
  return {};
}

Result<void> status(const ClientOptions& options) {
  KERF_ASSIGN(HttpClient client, connect(options));
  KERF_ASSIGN(const Json study, client.get(study_path(options.study)));
  if (options.json) {
    print_json(study);
    return {};
  }
  const std::string reason = study.value("reason", "");
  std::printf("%s  %s\nstate        %s%s\n", study.value("id", "").c_str(), study.value("name", "").c_str(),
              study.value("state", "").c_str(), reason.empty() ? "" : (" (" + reason + ")").c_str());
  if (const Json progress = study.value("progress", Json()); progress.is_object()) {
    const auto count = [&](const char* key) { return static_cast<long long>(progress.value(key, std::int64_t{0})); };
    std::printf("trials       %lld of %lld, %lld failed\non the front %lld\nhypervolume  %.4g\n", count("finished"),
                count("trials"), count("failed"), count("front_size"), progress.value("hypervolume", 0.0));
    if (progress.contains("blocked")) std::printf("waits        %s\n", progress.value("blocked", "").c_str());
  }
  return {};
}

Result<Json> front_of(const ClientOptions& options) {
  if (!options.data_dir.empty()) {
    const SystemClock clock;
    KERF_ASSIGN(const auto store, open_data_dir(options.data_dir, clock));
    return front_report(*store, options.study);
  }
  KERF_ASSIGN(HttpClient client, connect(options));
  auto front = client.get(study_path(options.study) + "/front");
  if (!front.has_value() && front.error().code == ErrorCode::kUnavailable) {
    return Error{ErrorCode::kUnavailable, front.error().message + "; expected a server there, or --data-dir DIR of a kerf run"};
  }
  return front;
}

Result<void> show_front(const ClientOptions& options) {
  std::vector<MetricLimit> limits;
  for (const bool upper : {true, false}) {
    for (const std::string& text : upper ? options.most : options.least) {
      KERF_ASSIGN(MetricLimit limit, parse_limit(text, upper));
      limits.push_back(std::move(limit));
    }
  }
  if (options.best.empty() && !limits.empty()) {
    return invalid_argument("--max and --min choose a member of the front; expected --best METRIC beside them");
  }
  KERF_ASSIGN(Json front, front_of(options));
  if (!options.best.empty()) {
    KERF_ASSIGN(Json member, pick_member(front, limits, options.best));
    front["front"] = Json::array({std::move(member)});
    front["tied"] = Json::array();  // with the whole front, not with this member
  }
  if (options.json) {
    print_json(front);
    return {};
  }
  if (!options.csv) {
    std::fputs(front_table(front).c_str(), stdout);
    return {};
  }
  const Json& objectives = front.at("objectives");
  std::string out = "trial";
  for (const Json& objective : objectives) out += "," + objective["metric"].get<std::string>();
  out += "\n";
  for (const Json& member : front.at("front")) {
    out += std::to_string(member.at("trial").get<std::int64_t>());
    for (const Json& objective : objectives) {
      out += "," + member.at("metrics").value(objective["metric"].get<std::string>(), Json()).dump();
    }
    out += "\n";
  }
  std::fputs(out.c_str(), stdout);
  return {};
}

Result<void> change(const ClientOptions& options, const std::string& verb) {
  KERF_ASSIGN(HttpClient client, connect(options));
  KERF_ASSIGN(const Json answer, client.post(study_path(options.study) + "/" + verb, Json()));
  if (options.json) {
    print_json(answer);
  } else {
    std::printf("%s  %s\n", options.study.c_str(), answer.value("state", "").c_str());
  }
  return {};
}

Result<void> download(const ClientOptions& options) {
  KERF_ASSIGN(HttpClient client, connect(options));
  return client.download(study_path(options.study) + "/trials/" + std::to_string(options.trial) + "/model",
                         options.output);
}

}  // namespace

void add_client_commands(CLI::App& app, Run* run) {
  const auto add = [&](const char* name, const char* text, auto action) {
    CLI::App* command = app.add_subcommand(name, text);
    const auto options = std::make_shared<ClientOptions>();
    CLI::Option* server = command->add_option("--server", options->server, "http://HOST:PORT (default: the config file's, else " +
                                                         std::string(kDefaultServer) + ")");
    command->add_flag("--json", options->json, "one JSON document on stdout");
    command->footer("The token comes from KERF_TOKEN or ~/.config/kerf/config.json.");
    command->callback([=] { *run = [=] { return action(*options); }; });
    return std::tuple(command, options, server);
  };
  const auto with_id = [](const auto& made) {
    std::get<0>(made)->add_option("ID", std::get<1>(made)->study, "the study's id")->required();
    return made;
  };
  {
    const auto [command, options, server] = add("submit", "upload a study's files and start it on a server", submit);
    command->add_option("STUDY", options->study, "the study's JSON")->required();
    command->add_flag("--wait", options->wait, "return when the study has ended");
  }
  add("list", "the server's studies", list);
  with_id(add("status", "where a study stands", status));
  {
    const auto [command, options, server] = with_id(add("front", "a study's Pareto front", show_front));
    command->add_option("--data-dir", options->data_dir, "read this data directory (of kerf run, say) instead of asking a server")
        ->excludes(server);
    command->add_flag("--csv", options->csv, "comma-separated values");
    command->add_option("--max", options->most, "METRIC=VALUE: only members that have at most this; may be given again");
    command->add_option("--min", options->least, "METRIC=VALUE: only members that have at least this");
    command->add_option("--best", options->best, "METRIC: of those, the one that is best in this");
  }
  for (const char* verb : {"cancel", "pause", "resume"}) {
    const std::string text = std::string(verb) + " a study";
    with_id(add(verb, text.c_str(), [verb](const ClientOptions& options) { return change(options, verb); }));
  }
  {
    const auto [command, options, server] = with_id(add("download", "a trial's model as standard ONNX", download));
    command->add_option("TRIAL", options->trial, "the trial's number")->required();
    command->add_option("-o,--output", options->output, "the file to write")->required();
  }
}

}  // namespace kerf::cli
