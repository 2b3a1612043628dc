// Agents in a test's memory, and memctl's clients of them.
#ifndef AGENTMEM_TESTS_UNIT_MEMCTL_FAKE_AGENTS_H_
#define AGENTMEM_TESTS_UNIT_MEMCTL_FAKE_AGENTS_H_

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "client/memctl/agent_client.h"
#include "client/memctl/region_client.h"

namespace agentmem::memctl {

inline constexpr std::uint64_t kFakeUnit = 4096;

struct FakeVersion {
  VersionFacts facts;
  std::map<std::uint64_t, std::string> units;  // what is not there is zeros
};

struct FakeRegion {
  std::uint64_t bytes = 0;
  std::vector<FakeVersion> versions;  // number 1 first
};

struct FakeAgent {
  std::map<std::string, FakeRegion> regions;
  std::string writer;  // empty: none
  std::uint64_t hbm_bytes = 0;
};

// What a test sets up, and looks at afterwards.
struct FakeNode {
  std::map<std::string, FakeAgent> agents;
  absl::StatusOr<std::vector<HbmProcessFacts>> hbm =
      std::vector<HbmProcessFacts>();
  std::uint64_t unix_ns = 1'772'368'496ULL * 1'000'000'000;
  std::uint64_t read_bytes = 0;       // by all readers
  std::uint64_t largest_request = 0;  // of reads and writes
  absl::Status failure;               // of reads

  absl::StatusOr<FakeAgent*> Find(const std::string& name) {
    const auto found = agents.find(name);
    if (found == agents.end()) return NotFound("no agent \"" + name + "\"");
    return &found->second;
  }
  absl::StatusOr<FakeRegion*> Find(const RegionName& name) {
    AGENTMEM_ASSIGN_OR_RETURN(FakeAgent * agent, Find(name.agent));
    const auto found = agent->regions.find(name.region);
    if (found == agent->regions.end()) {
      return NotFound("no region \"" + name.region + "\"");
    }
    return &found->second;
  }
  // Number 0: zeros.
  absl::StatusOr<FakeVersion> Find(const RegionName& name,
                                   std::uint64_t number) {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeRegion* region, Find(name));
    if (number == 0) return FakeVersion();
    if (number > region->versions.size()) {
      return NotFound("no version " + std::to_string(number));
    }
    return region->versions[number - 1];
  }
  std::uint64_t Add(FakeRegion* region, FakeVersion version) {
    version.facts.number = region->versions.size() + 1;
    version.facts.parent = region->versions.size();
    version.facts.unix_ns = unix_ns;
    version.facts.region_bytes = region->bytes;
    unix_ns += 1'000'000'000;
    region->versions.push_back(std::move(version));
    return region->versions.size();
  }
};

class FakeAgentClient final : public AgentClient {
 public:
  explicit FakeAgentClient(FakeNode* node) : node_(node) {}

  absl::StatusOr<std::vector<AgentFacts>> List(
      const std::string& prefix) override {
    std::vector<AgentFacts> agents;
    for (const auto& [name, agent] : node_->agents) {
      if (name.rfind(prefix, 0) == 0) agents.push_back(FactsOf(name, agent));
    }
    return agents;
  }
  absl::StatusOr<AgentFacts> Show(const std::string& name) override {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeAgent* agent, node_->Find(name));
    AgentFacts facts = FactsOf(name, *agent);
    for (const auto& [region_name, region] : agent->regions) {
      facts.regions.push_back({region_name, region.bytes,
                               region.versions.size(),
                               region.versions.empty() ? 0U : 1U});
    }
    return facts;
  }
  absl::Status Fork(const std::string& from, std::uint64_t version,
                    const std::string& to) override {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeAgent* agent, node_->Find(from));
    FakeAgent made = *agent;
    made.writer.clear();
    if (version != 0) made.regions.begin()->second.versions.resize(version);
    node_->agents[to] = made;
    return absl::OkStatus();
  }
  absl::StatusOr<HibernateFacts> Hibernate(const std::string& name) override {
    AGENTMEM_RETURN_IF_ERROR(node_->Find(name).status());
    return HibernateFacts{4096, 3 << 20};
  }
  absl::StatusOr<std::uint64_t> Resume(const std::string& name) override {
    AGENTMEM_RETURN_IF_ERROR(node_->Find(name).status());
    return 7;
  }
  absl::Status Delete(const std::string& name) override {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeAgent* agent, node_->Find(name));
    if (!agent->writer.empty()) return FailedPrecondition(agent->writer);
    node_->agents.erase(name);
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<HbmProcessFacts>> ListHbm() override {
    return node_->hbm;
  }

 private:
  static AgentFacts FactsOf(const std::string& name, const FakeAgent& agent) {
    AgentFacts facts;
    facts.name = name;
    facts.phase = "tool";
    facts.writing = !agent.writer.empty();
    facts.writer = agent.writer;
    facts.writer_pid = facts.writing ? 4242 : 0;
    facts.resident_bytes = 3 << 20;
    facts.hbm_bytes = agent.hbm_bytes;
    for (const auto& [region_name, region] : agent.regions) {
      ++facts.region_count;
      facts.region_bytes += region.bytes;
      facts.versions += region.versions.size();
    }
    return facts;
  }

  FakeNode* const node_;
};

class FakeRegionReader final : public RegionReader {
 public:
  FakeRegionReader(FakeNode* node, FakeVersion version, std::uint64_t bytes)
      : node_(node), version_(std::move(version)), bytes_(bytes) {}

