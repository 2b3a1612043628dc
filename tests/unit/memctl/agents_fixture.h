// memctl's verbs of agents and regions, run against agents in memory.
#ifndef AGENTMEM_TESTS_UNIT_MEMCTL_AGENTS_FIXTURE_H_
#define AGENTMEM_TESTS_UNIT_MEMCTL_AGENTS_FIXTURE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "client/memctl/program.h"
#include "tests/unit/memctl/fake_agents.h"

namespace agentmem::memctl {

class AgentsFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/memctlXXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  int Run(const std::vector<std::string>& arguments,
          const std::string& input = "") {
    input_.clear();
    input_.str(input);
    output_.str("");
    error_.str("");
    World world;
    world.input = &input_;
    world.output = &output_;
    world.error = &error_;
    world.connect_agents = [this](const std::string&, const std::string& tenant,
                                  DurationNs timeout)
        -> absl::StatusOr<std::unique_ptr<AgentClient>> {
      return Connect<AgentClient, FakeAgentClient>(tenant, timeout);
    };
    world.connect_regions = [this](const std::string&,
                                   const std::string& tenant,
                                   DurationNs timeout)
        -> absl::StatusOr<std::unique_ptr<RegionClient>> {
      return Connect<RegionClient, FakeRegionClient>(tenant, timeout);
    };
    return static_cast<int>(RunMemctl(arguments, environment_, world));
  }
  std::string output() const { return output_.str(); }
  std::string error() const { return error_.str(); }
  nlohmann::json json() const {
    return nlohmann::json::parse(output(), nullptr, false);
  }
  // A version of a region that is made where there is none.
  VersionFacts& Commit(const RegionName& name, const std::string& message,
                       std::map<std::uint64_t, std::string> units = {}) {
    FakeRegion& region = node_.agents[name.agent].regions[name.region];
    if (region.bytes == 0) region.bytes = 1 << 20;
    FakeVersion version;
    version.facts.message = message;
    version.units = std::move(units);
    node_.Add(&region, version);
    return region.versions.back().facts;
  }

  FakeNode node_;
  absl::Status reachable_;
  std::istringstream input_;
  std::ostringstream output_;
  std::ostringstream error_;
  std::string directory_;
  std::string tenant_;
  DurationNs timeout_ = 0;

 private:
  template <typename Client, typename Fake>
  absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& tenant,
                                                  DurationNs timeout) {
    tenant_ = tenant;
    timeout_ = timeout;
    if (!reachable_.ok()) return reachable_;
    return std::unique_ptr<Client>(std::make_unique<Fake>(&node_));
  }

  const Environment environment_{false, 1000, "", "/xdg", "", "/home/a"};
};

}  // namespace agentmem::memctl

#endif  // AGENTMEM_TESTS_UNIT_MEMCTL_AGENTS_FIXTURE_H_
