#include "workers/process/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "core/sanitized.h"
#include <vector>

namespace kerf::process {
namespace {

namespace fs = std::filesystem;

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("kerf-sandbox-" + std::to_string(getpid()));
    fs::create_directories(folder_ / "mine");
    fs::create_directories(folder_ / "others");
    std::ofstream(folder_ / "model") << "model";
    std::ofstream(folder_ / "secret") << "secret";
  }
  void TearDown() override { fs::remove_all(folder_); }

  // What `attempt` returns inside the sandbox: 0 = it succeeded, else its errno.
  int inside(const std::function<int()>& attempt, bool* landlock = nullptr) {
    int pipes[2];
    EXPECT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      SandboxOptions options;
      options.read = {(folder_ / "model").string()};
      options.write = {(folder_ / "mine").string()};
      options.address_space = 4ULL << 30U;
      options.file_size = 1U << 20U;
      const auto entered = enter_sandbox(options);
      int answer[2] = {-1, 0};
      if (entered.has_value()) {
        answer[1] = entered->landlock_abi;
        answer[0] = attempt();
      }
      (void)!write(pipes[1], answer, sizeof answer);
      _exit(0);
    }
    close(pipes[1]);
    int answer[2] = {-2, 0};
    EXPECT_EQ(read(pipes[0], answer, sizeof answer), static_cast<ssize_t>(sizeof answer));
    close(pipes[0]);
    waitpid(child, nullptr, 0);
    if (landlock != nullptr) *landlock = answer[1] > 0;
    return answer[0];
  }

  static int open_for(const fs::path& path, int flags) {
    const int fd = open(path.c_str(), flags, 0600);
    if (fd < 0) return errno;
    close(fd);
    return 0;
  }

  fs::path folder_;
};

TEST_F(SandboxTest, ThereIsNoNetwork) {
  for (const int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK}) {
    EXPECT_EQ(inside([&] { return socket(family, SOCK_STREAM, 0) < 0 ? errno : 0; }), EPERM) << family;
  }
}

TEST_F(SandboxTest, AnOpenSocketCannotConnectElsewhere) {
  const int before = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(inside([&] {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    return connect(before, reinterpret_cast<sockaddr*>(&where), sizeof where) < 0 ? errno : 0;
  }), EPERM);
  close(before);
}

TEST_F(SandboxTest, NoOtherProgramOrProcessStarts) {
  EXPECT_EQ(inside([] { return fork() < 0 ? errno : 0; }), EPERM);
  EXPECT_EQ(inside([] { return vfork() < 0 ? errno : 0; }), EPERM);
  EXPECT_EQ(inside([] {
    char* const argv[] = {const_cast<char*>("/bin/true"), nullptr};
    execv("/bin/true", argv);
    return errno;
  }), EPERM);
}

TEST_F(SandboxTest, OtherProcessesAreOutOfReach) {
  const pid_t parent = getpid();
  EXPECT_EQ(inside([&] { return kill(parent, 0) < 0 ? errno : 0; }), EPERM);
  EXPECT_EQ(inside([&] { return ptrace(PTRACE_ATTACH, parent, nullptr, nullptr) < 0 ? errno : 0; }), EPERM);
}

TEST_F(SandboxTest, ItsOwnFilesAreReadAndWritten) {
  EXPECT_EQ(inside([&] { return open_for(folder_ / "model", O_RDONLY); }), 0);
  EXPECT_EQ(inside([&] { return open_for(folder_ / "mine" / "out", O_WRONLY | O_CREAT | O_TRUNC); }), 0);
  EXPECT_EQ(inside([&] {
    return open_for(folder_ / "mine" / "a", O_WRONLY | O_CREAT) != 0 ||
           rename((folder_ / "mine" / "a").c_str(), (folder_ / "mine" / "b").c_str()) != 0;
  }), 0);
}

TEST_F(SandboxTest, OtherFilesAreNot) {
  bool landlock = false;
  EXPECT_EQ(inside([] { return 0; }, &landlock), 0);
  if (!landlock) GTEST_SKIP() << "this kernel has no Landlock";
  EXPECT_EQ(inside([&] { return open_for(folder_ / "secret", O_RDONLY); }), EACCES);
  EXPECT_EQ(inside([&] { return open_for(folder_ / "model", O_WRONLY); }), EACCES);
  EXPECT_EQ(inside([&] { return open_for(folder_ / "others" / "x", O_WRONLY | O_CREAT); }), EACCES);
  EXPECT_EQ(inside([] { return open_for("/etc/passwd", O_RDONLY); }), EACCES);
  EXPECT_EQ(inside([] { return open_for("/etc/shadow", O_RDONLY); }), EACCES);
  EXPECT_EQ(inside([] { return open_for("/root", O_RDONLY | O_DIRECTORY); }), EACCES);
  EXPECT_EQ(inside([] { return open_for("/proc/1/environ", O_RDONLY); }), EACCES);
  EXPECT_EQ(inside([&] { return unlink((folder_ / "secret").c_str()) < 0 ? errno : 0; }), EACCES);
}

TEST_F(SandboxTest, LinksOutAreNotMade) {
  EXPECT_EQ(inside([&] {
    return symlink("/etc/passwd", (folder_ / "mine" / "link").c_str()) < 0 ? errno : 0;
  }), EPERM);
}

TEST_F(SandboxTest, ThreadsAndExecutableMemoryWork) {
  EXPECT_EQ(inside([] {
    int sum = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&sum, i] { __atomic_fetch_add(&sum, i, __ATOMIC_SEQ_CST); });
    for (std::thread& thread : threads) thread.join();
    return sum == 6 ? 0 : 1;
  }), 0);
  EXPECT_EQ(inside([] {
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED || mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0 ? errno : 0;
  }), 0);
}

TEST_F(SandboxTest, AFileBeyondItsLimitIsAnErrorNotADeath) {
  EXPECT_EQ(inside([&] {
    const int fd = open((folder_ / "mine" / "large").c_str(), O_WRONLY | O_CREAT, 0600);
    const std::string piece(1U << 20U, 'x');
    if (write(fd, piece.data(), piece.size()) != static_cast<ssize_t>(piece.size())) return 1;
    return write(fd, "y", 1) < 0 ? errno : 0;
  }), EFBIG);
}

TEST_F(SandboxTest, MemoryBeyondItsLimitIsAnErrorNotADeath) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's shadow is beyond any limit";
  EXPECT_EQ(inside([] {
    void* much = mmap(nullptr, 8ULL << 30U, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return much == MAP_FAILED ? errno : 0;
  }), ENOMEM);
}

}  // namespace
}  // namespace kerf::process
