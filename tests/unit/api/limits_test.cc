#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>

#include "api/server.h"
#include "cli/study_host.h"
#include "cli/study_service.h"

namespace kerf::api {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

/// A real host without workers, and a server with short limits over it.
class Limits : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = (std::filesystem::temp_directory_path() / ("kerf-api-" + std::to_string(getpid()))).string();
    cli::HostOptions how;
    how.data_dir = folder_;
    how.workers = 0;
    auto host = cli::StudyHost::open(how, clock_);
    ASSERT_TRUE(host.has_value()) << host.error().message;
    host_ = std::move(*host);
    ASSERT_TRUE(host_->start().has_value());
    service_ = cli::make_study_service(*host_);
  }
  void TearDown() override {
    service_.reset();
    host_.reset();
    std::filesystem::remove_all(folder_);
  }

  static ServerOptions quick() {
    ServerOptions options;
    options.header_limit = std::chrono::milliseconds(100);
    options.idle_limit = std::chrono::milliseconds(100);
    options.piece_limit = std::chrono::milliseconds(100);
    options.threads = 2;
    return options;
  }

  std::unique_ptr<Server> serve(const ServerOptions& options) {
    TokenTable tokens;
    tokens.add("secret", {Scope::kAdmin});
    auto server = std::make_unique<Server>(options, *service_, std::move(tokens));
    const auto port = server->start();
    EXPECT_TRUE(port.has_value());
    port_ = *port;
    return server;
  }

  tcp::socket connect() {
    tcp::socket socket(context_);
    socket.connect({asio::ip::make_address("127.0.0.1"), port_});
    return socket;
  }

  /// Everything until the server closes: that it does is what is tested.
  static std::string read_all(tcp::socket& socket) {
    std::string out;
    boost::system::error_code ended;
    asio::read(socket, asio::dynamic_buffer(out), ended);
    return out;
  }

  SystemClock clock_;
  std::string folder_;
  std::unique_ptr<cli::StudyHost> host_;
  std::unique_ptr<StudyService> service_;
  asio::io_context context_;
  std::uint16_t port_ = 0;
};

TEST_F(Limits, ClientThatNeverEndsItsHeaderIsClosed) {
  const auto server = serve(quick());
  auto silent = connect();
  auto slow = connect();
  asio::write(slow, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: x\r\n")));
  EXPECT_EQ(read_all(silent), "");
  EXPECT_EQ(read_all(slow), "");
}

TEST_F(Limits, ClientThatNeverEndsItsBodyIsClosedAndLeavesNoFile) {
  const auto server = serve(quick());
  auto slow = connect();
  asio::write(slow, asio::buffer(std::string("POST /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
                                             "Content-Length: 1000\r\n\r\nabc")));
  EXPECT_EQ(read_all(slow), "");
  const auto models = service_->uploads(UploadKind::kModel, "", 10);
  ASSERT_TRUE(models.has_value());
  EXPECT_TRUE((*models)["models"].empty());
}

TEST_F(Limits, ConnectionsBeyondTheLimitAreClosedAtOnceAndOthersServed) {
  ServerOptions options = quick();
  options.header_limit = std::chrono::seconds(60);
  options.connections = 2;
  const auto server = serve(options);
  auto first = connect();
  asio::write(first, asio::buffer(std::string("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")));
  std::string answer(12, '\0');
  asio::read(first, asio::buffer(answer));
  EXPECT_EQ(answer, "HTTP/1.1 200");
  auto second = connect();
  asio::write(second, asio::buffer(std::string("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")));
  asio::read(second, asio::buffer(answer));
  auto third = connect();
  EXPECT_EQ(read_all(third), "");
}

TEST_F(Limits, RequestsInOneConnectionAreAnsweredInOrder) {
  const auto server = serve(quick());
  auto client = connect();
  std::string requests;
  for (int i = 0; i < 3; ++i) requests += "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  requests += "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  asio::write(client, asio::buffer(requests));
  const std::string answers = read_all(client);
  std::size_t found = 0;
  for (std::size_t at = answers.find("200 OK"); at != std::string::npos; at = answers.find("200 OK", at + 1)) ++found;
  EXPECT_EQ(found, 3U);
  EXPECT_NE(answers.find("HTTP/1.1 404"), std::string::npos);
}

}  // namespace
}  // namespace kerf::api
