#include "scheduler/worker_session.h"

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/measurement.h"
#include "core/sha256.h"

namespace kerf::scheduler {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Completion token: awaits, with the error in `failed` instead of an exception.
auto into(error_code& failed) { return asio::redirect_error(asio::use_awaitable, failed); }

constexpr std::size_t kReadSize = 64UL << 10U;
constexpr std::size_t kChunk = 1UL << 20U;
constexpr std::size_t kChunksInFlight = 2;
constexpr std::size_t kMaxWantedFiles = 16;
constexpr std::size_t kMaxText = 200;   // of a name in a hello
constexpr std::size_t kMaxLabels = 32;

// Equal in a time that tells nothing of where they differ.
bool same_secret(const std::string& a, const std::string& b) {
  const std::string x = sha256_hex(a);
  const std::string y = sha256_hex(b);
  unsigned difference = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    difference |= static_cast<unsigned char>(x[i]) ^ static_cast<unsigned char>(y[i]);
  }
  return difference == 0;
}

Result<std::string> short_text(const Json& message, const char* key) {
  const Json value = message.value(key, Json(""));
  if (!value.is_string() || value.get_ref<const std::string&>().size() > kMaxText) {
    return invalid_argument(std::string("hello.") + key + ": expected a text of at most " +
                            std::to_string(kMaxText) + " bytes");
  }
  return value.get<std::string>();
}

Result<WorkKey> key_of(const Json& message) {
  Json key = message.value("key", Json());
  if (!key.is_object()) return invalid_argument("no \"key\" in the message");
  KERF_ASSIGN(const Work work, Work::parse({{"key", key}, {"token", 0}, {"payload", nullptr}}));
  return work.key;
}

// A number of bytes; -1 must not become 2^64 - 1.
Result<std::uint64_t> bytes_of(const Json& message, const char* key) {
  const auto value = message.at(key).get<std::int64_t>();
  if (!message.at(key).is_number_integer() || value < 0 ||
      static_cast<std::uint64_t>(value) > storage::kMaxStoredFile) {
    return invalid_argument(std::string(key) + ": " + canonical_text(message.at(key)).substr(0, 40) +
                            "; expected bytes, 0 to " + std::to_string(storage::kMaxStoredFile));
  }
  return static_cast<std::uint64_t>(value);
}

}  // namespace

WorkerSession::WorkerSession(Socket socket, std::string id, bool local, SessionOwner& owner)
    : socket_(std::move(socket)),
      id_(std::move(id)),
      local_(local),
      owner_(owner),
      opened_at_(std::chrono::steady_clock::now()),
      heard_at_(opened_at_),
      queue_changed_(socket_.get_executor(), TimePoint::max()),
      wanted_changed_(socket_.get_executor(), TimePoint::max()) {}

void WorkerSession::start(std::shared_ptr<void> keep) {
  asio::co_spawn(socket_.get_executor(), read_all(keep), asio::detached);
  asio::co_spawn(socket_.get_executor(), write_all(keep), asio::detached);
  asio::co_spawn(socket_.get_executor(), send_files(keep), asio::detached);
}

void WorkerSession::send(const Frame& frame) {
  if (closed_) return;
  if (queue_.size() >= owner_.options().max_queued_messages) return close();
  auto bytes = encode_frame(frame);
  if (!bytes.has_value()) return close();
  queue_.push_back(std::move(*bytes));
  queue_changed_.cancel();
}

void WorkerSession::send_work(const Work& work) {
  Json message = {{"type", "work"}, {"work", work.to_json()}};
  if (local_) {
    // A worker of this machine reads the files where they lie.
    Json paths = Json::object();
    const auto add = [&](const Json& id) {
      if (!id.is_string() || !is_file_id(id.get_ref<const std::string&>())) return;
      const auto path = owner_.files().path_of(id.get<std::string>());
      if (path.has_value()) paths[id.get<std::string>()] = *path;
    };
    add(work.payload.value("model", Json()));
    const Json data = work.payload.value("data", Json::object());
    for (const Json& id : data) add(id);
    message["paths"] = paths;
  }
  send(message);
}

void WorkerSession::close() {
  if (std::exchange(closed_, true)) return;
  error_code ignored;
  socket_.shutdown(asio::socket_base::shutdown_both, ignored);
  socket_.close(ignored);
  queue_changed_.cancel();
  wanted_changed_.cancel();
}

void WorkerSession::close_if_overdue(TimePoint now) {
  const WorkerServerOptions& limits = owner_.options();
  if (!known_ && now - opened_at_ > limits.hello_limit) return close();
  if (known_ && now - heard_at_ > limits.silence_limit) return close();
  if (writing_since_ && now - *writing_since_ > limits.write_limit) close();
}

void WorkerSession::end() {
  close();
  if (std::exchange(ended_, true)) return;
  if (WorkerHandler* handler = owner_.handler(); known_ && handler != nullptr) {
    handler->left(id_, local_ ? Clock::Duration(0) : owner_.options().reconnect_grace);
  }
  owner_.ended(id_);
}

