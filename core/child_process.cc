#include "core/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

namespace kerf {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

struct Pipe {
  int read = -1;
  int write = -1;
};

Pipe make_pipe() {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) fail("pipe2");
  return {fds[0], fds[1]};
}

void close_fd(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

// Between fork and exec only async-signal-safe calls are allowed.
[[noreturn]] void become_child(const ChildOptions& options, char* const* argv, char* const* envp,
                               int in, int out, int err, int socket, int report, pid_t parent) {
  if (options.own_group) setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before prctl
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  if (socket >= 0) {
    if (socket == options.socket_fd) {
      fcntl(socket, F_SETFD, 0);
    } else {
      dup2(socket, options.socket_fd);
    }
  }
  execvpe(argv[0], argv, envp);
  const int error = errno;
  (void)!write(report, &error, sizeof error);
  _exit(127);
}

int take(int& fd) { return std::exchange(fd, -1); }

}  // namespace

ChildProcess ChildProcess::spawn(const ChildOptions& options) {
  std::vector<char*> argv;
  for (const std::string& word : options.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!options.env.contains(text.substr(0, text.find('=')))) env.push_back(text);
  }
  for (const auto& [key, value] : options.env) env.push_back(key + "=" + value);
  std::vector<char*> envp;
  for (std::string& entry : env) envp.push_back(entry.data());
  envp.push_back(nullptr);

  ChildProcess child;
  child.group_ = options.own_group;
  Pipe in;
  Pipe out;
  Pipe err;
  std::array<int, 2> sockets{-1, -1};
  if (options.pipe_stdin) in = make_pipe();
  if (options.pipe_stdout) out = make_pipe();
  if (options.pipe_stderr) err = make_pipe();
  if (options.socket_fd >= 0 &&
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    fail("socketpair");
  }
  Pipe report = make_pipe();
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) fail("/dev/null");

  const int child_out = options.pipe_stdout ? out.write : options.stdout_to_stderr ? 2 : 1;
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    become_child(options, argv.data(), envp.data(), options.pipe_stdin ? in.read : null, child_out,
                 options.pipe_stderr ? err.write : 2, sockets[1], report.write, parent);
  }
  if (options.own_group) setpgid(pid, pid);
  child.pid_ = pid;
  close_fd(null);
  close_fd(report.write);
  close_fd(in.read);
  close_fd(out.write);
  close_fd(err.write);
  close_fd(sockets[1]);
  child.stdin_ = in.write;
  child.stdout_ = out.read;
  child.stderr_ = err.read;
  child.socket_ = sockets[0];

  int error = 0;
  ssize_t got = 0;
  do {
    got = read(report.read, &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  close_fd(report.read);
  if (got == sizeof error) {
    waitpid(pid, nullptr, 0);
    child.pid_ = -1;
    throw std::system_error(error, std::generic_category(), "can't run " + options.argv.at(0));
  }
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept { *this = std::move(other); }

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  if (pid_ > 0) terminate(std::chrono::milliseconds(0));
  close_all();
  pid_ = std::exchange(other.pid_, -1);
  group_ = other.group_;
  stdin_ = take(other.stdin_);
  stdout_ = take(other.stdout_);
  stderr_ = take(other.stderr_);
  socket_ = take(other.socket_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) terminate(std::chrono::milliseconds(0));
  close_all();
}

void ChildProcess::close_all() {
  close_fd(stdin_);
  close_fd(stdout_);
  close_fd(stderr_);
  close_fd(socket_);
}

int ChildProcess::take_stdin() { return take(stdin_); }
int ChildProcess::take_stdout() { return take(stdout_); }
int ChildProcess::take_stderr() { return take(stderr_); }
int ChildProcess::take_socket() { return take(socket_); }
void ChildProcess::close_stdin() { close_fd(stdin_); }

std::optional<int> ChildProcess::poll() {
  if (pid_ <= 0) return std::nullopt;
  int status = 0;
  const pid_t done = waitpid(pid_, &status, WNOHANG);
  if (done != pid_) return std::nullopt;
  if (group_) ::kill(-pid_, SIGKILL);  // what the child left behind goes with it
  pid_ = -1;
  return status;
}

std::optional<int> ChildProcess::wait_for(std::chrono::milliseconds limit) {
  if (pid_ <= 0) return std::nullopt;
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (fd >= 0) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      pollfd entry{fd, POLLIN, 0};
      const int ready = ::poll(&entry, 1, static_cast<int>(std::max<long>(0, left.count())));
      if (ready >= 0 || errno != EINTR) break;
    }
    ::close(fd);
  }
  return poll();
}

void ChildProcess::signal(int number) {
  if (pid_ > 0) ::kill(group_ ? -pid_ : pid_, number);
}

int ChildProcess::terminate(std::chrono::milliseconds grace) {
  if (pid_ <= 0) return 0;
  if (grace.count() > 0) {
    signal(SIGTERM);
    if (const auto status = wait_for(grace)) return *status;
  }
  signal(SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

std::string describe_wait_status(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) {
    return "signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
  }
  return "wait status " + std::to_string(status);
}

std::string self_executable() {
  std::array<char, 4096> path{};
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (size <= 0) fail("/proc/self/exe");
  return {path.data(), static_cast<std::size_t>(size)};
}

}  // namespace kerf
