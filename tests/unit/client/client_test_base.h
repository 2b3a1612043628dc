// What tests of the client share: a directory for the socket, a fake memd that
// can die and come back, and short ways to connect and to read a span.
//
// Ownership: owns directory, memd and client; the client ends first.
// Threads: one. Errors: an EXPECT. Cost: a thread.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_CLIENT_TEST_BASE_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_CLIENT_TEST_BASE_H_

#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "agentmem/agentmem.h"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_memd.h"

namespace agentmem {

inline constexpr std::uint64_t kLongNs = 20'000'000'000;  // never reached
inline constexpr std::uint64_t kShortNs = 20'000'000;     // always reached

inline agentmem_key TestKey(std::uint32_t number) {
  return {number, {number * 7 + 1, 2, 3}};
}
inline Key AsKey(const agentmem_key& key) {
  return Key{key.group, {key.name[0], key.name[1], key.name[2]}};
}
inline std::string TextOf(const agentmem_span& span) {
  return span.data == nullptr
             ? "(none)"
             : std::string(static_cast<const char*>(span.data), span.length);
}

class ClientTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    socket_path_ = std::string(directory_) + "/memd.sock";
  }
  void TearDown() override {
    Close();
    memd_.reset();
    rmdir(directory_);
  }

  void Start(const FakeMemd::Options& options = FakeMemd::Options()) {
    memd_ = std::make_unique<FakeMemd>(socket_path_, options);
  }
  void Kill() { memd_.reset(); }
  agentmem_code Connect(std::uint64_t timeout_ns = kLongNs) {
    agentmem_options options = {};
    options.size = sizeof(options);
    options.socket_path = socket_path_.c_str();
    options.timeout_ns = timeout_ns;
    return agentmem_connect(&options, &client_, &error_);
  }
  void StartAndConnect(const FakeMemd::Options& options = FakeMemd::Options()) {
    Start(options);
    ASSERT_EQ(Connect(), AGENTMEM_OK) << error_.message;
  }
  // A memd with other nodes to ask.
  void StartAndConnectInCluster() {
    FakeMemd::Options options;
    options.welcome_flags = kWelcomeFindsTiers;
    StartAndConnect(options);
  }
  // What this client has asked of memd so far, whatever it was.
  std::uint64_t Posted() {
    return memd_->file().header().submission_tail.load();
  }
  void Close() {
    agentmem_close(client_);
    client_ = nullptr;
  }
  agentmem_code Get(const agentmem_key& key, agentmem_span* span,
                    std::uint64_t timeout_ns = kLongNs) {
    error_ = {};
    return agentmem_get(client_, &key, 1, timeout_ns, span, &error_);
  }
  agentmem_code Put(const agentmem_key& key, const std::string& bytes,
                    agentmem_put_id* put = nullptr,
                    std::uint64_t timeout_ns = kLongNs) {
    error_ = {};
    return agentmem_put(client_, &key, bytes.data(), bytes.size(),
                        AGENTMEM_CACHE, AGENTMEM_VISIBLE, timeout_ns, put,
                        &error_);
  }

  char directory_[32] = "/tmp/agentmem-test-XXXXXX";
  std::string socket_path_;
  std::unique_ptr<FakeMemd> memd_;
  agentmem_client* client_ = nullptr;
  agentmem_error error_ = {};
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_CLIENT_TEST_BASE_H_
