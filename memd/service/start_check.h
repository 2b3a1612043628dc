// What would fail the start, found before anything is started: names,
// addresses, files and the fabric's provider. (memd/config.h checks what the
// file alone can tell.) `memd --check-config` says the same as a start.
//
// Whether a port is free, etcd answers, or the disk has room only a start
// tells.
//
// Ownership: none. Threads: any. Errors: INVALID_ARGUMENT, or what the file's
// reader says; the message names file, line and field. Cost: reads the files;
// with [cluster], libfabric loads its providers and each RDMA device is opened
// once, up to a second.
#ifndef AGENTMEM_MEMD_SERVICE_START_CHECK_H_
#define AGENTMEM_MEMD_SERVICE_START_CHECK_H_

#include "absl/status/status.h"
#include "memd/config.h"

namespace agentmem {

absl::Status CheckStart(const Config& config);

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_SERVICE_START_CHECK_H_
