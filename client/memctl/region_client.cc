#include "client/memctl/region_client.h"

#include <algorithm>
#include <cstdio>

#include "agentmem/agents.h"
#include "base/status.h"
#include "client/memctl/abi_connection.h"

namespace agentmem::memctl {
namespace {

struct CloseAgent {
  void operator()(agentmem_agent* agent) const { agentmem_agent_close(agent); }
};
using AbiAgent = std::unique_ptr<agentmem_agent, CloseAgent>;

struct CloseRegion {
  void operator()(agentmem_region* region) const {
    agentmem_region_close(region);
  }
};
using AbiRegion = std::unique_ptr<agentmem_region, CloseRegion>;

// The region closes before its agent.
struct OpenedRegion {
  AbiAgent agent;
  AbiRegion region;
};

std::string TraceText(const std::uint8_t (&id)[16]) {
  if (std::all_of(std::begin(id), std::end(id),
                  [](std::uint8_t byte) { return byte == 0; })) {
    return "";
  }
  char text[2 * sizeof(id) + 1];
  for (std::size_t i = 0; i < sizeof(id); ++i) {
    std::snprintf(text + 2 * i, 3, "%02x", id[i]);
  }
  return text;
}

VersionFacts FactsOf(const agentmem_version_info& info) {
  VersionFacts facts;
  facts.number = info.number;
  facts.parent = info.parent;
  if ((info.flags & AGENTMEM_VERSION_IS_REVERT) != 0) {
    facts.revert_of = info.origin;
  }
  if ((info.flags & AGENTMEM_VERSION_IS_FORK) != 0) {
    facts.fork_of = info.origin;
  }
  facts.unix_ns = info.unix_ns;
  facts.region_bytes = info.region_bytes;
  facts.changed_bytes = info.changed_bytes;
  facts.changed_pages = info.changed_pages;
  facts.message = info.message;
  for (std::size_t i = 0; i < info.label_count; ++i) {
    facts.labels.emplace_back(info.labels[i].key, info.labels[i].value);
  }
  facts.trace_id = TraceText(info.trace_id);
  return facts;
}

class AbiRegionReader final : public RegionReader {
 public:
  AbiRegionReader(OpenedRegion opened, std::uint64_t timeout)
      : opened_(std::move(opened)), timeout_(timeout) {}

  std::uint64_t version() const override {
    return agentmem_region_version(opened_.region.get());
  }
  std::uint64_t bytes() const override {
    return agentmem_region_size(opened_.region.get());
  }
  absl::Status Read(std::uint64_t offset, char* into,
                    std::uint64_t bytes) override {
    agentmem_error error = {};
    return FromAbi(agentmem_region_read(opened_.region.get(), offset, into,
                                        bytes, timeout_, &error),
                   error);
  }

 private:
  const OpenedRegion opened_;
  const std::uint64_t timeout_;
};

class AbiRegionWriter final : public RegionWriter {
 public:
  AbiRegionWriter(OpenedRegion opened, std::uint64_t timeout)
      : opened_(std::move(opened)), timeout_(timeout) {}

  std::uint64_t version() const override {
    return agentmem_region_version(opened_.region.get());
  }
  std::uint64_t bytes() const override {
    return agentmem_region_size(opened_.region.get());
  }
  absl::Status Write(std::uint64_t offset, const char* from,
                     std::uint64_t bytes) override {
    agentmem_error error = {};
    return FromAbi(agentmem_region_write(opened_.region.get(), offset, from,
                                         bytes, timeout_, &error),
                   error);
  }
  absl::StatusOr<std::uint64_t> Commit(const std::string& message,
                                       const Labels& labels) override {
    std::vector<agentmem_label> raw;
    for (const auto& [key, value] : labels) {
      raw.push_back({key.c_str(), value.c_str()});
    }
    agentmem_commit_options options = {};
    options.size = sizeof(options);
    options.ack = AGENTMEM_DURABLE;
    options.message = message.c_str();
    options.labels = raw.data();
    options.label_count = static_cast<std::uint32_t>(raw.size());
    std::uint64_t version = 0;
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_region_commit(opened_.region.get(), &options, timeout_,
                                       &version, &error),
                error));
    return version;
  }

 private:
  const OpenedRegion opened_;
  const std::uint64_t timeout_;
};

class AbiRegionClient final : public RegionClient {
 public:
  AbiRegionClient(AbiClient client, DurationNs timeout)
      : client_(std::move(client)),
        timeout_(static_cast<std::uint64_t>(timeout)) {}

