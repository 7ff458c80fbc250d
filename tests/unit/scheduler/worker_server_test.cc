// What strangers and broken workers send; the server's other side is workers/process, tested with
// real processes in tests/unit/process.
#include "scheduler/worker_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>

#include "core/frame.h"
#include "core/sha256.h"
#include "search/random.h"

namespace kerf::scheduler {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;

struct Recorder final : WorkerHandler {
  void joined(WorkerInfo worker) override { workers.push_back(std::move(worker)); }
  void left(const std::string&, Clock::Duration) override { ++departures; }
  void ready(const std::string&) override { ++readies; }
  void leaving(const std::string&) override {}
  Result<void> heartbeat(const std::string&, const WorkKey&, std::int64_t, const WorkProgress&) override {
    return Error{ErrorCode::kAborted, "not held"};
  }
  Result<void> outcome(const std::string&, const WorkOutcome& outcome) override {
    if (outcome.token == 1) return {};
    if (outcome.token == 2) return Error{ErrorCode::kResourceExhausted, "full"};
    return Error{ErrorCode::kAborted, "stale"};
  }
  std::vector<WorkerInfo> workers;
  int departures = 0;
  int readies = 0;
};

class WorkerServerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("kerf-server-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    files_.emplace(*storage::FileStore::open((folder_ / "files").string()));
    WorkerServerOptions options;
    options.token = "secret";
    options.hello_limit = std::chrono::milliseconds(0);
    server_ = std::make_unique<WorkerServer>(io_, options, *files_, handler_);
    local_ = *server_->listen_unix((folder_ / "s").string());
    const std::string tcp = *server_->listen_tcp("127.0.0.1", 0);
    port_ = static_cast<std::uint16_t>(std::stoi(tcp.substr(tcp.rfind(':') + 1)));
  }
  void TearDown() override {
    server_->stop();
    io_.poll();
    fs::remove_all(folder_);
  }

  asio::ip::tcp::socket connect() {
    asio::ip::tcp::socket socket(io_);
    socket.connect({asio::ip::make_address("127.0.0.1"), port_});
    return socket;
  }

  // Sends, lets the server run, and returns what it answered.
  template <class Socket>
  std::vector<Frame> talk(Socket& socket, const std::string& bytes) {
    boost::system::error_code failed;
    asio::write(socket, asio::buffer(bytes), failed);
    std::vector<Frame> out;
    closed_ = false;
    socket.non_blocking(true);
    for (int quiet = 0; quiet < 200 && !closed_; ++quiet) {
      io_.poll();
      char piece[65536];
      const std::size_t got = socket.read_some(asio::buffer(piece), failed);
      if (failed && failed != asio::error::would_block) closed_ = true;
      if (failed || got == 0) continue;
      quiet = 0;
      EXPECT_TRUE(decoder_.feed({piece, got}).has_value());
      while (auto frame = decoder_.next()) out.push_back(std::move(*frame));
    }
    return out;
  }
  template <class Socket>
  std::vector<Frame> talk(Socket& socket, const Json& message, const std::string& raw = {}) {
    return talk(socket, *encode_frame({message, raw}));
  }

  Json hello(const std::string& token = "secret") {
    return {{"type", "hello"}, {"version", 1}, {"token", token}, {"worker", "w"}, {"host", "h"}};
  }
  static std::string type(const std::vector<Frame>& frames) {
    return frames.empty() ? "" : frames.back().message.value("type", "");
  }

  asio::io_context io_{1};
  fs::path folder_;
  std::optional<storage::FileStore> files_;
  Recorder handler_;
  std::unique_ptr<WorkerServer> server_;
  std::string local_;
  std::uint16_t port_ = 0;
  FrameDecoder decoder_;
  bool closed_ = false;
};

TEST_F(WorkerServerTest, WelcomesAWorkerThatKnowsTheToken) {
  auto socket = connect();
  EXPECT_EQ(type(talk(socket, hello())), "welcome");
  ASSERT_EQ(handler_.workers.size(), 1U);
  EXPECT_EQ(handler_.workers[0].name, "w");
  talk(socket, {{"type", "ready"}});
  EXPECT_EQ(handler_.readies, 1);
}

