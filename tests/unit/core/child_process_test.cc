#include "core/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <system_error>

namespace kerf {
namespace {

using std::chrono::seconds;

TEST(ChildProcess, PipesCarryBothWays) {
  auto child = ChildProcess::spawn({.argv = {"cat"}, .pipe_stdin = true, .pipe_stdout = true});
  ASSERT_EQ(write(child.stdin_fd(), "hello", 5), 5);
  child.close_stdin();
  std::array<char, 16> buffer{};
  EXPECT_EQ(read(child.stdout_fd(), buffer.data(), buffer.size()), 5);
  const auto status = child.wait_for(seconds(20));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(describe_wait_status(*status), "exit code 0");
}

TEST(ChildProcess, ProgramThatIsNotThereThrows) {
  EXPECT_THROW((void)ChildProcess::spawn({.argv = {"/no/such/program"}}), std::system_error);
}

TEST(ChildProcess, TerminateKillsTheWholeGroup) {
  // The shell's own child holds the pipe's other end: it closes only when both are gone.
  auto child = ChildProcess::spawn({.argv = {"sh", "-c", "trap '' TERM; cat <&3 & echo up; wait; wait"},
                                    .pipe_stdin = true, .pipe_stdout = true, .socket_fd = 3});
  std::array<char, 8> buffer{};
  ASSERT_GT(read(child.stdout_fd(), buffer.data(), buffer.size()), 0);
  const int status = child.terminate(std::chrono::milliseconds(50));
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read(child.stdout_fd(), buffer.data(), buffer.size()), 0);
}

TEST(ChildProcess, SignalsAreNamed) {
  auto child = ChildProcess::spawn({.argv = {"sleep", "100"}});
  child.signal(SIGSEGV);
  const auto status = child.wait_for(seconds(20));
  ASSERT_TRUE(status.has_value());
  EXPECT_NE(describe_wait_status(*status).find("signal 11"), std::string::npos);
}

}  // namespace
}  // namespace kerf
