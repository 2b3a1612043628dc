// The machine that this process runs on. See system_view.h.
//
// Ownership: none. Threads: thread-compatible. Errors: as system_view.h says.
// Cost: system calls.
#ifndef AGENTMEM_CLIENT_MEMCTL_LINUX_SYSTEM_H_
#define AGENTMEM_CLIENT_MEMCTL_LINUX_SYSTEM_H_

#include <optional>
#include <string>
#include <vector>

#include "client/memctl/system_view.h"

namespace agentmem::memctl {

class LinuxSystem final : public SystemView {
 public:
  std::optional<std::string> Read(const std::string& path) const override;
  std::optional<mode_t> Mode(const std::string& path) const override;
  int Access(const std::string& path) const override;
  std::vector<std::string> List(const std::string& path) const override;
  int Try(Feature feature) const override;
  LimitValue LimitOf(Limit limit) const override;
  std::optional<DiskSpace> Space(const std::string& path) const override;
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_CLIENT_MEMCTL_LINUX_SYSTEM_H_