TEST_F(WorkerServerTest, RefusesAWrongTokenAndSaysNothingOfTheRightOne) {
  for (const Json& token : {Json("Secret"), Json(""), Json("secre"), Json("secret1"), Json(7), Json()}) {
    auto socket = connect();
    decoder_ = FrameDecoder();
    Json message = hello();
    message["token"] = token;
    const auto answer = talk(socket, message);
    EXPECT_EQ(type(answer), "refused");
    EXPECT_EQ(answer.back().message["reason"], "wrong token");
    EXPECT_TRUE(closed_);
  }
  EXPECT_TRUE(handler_.workers.empty());
}

TEST_F(WorkerServerTest, RefusesVersionsItDoesNotSpeakWithTheRangeItDoes) {
  for (const Json& version : {Json(0), Json(2), Json(99), Json("1"), Json(), Json(-1)}) {
    auto socket = connect();
    decoder_ = FrameDecoder();
    Json message = hello();
    message["version"] = version;
    const auto answer = talk(socket, message);
    ASSERT_EQ(type(answer), "refused") << version;
    EXPECT_THAT(answer.back().message["reason"].get<std::string>(), testing::HasSubstr("expected 1 to 1"));
  }
}

TEST_F(WorkerServerTest, NothingComesBeforeHello) {
  for (const char* kind : {"ready", "outcome", "fetch", "put", "heartbeat", ""}) {
    auto socket = connect();
    decoder_ = FrameDecoder();
    EXPECT_EQ(type(talk(socket, {{"type", kind}})), "refused") << kind;
    EXPECT_TRUE(closed_);
  }
  EXPECT_EQ(handler_.readies, 0);
}

TEST_F(WorkerServerTest, ClosesStreamsThatAreNotFrames) {
  search::Rng random({5});
  for (int i = 0; i < 100; ++i) {
    auto socket = connect();
    decoder_ = FrameDecoder();
    std::string bytes = i % 2 == 0 ? "" : "KRF1";
    for (int j = 0; j < 200; ++j) bytes += static_cast<char>(random.below(256));
    (void)talk(socket, bytes);
  }
  EXPECT_TRUE(handler_.workers.empty());
  auto socket = connect();
  decoder_ = FrameDecoder();
  EXPECT_EQ(type(talk(socket, hello())), "welcome") << "others are served";
}

TEST_F(WorkerServerTest, MessagesOfTheWrongShapeEndTheConnectionOnly) {
  const std::vector<Json> messages = {
      {{"type", "outcome"}},
      {{"type", "outcome"}, {"outcome", 7}},
      {{"type", "outcome"}, {"outcome", {{"key", {{"study", 1}, {"kind", "trial"}, {"number", "x"}}}}}},
      {{"type", "heartbeat"}, {"key", "x"}},
      {{"type", "heartbeat"}, {"key", {{"study", "s"}, {"kind", "dance"}, {"number", 1}}}},
      {{"type", "heartbeat"}, {"key", {{"study", "s"}, {"kind", "trial"}, {"number", 1}}}, {"token", "x"}},
      {{"type", "fetch"}},
      {{"type", "fetch"}, {"file", "../../etc/passwd"}},
      {{"type", "put"}, {"file", "sha256:xyz"}, {"offset", 0}, {"size", 1}},
      {{"type", "put"}, {"file", std::string("sha256:") + std::string(64, 'a')}, {"offset", -1}, {"size", -1}},
      {{"type", 7}},
      Json::array({1, 2}),
      Json("hello"),
  };
  for (const Json& message : messages) {
    auto socket = connect();
    decoder_ = FrameDecoder();
    ASSERT_EQ(type(talk(socket, hello())), "welcome");
    EXPECT_THAT(type(talk(socket, message)), testing::AnyOf("refused", "not_stored")) << message;
  }
}

