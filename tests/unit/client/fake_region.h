// A region as the fake agentd keeps it: versions, and the memory of one that is
// open, paged as memd would page it.
//
// Ownership: of its memfd. Threads: thread-compatible; nothing here touches the
// mapping's memory. Errors: a failed system call ends the test. Cost: O(units).
#ifndef AGENTMEM_TESTS_UNIT_CLIENT_FAKE_REGION_H_
#define AGENTMEM_TESTS_UNIT_CLIENT_FAKE_REGION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "proto/agent_messages.h"
#include "proto/userfaultfd_abi.h"

namespace agentmem {

// Unit -> its 4 KiB. What is not there is zeros.
using FakeContent = std::map<std::uint64_t, std::string>;

struct FakeVersion {
  VersionEntry entry = {};
  std::string message;
  std::string labels;  // packed
  FakeContent content;
};

struct FakeRegion {
  std::string name;
  std::uint64_t bytes = 0;
  std::vector<FakeVersion> versions;  // version n is [n - 1]
  std::uint64_t head() const { return versions.size(); }
};

class FakeOpenRegion {
 public:
  FakeOpenRegion(FakeRegion* region, std::uint64_t version, bool read_only);

  void set_mapped(int uffd, std::uint64_t address, TrackingMode tracking);
  // False: the fault is of another region.
  bool Resolve(const uffd_msg& fault);
  void Populate(std::uint64_t offset, std::uint64_t bytes);
  void MarkDirty(std::uint64_t offset, std::uint64_t bytes);
  // The dirty units, as they are, on top of the version that is open.
  FakeContent Cut(std::uint64_t* changed_bytes);
  void MoveTo(std::uint64_t version);

  FakeRegion* region() const { return region_; }
  std::uint64_t version() const { return version_; }
  bool read_only() const { return read_only_; }
  int memory() const { return memory_.get(); }
  std::uint64_t address() const { return address_; }
  std::set<std::uint64_t> dirty_units;
  std::multiset<std::uint64_t> pins;  // offsets

 private:
  void Load(std::uint64_t unit);
  void Protect(std::uint64_t unit, bool on);
  std::string Bytes(std::uint64_t unit) const;

  FakeRegion* const region_;
  std::uint64_t version_;
  const bool read_only_;
  FakeContent base_;
  UniqueFd memory_;
  std::set<std::uint64_t> resident_;
  int uffd_ = -1;
  std::uint64_t address_ = 0;
  TrackingMode tracking_ = TrackingMode::kNone;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_CLIENT_FAKE_REGION_H_