  std::uint64_t version() const override { return version_.facts.number; }
  std::uint64_t bytes() const override { return bytes_; }
  absl::Status Read(std::uint64_t offset, char* into,
                    std::uint64_t bytes) override {
    AGENTMEM_RETURN_IF_ERROR(node_->failure);
    node_->read_bytes += bytes;
    node_->largest_request = std::max(node_->largest_request, bytes);
    for (std::uint64_t i = 0; i < bytes; ++i) {
      const std::uint64_t at = offset + i;
      const auto unit = version_.units.find(at / kFakeUnit);
      into[i] =
          unit == version_.units.end() ? '\0' : unit->second[at % kFakeUnit];
    }
    return absl::OkStatus();
  }

 private:
  FakeNode* const node_;
  const FakeVersion version_;
  const std::uint64_t bytes_;
};

class FakeRegionWriter final : public RegionWriter {
 public:
  FakeRegionWriter(FakeNode* node, FakeRegion* region, std::string agent)
      : node_(node), region_(region), agent_(std::move(agent)) {
    node_->agents[agent_].writer = "memctl";
    if (!region->versions.empty()) next_.units = region->versions.back().units;
  }
  ~FakeRegionWriter() override { node_->agents[agent_].writer.clear(); }

  std::uint64_t version() const override { return region_->versions.size(); }
  std::uint64_t bytes() const override { return region_->bytes; }
  absl::Status Write(std::uint64_t offset, const char* from,
                     std::uint64_t bytes) override {
    node_->largest_request = std::max(node_->largest_request, bytes);
    for (std::uint64_t i = 0; i < bytes; ++i) {
      const std::uint64_t at = offset + i;
      std::string& unit = next_.units[at / kFakeUnit];
      unit.resize(kFakeUnit, '\0');
      unit[at % kFakeUnit] = from[i];
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::uint64_t> Commit(const std::string& message,
                                       const Labels& labels) override {
    next_.facts.message = message;
    next_.facts.labels = labels;
    return node_->Add(region_, next_);
  }

 private:
  FakeNode* const node_;
  FakeRegion* const region_;
  const std::string agent_;
  FakeVersion next_;
};

class FakeRegionClient final : public RegionClient {
 public:
  explicit FakeRegionClient(FakeNode* node) : node_(node) {}

  absl::StatusOr<std::vector<VersionFacts>> History(
      const RegionName& name, std::uint64_t count) override {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeRegion* region, node_->Find(name));
    std::vector<VersionFacts> versions;
    for (const FakeVersion& version : region->versions) {
      versions.insert(versions.begin(), version.facts);
    }
    if (count != 0 && versions.size() > count) versions.resize(count);
    return versions;
  }
  absl::StatusOr<std::vector<ByteSpan>> Diff(const RegionName& name,
                                             std::uint64_t from,
                                             std::uint64_t to) override {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeVersion a, node_->Find(name, from));
    AGENTMEM_ASSIGN_OR_RETURN(const FakeVersion b, node_->Find(name, to));
    std::map<std::uint64_t, std::string> both = a.units;
    both.insert(b.units.begin(), b.units.end());
    std::vector<ByteSpan> spans;
    for (const auto& [unit, bytes] : both) {
      const auto in_a = a.units.find(unit);
      const auto in_b = b.units.find(unit);
      if (in_a != a.units.end() && in_b != b.units.end() &&
          in_a->second == in_b->second) {
        continue;
      }
      spans.push_back({unit * kFakeUnit, kFakeUnit});
    }
    return spans;
  }
  absl::StatusOr<std::uint64_t> Revert(const RegionName& name,
                                       std::uint64_t version) override {
    AGENTMEM_ASSIGN_OR_RETURN(FakeVersion old, node_->Find(name, version));
    AGENTMEM_ASSIGN_OR_RETURN(FakeRegion * region, node_->Find(name));
    old.facts.revert_of = version;
    return node_->Add(region, old);
  }
  absl::StatusOr<std::unique_ptr<RegionReader>> OpenToRead(
      const RegionName& name, std::uint64_t version) override {
    AGENTMEM_ASSIGN_OR_RETURN(const FakeRegion* region, node_->Find(name));
    if (version == 0) version = region->versions.size();
    AGENTMEM_ASSIGN_OR_RETURN(FakeVersion opened, node_->Find(name, version));
    return std::unique_ptr<RegionReader>(std::make_unique<FakeRegionReader>(
        node_, std::move(opened), region->bytes));
  }
  absl::StatusOr<std::unique_ptr<RegionWriter>> OpenToWrite(
      const RegionName& name, const WriterOptions& options) override {
    if (options.create_bytes != 0) {
      FakeRegion& made = node_->agents[name.agent].regions[name.region];
      if (made.bytes == 0) made.bytes = options.create_bytes;
    }
    AGENTMEM_ASSIGN_OR_RETURN(const FakeAgent* agent, node_->Find(name.agent));
    AGENTMEM_ASSIGN_OR_RETURN(FakeRegion * region, node_->Find(name));
    if (!agent->writer.empty() && !options.take_over) {
      return FailedPrecondition("\"" + agent->writer + "\" writes it");
    }
    return std::unique_ptr<RegionWriter>(
        std::make_unique<FakeRegionWriter>(node_, region, name.agent));
  }

 private:
  FakeNode* const node_;
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_TESTS_UNIT_MEMCTL_FAKE_AGENTS_H_