TEST_F(WorkerServerTest, OutcomesAreAcknowledgedPutOffOrRejected) {
  auto socket = connect();
  talk(socket, hello());
  const auto outcome = [](std::int64_t token) {
    return Json{{"type", "outcome"},
                {"outcome", WorkOutcome{{"s", WorkKind::kTrial, 1}, token, Json::object(), std::nullopt, false}.to_json()}};
  };
  EXPECT_EQ(type(talk(socket, outcome(1))), "ack");
  EXPECT_EQ(type(talk(socket, outcome(2))), "later");
  EXPECT_EQ(type(talk(socket, outcome(3))), "rejected");
}

TEST_F(WorkerServerTest, AHeartbeatOfALeaseThatIsGoneIsAnsweredWithCancel) {
  auto socket = connect();
  talk(socket, hello());
  EXPECT_EQ(type(talk(socket, {{"type", "heartbeat"},
                               {"key", {{"study", "s"}, {"kind", "trial"}, {"number", 1}}},
                               {"token", 4}})),
            "cancel");
  EXPECT_EQ(type(talk(socket, {{"type", "heartbeat"}})), "");
}

TEST_F(WorkerServerTest, FilesTravelBothWaysInPieces) {
  auto socket = connect();
  talk(socket, hello());
  std::string content(2'500'000, 'k');
  content += "end";
  const std::string id = "sha256:" + sha256_hex(content);
  std::string answer;
  for (std::size_t offset = 0; offset < content.size(); offset += 1U << 20U) {
    answer = type(talk(socket, {{"type", "put"}, {"file", id}, {"offset", offset}, {"size", content.size()}},
                       content.substr(offset, 1U << 20U)));
  }
  EXPECT_EQ(answer, "stored");
  ASSERT_TRUE(files_->contains(id));
  std::string back;
  const std::vector<Frame> pieces = talk(socket, {{"type", "fetch"}, {"file", id}});
  for (const Frame& piece : pieces) {
    EXPECT_EQ(piece.message["type"], "chunk");
    EXPECT_EQ(piece.message["offset"], back.size());
    back += piece.bytes;
  }
  EXPECT_EQ(back, content);
  EXPECT_EQ(type(talk(socket, {{"type", "fetch"}, {"file", "sha256:" + std::string(64, '0')}})), "missing");
}

TEST_F(WorkerServerTest, AFileUnderAFalseNameIsNotKept) {
  auto socket = connect();
  talk(socket, hello());
  const std::string id = "sha256:" + std::string(64, 'b');
  EXPECT_EQ(type(talk(socket, {{"type", "put"}, {"file", id}, {"offset", 0}, {"size", 3}}, "abc")), "not_stored");
  EXPECT_FALSE(files_->contains(id));
  EXPECT_FALSE(files_->contains("sha256:" + sha256_hex("abc")));
}

TEST_F(WorkerServerTest, ConnectionsThatSayNothingAreClosed) {
  auto silent = connect();
  io_.poll();
  server_->close_overdue();
  (void)talk(silent, std::string());
  EXPECT_TRUE(closed_);
}

TEST_F(WorkerServerTest, AUnixSocketNeedsNoTokenAndIsPrivate) {
  struct stat info {};
  ASSERT_EQ(stat((folder_ / "s").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  asio::local::stream_protocol::socket socket(io_);
  socket.connect(asio::local::stream_protocol::endpoint((folder_ / "s").string()));
  Json message = hello();
  message.erase("token");
  EXPECT_EQ(type(talk(socket, message)), "welcome");
}

TEST(WorkerServer, TcpWithoutATokenIsRefused) {
  asio::io_context io;
  const fs::path folder = fs::temp_directory_path() / ("kerf-server-t-" + std::to_string(getpid()));
  const auto files = storage::FileStore::open(folder.string());
  Recorder handler;
  WorkerServer server(io, {}, *files, handler);
  EXPECT_EQ(server.listen_tcp("127.0.0.1", 0).error().code, ErrorCode::kFailedPrecondition);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace kerf::scheduler
