// A fake memd for tests that include agentmem.hpp, whose names are also those
// of proto/: nothing of proto/ is seen here.
//
// Ownership: owns the fake. Threads: one. Errors: a check. Cost: a thread.
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_FAKE_NODE_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_FAKE_NODE_H_

#include <memory>
#include <string>

class FakeNode {
 public:
  FakeNode();
  ~FakeNode();
  const std::string& socket_path() const { return socket_path_; }
  int pins();

 private:
  struct Parts;
  std::string directory_;
  std::string socket_path_;
  std::unique_ptr<Parts> parts_;
};

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_FAKE_NODE_H_