asio::awaitable<void> WorkerSession::read_all(std::shared_ptr<void> keep) {
  const auto self = shared_from_this();
  FrameDecoder decoder;
  std::vector<char> buffer(kReadSize);
  while (!closed_ && !closing_) {
    error_code failed;
    const std::size_t got = co_await socket_.async_read_some(asio::buffer(buffer), into(failed));
    if (failed || got == 0) break;
    heard_at_ = std::chrono::steady_clock::now();
    Result<void> fine = decoder.feed({buffer.data(), got});
    while (fine.has_value()) {
      const std::optional<Frame> frame = decoder.next();
      if (!frame || closed_) break;
      fine = handle(*frame);
    }
    if (!fine.has_value()) {
      send({{"type", "refused"}, {"reason", fine.error().message}});
      closing_ = true;
      queue_changed_.cancel();
    }
  }
  if (!closing_) end();
  (void)keep;
}

asio::awaitable<void> WorkerSession::write_all(std::shared_ptr<void> keep) {
  const auto self = shared_from_this();
  while (!closed_) {
    error_code failed;
    if (queue_.empty()) {
      if (closing_) break;
      co_await queue_changed_.async_wait(into(failed));
      continue;
    }
    writing_since_ = std::chrono::steady_clock::now();
    co_await asio::async_write(socket_, asio::buffer(queue_.front()), into(failed));
    writing_since_.reset();
    if (failed) break;
    queue_.pop_front();
    if (queue_.size() < kChunksInFlight) wanted_changed_.cancel();
  }
  end();
  (void)keep;
}

asio::awaitable<void> WorkerSession::send_files(std::shared_ptr<void> keep) {
  const auto self = shared_from_this();
  std::string piece(kChunk, '\0');
  while (!closed_) {
    error_code failed;
    if (wanted_files_.empty()) {
      co_await wanted_changed_.async_wait(into(failed));
      continue;
    }
    const std::string id = wanted_files_.front();
    wanted_files_.pop_front();
    const auto path = owner_.files().path_of(id);
    const auto size = owner_.files().size(id);
    std::ifstream file;
    if (path.has_value()) file.open(*path, std::ios::binary);
    if (!path.has_value() || !size.has_value() || !file) {
      send({{"type", "missing"}, {"file", id}});
      continue;
    }
    std::uint64_t offset = 0;
    do {
      while (queue_.size() >= kChunksInFlight && !closed_) {
        co_await wanted_changed_.async_wait(into(failed));
      }
      if (closed_) break;
      file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      const auto got = static_cast<std::size_t>(file.gcount());
      if (got == 0 && offset < *size) {
        send({{"type", "missing"}, {"file", id}});
        break;
      }
      send(Frame{{{"type", "chunk"}, {"file", id}, {"offset", offset}, {"size", *size}},
                 piece.substr(0, got)});
      offset += got;
    } while (offset < *size);
  }
  (void)keep;
}

Result<void> WorkerSession::handle(const Frame& frame) {
  const Json& message = frame.message;
  if (!message.is_object() || !message.contains("type") || !message["type"].is_string()) {
    return invalid_argument("a message without \"type\"");
  }
  const auto& type = message["type"].get_ref<const std::string&>();
  try {
    if (!known_) {
      if (type == "hello") return hello(message);
      return invalid_argument("\"" + type.substr(0, 40) + "\" came first; expected \"hello\"");
    }
    WorkerHandler* handler = owner_.handler();
    if (handler == nullptr) return Error{ErrorCode::kUnavailable, "the server is stopping"};
    if (type == "ready") {
      handler->ready(id_);
      return {};
    }
    if (type == "leaving") {
      handler->leaving(id_);
      return {};
    }
    if (type == "heartbeat") return heartbeat(message);
    if (type == "outcome") return outcome(message);
    if (type == "put") return put(frame);
    if (type == "fetch") {
      const auto& file = message.at("file").get_ref<const std::string&>();
      if (!is_file_id(file)) return invalid_argument("fetch.file: expected an id");
      if (wanted_files_.size() >= kMaxWantedFiles) {
        return Error{ErrorCode::kResourceExhausted, "too many files are asked for at once"};
      }
      wanted_files_.push_back(file);
      wanted_changed_.cancel();
      return {};
    }
  } catch (const Json::exception& e) {
    return invalid_argument(type.substr(0, 40) + ": " + e.what());
  }
  return {};  // what a newer worker says beyond this version is passed over
}

