// A real memd in a directory of its own, and children that act as clients.
#ifndef AGENTMEM_TESTS_INTEGRATION_MEMD_PROCESS_H_
#define AGENTMEM_TESTS_INTEGRATION_MEMD_PROCESS_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agentmem/agentmem.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace agentmem {

class MemdProcess {
 public:
  // `more` is added to the configuration.
  explicit MemdProcess(const std::string& dram, const std::string& more = "") {
    std::string name = "/tmp/agentmemXXXXXX";
    if (::mkdtemp(name.data()) == nullptr) ::abort();
    directory_ = name;
    std::ofstream(directory_ + "/memd.toml")
        << "state_directory = \"" << directory_ << "/state\"\n"
        << "socket = \"" << socket() << "\"\n"
        << "dram = \"" << dram << "\"\n"
        << more;
    Start();
  }
  ~MemdProcess() {
    if (pid_ > 0) Stop();
    std::filesystem::remove_all(directory_);
  }

  // Returns when memd says READY=1, as systemd would wait for it.
  void Start() {
    const std::string path = directory_ + "/notify";
    const UniqueFd notify(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ::unlink(path.c_str());
    ASSERT_EQ(::bind(notify.get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof(address)),
              0);
    pid_ = ::fork();
    ASSERT_GE(pid_, 0);
    if (pid_ == 0) {
      ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
      const std::string config = directory_ + "/memd.toml";
      std::freopen((directory_ + "/log").c_str(), "a", stderr);
      ::execl(AGENTMEM_MEMD, "memd", "--config", config.c_str(), nullptr);
      ::_exit(127);
    }
    pollfd ready = {notify.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 60'000), 1) << "memd is not ready: " << Log();
  }

  // SIGTERM; the exit status.
  int Stop() {
    ::kill(pid_, SIGTERM);
    return Reap();
  }
  void Kill() {
    ::kill(pid_, SIGKILL);
    Reap();
  }

  std::string socket() const { return directory_ + "/memd.sock"; }
  std::string directory() const { return directory_; }
  pid_t pid() const { return pid_; }
  std::string Log() const {
    std::ifstream file(directory_ + "/log");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  // What `memctl -o json <command>` prints.
  nlohmann::json Memctl(const std::string& command) const {
    const std::string line = std::string(AGENTMEM_MEMCTL) + " -s " + socket() +
                             " -o json " + command + " 2>&1";
    FILE* pipe = ::popen(line.c_str(), "r");
    std::string text;
    char buffer[4096];
    std::size_t got;
    while ((got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0) {
      text.append(buffer, got);
    }
    ::pclose(pipe);
    return nlohmann::json::parse(text, nullptr, false);
  }

  agentmem_client* Connect(const char* name = "test") const {
    agentmem_options options = {};
    options.size = sizeof(options);
    const std::string path = socket();
    options.socket_path = path.c_str();
    options.name = name;
    agentmem_client* client = nullptr;
    agentmem_error error = {};
    EXPECT_EQ(agentmem_connect(&options, &client, &error), AGENTMEM_OK)
        << error.message;
    return client;
  }

 private:
  int Reap() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string directory_;
  pid_t pid_ = -1;
};

// A child process that runs `work` and ends with its result; the parent can
// wait for words that it says.
class Child {
 public:
  explicit Child(const std::function<int(int say)>& work) {
    int ends[2];
    if (::pipe(ends) != 0) ::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      ::_exit(work(ends[1]));
    }
    ::close(ends[1]);
    words_ = UniqueFd(ends[0]);
  }
  ~Child() {
    if (pid_ > 0) {
      Kill();
      Wait();
    }
  }

  // The next byte that the child said; 0 at its end.
  char Hear() {
    char word = 0;
    return ::read(words_.get(), &word, 1) == 1 ? word : 0;
  }
  void Kill() { ::kill(pid_, SIGKILL); }
  int Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  UniqueFd words_;
};

inline void Say(int say, char word) {
  [[maybe_unused]] ssize_t put = ::write(say, &word, 1);
}

inline agentmem_key KeyOf(std::uint32_t n) {
  return agentmem_key{n / 64, {n, n * 2654435761u, 7}};
}

// Bytes that only this key has.
inline std::string BytesOf(const agentmem_key& key, std::size_t length) {
  std::string bytes(length, '\0');
  std::uint64_t state = key.name[0] * 0x9e3779b97f4a7c15ULL + key.name[1];
  for (std::size_t i = 0; i < length; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(&bytes[i], &state, std::min<std::size_t>(8, length - i));
  }
  return bytes;
}

inline agentmem_code Put(agentmem_client* client, const agentmem_key& key,
                         const std::string& bytes, agentmem_class block_class,
                         agentmem_ack ack, agentmem_error* error = nullptr) {
  agentmem_error ignored;
  if (error == nullptr) error = &ignored;
  agentmem_put_id put = 0;
  const agentmem_code code =
      agentmem_put(client, &key, bytes.data(), bytes.size(), block_class, ack,
                   10 * kSecondNs, &put, error);
  return code != AGENTMEM_OK
             ? code
             : agentmem_put_wait(client, put, 10 * kSecondNs, error);
}

// OK only when the block is there and its bytes are the right ones.
inline agentmem_code Check(agentmem_client* client, const agentmem_key& key,
                           std::size_t length, agentmem_tier* tier = nullptr) {
  agentmem_span span = {};
  agentmem_error error;
  const agentmem_code code =
      agentmem_get(client, &key, 1, 10 * kSecondNs, &span, &error);
  if (code != AGENTMEM_OK) return code;
  const std::string expected = BytesOf(key, length);
  const bool right = span.length == length &&
                     std::memcmp(span.data, expected.data(), length) == 0;
  if (tier != nullptr) *tier = span.tier;
  agentmem_release(client, &span, 1);
  return right ? AGENTMEM_OK : AGENTMEM_INTERNAL;
}

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_INTEGRATION_MEMD_PROCESS_H_
