// memd whose network refuses it a buffer for messages, once for each
// SIGUSR1: then peers' messages do not reach it any more, until it hears them
// at another address. Everything else is memd's own, its main() too. See
// cluster_test.py.
#include <rdma/fi_errno.h>
#include <signal.h>

#include <atomic>

#include "tests/unit/transport/fabric_faults.h"

namespace agentmem {
namespace {

std::atomic<bool> refuse{false};

void RefuseOne(int) { refuse = true; }

// Before main(), which starts the thread that the network belongs to.
[[maybe_unused]] const bool installed = [] {
  Faults().answer = [](FabricCall call) -> ssize_t {
    return call == FabricCall::kReceive && refuse.exchange(false) ? -FI_EINVAL
                                                                  : 0;
  };
  struct sigaction action = {};
  action.sa_handler = RefuseOne;
  action.sa_flags = SA_RESTART;
  return ::sigaction(SIGUSR1, &action, nullptr) == 0;
}();

}  // namespace
}  // namespace agentmem
