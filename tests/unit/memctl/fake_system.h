// A machine that a test makes up: healthy unless told otherwise.
#ifndef AGENTMEM_TESTS_UNIT_MEMCTL_FAKE_SYSTEM_H_
#define AGENTMEM_TESTS_UNIT_MEMCTL_FAKE_SYSTEM_H_

#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <string>
#include <vector>

#include "client/memctl/system_view.h"

namespace agentmem::memctl {

class FakeSystem final : public SystemView {
 public:
  FakeSystem() {
    files["/proc/meminfo"] =
        "MemTotal:       67108864 kB\nMemAvailable:   33554432 kB\n"
        "HugePages_Total:       0\n";
    files["/proc/self/status"] = "Name:\tmemctl\nSeccomp:\t0\n";
    files["/proc/self/cgroup"] = "0::/\n";
    files["/proc/sys/vm/unprivileged_userfaultfd"] = "0\n";
    files["/proc/sys/kernel/io_uring_disabled"] = "0\n";
    files["/sys/kernel/mm/transparent_hugepage/enabled"] =
        "always [madvise] never\n";
    files["/sys/kernel/mm/transparent_hugepage/shmem_enabled"] =
        "always within_size [advise] never deny force\n";
    errors[Feature::kCudaLibrary] = ENOENT;
    modes["/dev/userfaultfd"] = S_IFCHR | 0600;
  }

  std::optional<std::string> Read(const std::string& path) const override {
    const auto found = files.find(path);
    if (found == files.end()) return std::nullopt;
    return found->second;
  }
  std::optional<mode_t> Mode(const std::string& path) const override {
    const auto found = modes.find(path);
    if (found == modes.end()) return std::nullopt;
    return found->second;
  }
  int Access(const std::string& path) const override {
    return modes.count(path) > 0 ? access_error : ENOENT;
  }
  std::vector<std::string> List(const std::string& path) const override {
    const auto found = directories.find(path);
    return found == directories.end() ? std::vector<std::string>()
                                      : found->second;
  }
  int Try(Feature feature) const override {
    const auto found = errors.find(feature);
    return found == errors.end() ? 0 : found->second;
  }
  LimitValue LimitOf(Limit limit) const override {
    return limit == Limit::kMemlock ? memlock : open_files;
  }
  std::optional<DiskSpace> Space(const std::string& path) const override {
    DiskSpace answer = space;
    if (answer.path.empty()) answer.path = path;
    return answer;
  }

  std::map<std::string, std::string> files;
  std::map<std::string, mode_t> modes;
  std::map<std::string, std::vector<std::string>> directories;
  std::map<Feature, int> errors;
  int access_error = 0;
  LimitValue memlock;
  LimitValue open_files = {65536, 65536};
  DiskSpace space = {"", 500ULL << 30, 1000ULL << 30, true};
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_TESTS_UNIT_MEMCTL_FAKE_SYSTEM_H_
