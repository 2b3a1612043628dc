#include "tests/demo/workload_builder.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tests/demo/workload.h"
#include "tiering/traces/agent_workload.h"
#include "tiering/traces/mooncake_trace.h"

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kBlockBytesMin = 4 << 10;
constexpr std::uint64_t kBlockBytesMax = 1 << 20;
// Of the DRAM budget; the demo must show at least 4.
constexpr double kStateTimes = 5.5;
// A block is from half of block_bytes to all of it.
constexpr double kMeanShare = 0.75;

std::uint64_t ChooseBlockBytes(std::uint64_t blocks, std::uint64_t dram_bytes) {
  const double bytes = kStateTimes * static_cast<double>(dram_bytes) /
                       (kMeanShare * static_cast<double>(blocks));
  const auto rounded = static_cast<std::uint64_t>(bytes) / 1024 * 1024;
  return std::clamp(rounded, kBlockBytesMin, kBlockBytesMax);
}

}  // namespace

absl::StatusOr<SharedRegion> LayOutWorkload(tiering::TraceSource* source,
                                            std::uint64_t requests,
                                            const DemoOptions& options) {
  std::vector<std::uint64_t> first = {0};
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> conversations;
  std::unordered_map<std::uint64_t, std::uint32_t> dense;
  std::unordered_map<std::uint64_t, std::uint32_t> sessions;
  tiering::TraceRequest request;
  while (first.size() <= requests) {
    AGENTMEM_ASSIGN_OR_RETURN(const bool more, source->Next(&request));
    if (!more) break;
    if (request.block_ids.empty()) continue;
    for (const std::uint64_t id : request.block_ids) {
      const auto number = static_cast<std::uint32_t>(dense.size());
      ids.push_back(dense.emplace(id, number).first->second);
    }
    first.push_back(ids.size());
    const auto number = static_cast<std::uint32_t>(sessions.size());
    conversations.push_back(
        sessions.emplace(request.session, number).first->second);
  }
  if (ids.empty()) {
    return InvalidArgument("the trace has no request with blocks");
  }
  WorkloadHeader header;
  header.requests = first.size() - 1;
  header.references = ids.size();
  header.blocks = dense.size();
  header.block_bytes = options.block_bytes != 0
                           ? options.block_bytes
                           : ChooseBlockBytes(dense.size(), options.dram_bytes);
  header.seed = options.seed;
  AGENTMEM_ASSIGN_OR_RETURN(
      SharedRegion region,
      SharedRegion::Create("demo-workload", Workload::BytesFor(header)));
  std::memcpy(region.data(), &header, sizeof(header));
  const Workload workload(region.data());
  std::copy(first.begin(), first.end(), workload.first());
  std::copy(ids.begin(), ids.end(), workload.ids());
  std::copy(conversations.begin(), conversations.end(),
            workload.conversation());
  return region;
}

absl::StatusOr<SharedRegion> BuildWorkload(const DemoOptions& options) {
  if (!options.trace.empty()) {
    AGENTMEM_ASSIGN_OR_RETURN(
        const std::unique_ptr<tiering::MooncakeTraceReader> reader,
        tiering::MooncakeTraceReader::Open(options.trace));
    return LayOutWorkload(reader.get(), options.requests, options);
  }
  tiering::AgentWorkloadOptions made;
  made.seed = options.seed;
  made.agents = 24;  // conversations at a time, whatever the processes
  made.requests = options.requests;
  AGENTMEM_RETURN_IF_ERROR(tiering::Validate(made));
  tiering::AgentWorkload generator(made);
  return LayOutWorkload(&generator, made.requests, options);
}

}  // namespace agentmem::demo