Result<void> WorkerSession::hello(const Json& message) {
  const Json version = message.value("version", Json());
  if (!version.is_number_integer() || version < kProtocolOldest || version > kProtocolVersion) {
    return invalid_argument("protocol version " + canonical_text(version).substr(0, 20) +
                            " isn't spoken here; expected " + std::to_string(kProtocolOldest) +
                            " to " + std::to_string(kProtocolVersion));
  }
  const Json token = message.value("token", Json(""));
  if (!local_ && (!token.is_string() ||
                  !same_secret(token.get<std::string>(), owner_.options().token))) {
    return Error{ErrorCode::kUnauthenticated, "wrong token"};
  }
  WorkerInfo worker;
  worker.id = id_;
  KERF_ASSIGN(worker.name, short_text(message, "worker"));
  KERF_ASSIGN(worker.host, short_text(message, "host"));
  if (worker.name.empty()) worker.name = id_;
  const Json labels = message.value("labels", Json::object());
  if (!labels.is_object() || labels.size() > kMaxLabels) {
    return invalid_argument("hello.labels: expected an object of at most " +
                            std::to_string(kMaxLabels) + " texts");
  }
  for (const auto& [key, value] : labels.items()) {
    KERF_ASSIGN(worker.labels[key.substr(0, kMaxText)], short_text(labels, key.c_str()));
  }
  const Json hardware = message.value("hardware", Json());
  if (hardware.is_object()) {
    KERF_ASSIGN(const HardwareFingerprint fingerprint, HardwareFingerprint::parse(hardware));
    worker.hardware = fingerprint.to_json();
    worker.hardware_id = fingerprint.id();
  }
  WorkerHandler* handler = owner_.handler();
  if (handler == nullptr) return Error{ErrorCode::kUnavailable, "the server is stopping"};
  known_ = true;
  send({{"type", "welcome"},
        {"version", version},
        {"worker", id_},
        {"heartbeat_ms", owner_.options().heartbeat.count()},
        {"lease_ms", owner_.options().lease.count()},
        {"local", local_}});
  handler->joined(std::move(worker));
  return {};
}

Result<void> WorkerSession::heartbeat(const Json& message) {
  if (!message.contains("key")) return {};  // a sign of life of an idle worker
  KERF_ASSIGN(const WorkKey key, key_of(message));
  const auto token = message.at("token").get<std::int64_t>();
  WorkProgress progress;
  progress.step = message.value("step", std::int64_t{0});
  progress.phase = message.value("phase", "").substr(0, kMaxText);
  progress.share = message.value("share", 0.0);
  const auto held = owner_.handler()->heartbeat(id_, key, token, progress);
  if (!held.has_value()) {
    send({{"type", "cancel"},
          {"study", key.study},
          {"kind", std::string(to_string(key.kind))},
          {"number", key.number},
          {"token", token}});
  }
  return {};
}

Result<void> WorkerSession::outcome(const Json& message) {
  KERF_ASSIGN(const WorkOutcome outcome, WorkOutcome::parse(message.at("outcome")));
  if (outcome.key.kind == WorkKind::kExport && !outcome.error && outcome.result.is_object()) {
    const std::string file = outcome.result.value("file", "");
    if (!owner_.files().contains(file)) {
      return invalid_argument("export's file " + file.substr(0, 80) + " was never put");
    }
  }
  const auto taken = owner_.handler()->outcome(id_, outcome);
  Json answer = {{"token", outcome.token}};
  if (taken.has_value()) {
    answer["type"] = "ack";
  } else {
    const bool later = taken.error().code == ErrorCode::kResourceExhausted;
    answer["type"] = later ? "later" : "rejected";
    answer["reason"] = taken.error().message;
  }
  send(answer);
  return {};
}

Result<void> WorkerSession::put(const Frame& frame) {
  const auto& file = frame.message.at("file").get_ref<const std::string&>();
  KERF_ASSIGN(const std::uint64_t offset, bytes_of(frame.message, "offset"));
  KERF_ASSIGN(const std::uint64_t size, bytes_of(frame.message, "size"));
  if (!is_file_id(file)) return invalid_argument("put.file: expected an id");
  const auto refuse = [&](const Error& error) {
    upload_.reset();
    send({{"type", "not_stored"}, {"file", file}, {"reason", error.message}});
  };
  if (offset == 0) {
    auto writer = owner_.files().begin(size);
    if (!writer.has_value()) {
      refuse(writer.error());
      return {};
    }
    upload_.emplace(Upload{file, size, std::move(*writer)});
  }
  if (!upload_) return {};  // the rest of one that was refused
  if (upload_->file != file || upload_->size != size || upload_->writer.bytes() != offset) {
    return invalid_argument("put: a piece out of order");
  }
  if (const auto written = upload_->writer.write(frame.bytes); !written.has_value()) {
    refuse(written.error());
    return {};
  }
  if (upload_->writer.bytes() < size) return {};
  const auto stored = upload_->writer.finish();
  if (!stored.has_value()) {
    refuse(stored.error());
    return {};
  }
  upload_.reset();
  if (*stored != file) {
    (void)owner_.files().remove(*stored).has_value();
    refuse(Error{ErrorCode::kDataLoss, "the content is " + *stored});
    return {};
  }
  send({{"type", "stored"}, {"file", file}});
  return {};
}

}  // namespace kerf::scheduler
