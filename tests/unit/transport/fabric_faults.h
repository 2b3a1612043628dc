// libfabric's answers, as a test wants them.
//
// Stands between the product and libfabric in this program: the product's
// fi_fabric is that of fabric_faults.cc, which passes everything on but for the
// calls named here, and asks `answer` about those first. None: nothing changes.
//
// Threads: the test's alone. What was opened without an `answer` is asked about
// all the same, from when there is one.
#ifndef AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_FAULTS_H_
#define AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_FAULTS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

struct fid_cq;

namespace agentmem {

enum class FabricCall : std::uint8_t {
  kDomain,       // fi_domain
  kWaitedQueue,  // fi_cq_open, of one to wait on
  kRead,
  kWrite,
  kSend,
  kReceive,
};

struct FabricFaults {
  // 0: libfabric is asked; else what the call returns, such as -FI_EAGAIN.
  std::function<ssize_t(FabricCall)> answer;
  // The next completion is an error without a context, so often.
  int stray_errors = 0;
  // Queues in the order in which they were opened, and those of them that tell
  // this alone, for ever.
  struct QueueEnd {
    ssize_t read = 0;        // fi_cq_read
    ssize_t read_error = 0;  // fi_cq_readerr; 1: an error without a context
    int error = 0;           // this one
  };
  std::vector<const fid_cq*> queues;
  std::map<const fid_cq*, QueueEnd> ended;
  // Calls that libfabric took.
  std::map<FabricCall, std::uint64_t> taken;
};
FabricFaults& Faults();

// For one test.
class FabricFaultsScope {
 public:
  FabricFaultsScope() { Faults() = {}; }
  ~FabricFaultsScope() { Faults() = {}; }
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_TRANSPORT_FABRIC_FAULTS_H_
