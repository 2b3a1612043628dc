#include "tests/unit/client/fake_node.h"

#include <stdlib.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "tests/unit/client/fake_agentd.h"
#include "tests/unit/client/fake_memd.h"

struct FakeNode::Parts {
  explicit Parts(const std::string& path) : memd(path, WithAgents()) {}
  agentmem::FakeMemd::Options WithAgents() {
    agentmem::FakeMemd::Options options;
    options.agents = [this](agentmem::UniqueFd socket) {
      agentd.Serve(std::move(socket));
    };
    return options;
  }
  agentmem::FakeAgentd agentd;
  agentmem::FakeMemd memd;
};

FakeNode::FakeNode() {
  char directory[] = "/tmp/agentmem-test-XXXXXX";
  AGENTMEM_CHECK(mkdtemp(directory) != nullptr);
  directory_ = directory;
  socket_path_ = directory_ + "/memd.sock";
  parts_ = std::make_unique<Parts>(socket_path_);
}

FakeNode::~FakeNode() {
  parts_.reset();
  rmdir(directory_.c_str());
}

int FakeNode::pins() { return parts_->memd.Pins(); }