  absl::StatusOr<std::vector<VersionFacts>> History(
      const RegionName& name, std::uint64_t count) override {
    std::vector<VersionFacts> versions;
    const auto note = [](void* context, const agentmem_version_info* info) {
      static_cast<std::vector<VersionFacts>*>(context)->push_back(
          FactsOf(*info));
    };
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_region_history(client_.get(), name.agent.c_str(),
                                        name.region.c_str(), 0, count, timeout_,
                                        note, &versions, &error),
                error));
    return versions;
  }

  absl::StatusOr<std::vector<ByteSpan>> Diff(const RegionName& name,
                                             std::uint64_t from,
                                             std::uint64_t to) override {
    std::vector<ByteSpan> spans;
    const auto note = [](void* context, const agentmem_range* range) {
      static_cast<std::vector<ByteSpan>*>(context)->push_back(
          {range->offset, range->bytes});
    };
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_region_diff(client_.get(), name.agent.c_str(),
                                     name.region.c_str(), from, to, timeout_,
                                     note, &spans, &error),
                error));
    return spans;
  }

  absl::StatusOr<std::uint64_t> Revert(const RegionName& name,
                                       std::uint64_t version) override {
    std::uint64_t made = 0;
    agentmem_error error = {};
    AGENTMEM_RETURN_IF_ERROR(
        FromAbi(agentmem_region_revert(client_.get(), name.agent.c_str(),
                                       name.region.c_str(), version, timeout_,
                                       &made, &error),
                error));
    return made;
  }

  absl::StatusOr<std::unique_ptr<RegionReader>> OpenToRead(
      const RegionName& name, std::uint64_t version) override {
    agentmem_agent_options agent = {};
    agent.size = sizeof(agent);
    agentmem_region_options region = {};
    region.size = sizeof(region);
    region.version = version;
    AGENTMEM_ASSIGN_OR_RETURN(OpenedRegion opened, Open(name, agent, region));
    return std::unique_ptr<RegionReader>(
        std::make_unique<AbiRegionReader>(std::move(opened), timeout_));
  }

  absl::StatusOr<std::unique_ptr<RegionWriter>> OpenToWrite(
      const RegionName& name, const WriterOptions& options) override {
    agentmem_agent_options agent = {};
    agent.size = sizeof(agent);
    agent.mode = AGENTMEM_AGENT_WRITE;
    agent.create = options.create_bytes != 0 ? 1 : 0;
    agent.take_over = options.take_over ? 1 : 0;
    agentmem_region_options region = {};
    region.size = sizeof(region);
    region.bytes = options.create_bytes;
    AGENTMEM_ASSIGN_OR_RETURN(OpenedRegion opened, Open(name, agent, region));
    return std::unique_ptr<RegionWriter>(
        std::make_unique<AbiRegionWriter>(std::move(opened), timeout_));
  }

 private:
  absl::StatusOr<OpenedRegion> Open(const RegionName& name,
                                    const agentmem_agent_options& agent_options,
                                    agentmem_region_options region_options) {
    const bool writes = agent_options.mode == AGENTMEM_AGENT_WRITE;
    OpenedRegion opened;
    agentmem_agent* agent = nullptr;
    agentmem_error error = {};
    agentmem_code code =
        agentmem_agent_open(client_.get(), name.agent.c_str(), &agent_options,
                            timeout_, &agent, &error);
    opened.agent.reset(agent);
    if (code == AGENTMEM_NOT_FOUND) {
      return NotFound("there is no agent \"" + name.agent +
                      "\" in this tenant; `memctl agent list` names those "
                      "there are" +
                      (writes ? ", and --bytes makes one" : ""));
    }
    if (code == AGENTMEM_FAILED_PRECONDITION) {
      return FailedPrecondition(std::string(error.message) +
                                " with --take-over");
    }
    AGENTMEM_RETURN_IF_ERROR(FromAbi(code, error));
    region_options.force_explicit = 1;
    agentmem_region* region = nullptr;
    code = agentmem_region_open(agent, name.region.c_str(), &region_options,
                                timeout_, &region, &error);
    opened.region.reset(region);
    if (code == AGENTMEM_NOT_FOUND && writes) {
      return NotFound(std::string(error.message) + "; --bytes makes one");
    }
    AGENTMEM_RETURN_IF_ERROR(FromAbi(code, error));
    return opened;
  }

  const AbiClient client_;
  const std::uint64_t timeout_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RegionClient>> ConnectRegions(
    const std::string& socket_path, const std::string& tenant,
    DurationNs timeout) {
  AGENTMEM_ASSIGN_OR_RETURN(AbiClient client,
                            ConnectAbi(socket_path, tenant, timeout));
  return std::unique_ptr<RegionClient>(
      std::make_unique<AbiRegionClient>(std::move(client), timeout));
}

}  // namespace agentmem::memctl
