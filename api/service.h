#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf::api {

/// What uploads are for.
enum class UploadKind { kModel, kDataset };

/// A file on its way in; destroyed before finish() it leaves nothing.
class Upload {
 public:
  virtual ~Upload() = default;
  /// Errors:   resource_exhausted where the disk is full.
  [[nodiscard]] virtual Result<void> write(std::string_view bytes) = 0;
  /// The file's id, "sha256:…".
  [[nodiscard]] virtual Result<std::string> finish() = 0;
};

/// An entry of a study's log.
struct LogEntry {
  std::int64_t id = 0;
  std::string type;
  std::string data;  ///< JSON, one line.
};

/// What the HTTP room needs of the rest: studies, results, files. Documents are as the contract
/// says; lists are {"<name>": […], "next_cursor": text or null}.
///
/// Threads:  any; calls may block for some milliseconds.
class StudyService {
 public:
  virtual ~StudyService() = default;

  /// The study's document, with "id". The same key and body give the same study.
  ///
  /// Errors:   invalid_argument; already_exists where the key came with another body.
  [[nodiscard]] virtual Result<Json> create_study(const Json& definition,
                                                  const std::string& idempotency_key) = 0;
  [[nodiscard]] virtual Result<Json> studies(const std::string& cursor, std::int64_t limit) = 0;
  [[nodiscard]] virtual Result<Json> study(const std::string& id) = 0;
  [[nodiscard]] virtual Result<Json> trials(const std::string& id, std::int64_t first,
                                            std::int64_t limit) = 0;
  [[nodiscard]] virtual Result<Json> trial(const std::string& id, std::int64_t number) = 0;
  [[nodiscard]] virtual Result<Json> front(const std::string& id) = 0;
  [[nodiscard]] virtual Result<std::vector<LogEntry>> events(const std::string& id,
                                                             std::int64_t after,
                                                             std::int64_t limit) = 0;
  /// `verb`: "cancel", "pause", "resume". The study's document afterwards.
  [[nodiscard]] virtual Result<Json> change(const std::string& id, const std::string& verb) = 0;

  /// The path of a trial's exported model, made first where it isn't there. `done` may be called on
  /// another thread, at once or later, once.
  virtual void model(const std::string& id, std::int64_t number,
                     std::function<void(Result<std::string>)> done) = 0;

  [[nodiscard]] virtual Result<std::unique_ptr<Upload>> begin_upload(UploadKind kind,
                                                                     std::uint64_t bytes) = 0;
  [[nodiscard]] virtual Result<Json> uploads(UploadKind kind, const std::string& cursor,
                                             std::int64_t limit) = 0;
  [[nodiscard]] virtual Result<Json> upload(UploadKind kind, const std::string& id) = 0;

  [[nodiscard]] virtual Result<Json> workers() = 0;
  [[nodiscard]] virtual Result<Json> hardware() = 0;
  /// Prometheus' text format.
  [[nodiscard]] virtual Result<std::string> metrics() = 0;
  /// Errors:   unavailable with the reason, where it doesn't take work.
  [[nodiscard]] virtual Result<void> ready() = 0;
};

}  // namespace kerf::api
