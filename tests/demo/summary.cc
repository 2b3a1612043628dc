// The report as JSON: fields are only ever added.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "agentmem/agentmem.h"
#include "base/status.h"
#include "tests/demo/report.h"
#include "tests/demo/report_text.h"

namespace agentmem::demo {
namespace {

using Json = nlohmann::ordered_json;

Json Latencies(const Scoreboard& board) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kOperations; ++i) {
    const auto operation = static_cast<Operation>(i);
    const LatencyHistogram latencies = board.Latencies(operation);
    json[OperationField(operation)] = {{"count", latencies.count()},
                                       {"p50_ns", latencies.QuantileNs(0.5)},
                                       {"p99_ns", latencies.QuantileNs(0.99)},
                                       {"p999_ns", latencies.QuantileNs(0.999)},
                                       {"max_ns", latencies.max_ns()}};
  }
  return json;
}

Json Samples(const RunResult& result) {
  Json json = Json::array();
  for (const TierSample& sample : result.samples) {
    json.push_back({{"progress", sample.progress},
                    {"seconds", sample.seconds},
                    {"dram_bytes", sample.tenant.dram_bytes},
                    {"store_bytes", sample.tenant.store_bytes}});
  }
  return json;
}

Json Misses(const Scoreboard& board) {
  return {{"never_stored", board.Get(Counter::kMissesNeverStored)},
          {"dropped", board.Get(Counter::kMissesDropped)},
          {"evicted", board.Get(Counter::kMissesEvicted)},
          {"deadline", board.Get(Counter::kMissesDeadline)}};
}

Json AtEnd(const TenantSample& end) {
  return {{"clients", end.clients},
          {"granted_bytes", end.granted_bytes},
          {"pinned_bytes", end.pinned_bytes},
          {"held_bytes", end.held_bytes},
          {"limbo_bytes", end.limbo_bytes}};
}

double FirstPageP99Ms(const MemoryResult& memory) {
  return static_cast<double>(memory.first_page.QuantileNs(0.99)) / 1e6;
}

Json Memory(const MemoryResult& memory) {
  return {{"agents", memory.agents},
          {"processes", memory.processes},
          {"commits", memory.commits},
          {"commits_durable", memory.commits_durable},
          {"commits_rescued", memory.commits_rescued},
          {"commits_undone", memory.commits_undone},
          {"delays", memory.delays},
          {"delay_ns_max", memory.delay_ns_max},
          {"kills", memory.kills},
          {"kills_mid_commit", memory.kills_mid_commit},
          {"memd_kills", memory.memd_kills},
          {"hibernated_bytes", memory.hibernated_bytes},
          {"bytes_verified", memory.bytes_verified},
          {"mismatches", memory.mismatches},
          {"seconds", memory.seconds}};
}

// Of all that took part.
Json Hits(const Report& report) {
  const Scoreboard& board = report.board;
  const RunResult& result = report.result;
  const auto& hbm = result.hbm.hits;
  return {{"hbm", hbm[AGENTMEM_TIER_HBM]},
          {"dram", board.Get(Counter::kHitsDram) + hbm[AGENTMEM_TIER_DRAM]},
          {"pool", result.memory.pool_hits + hbm[AGENTMEM_TIER_POOL]},
          {"store", board.Get(Counter::kHitsStore) + hbm[AGENTMEM_TIER_STORE]}};
}

Json Hbm(const HbmResult& hbm) {
  return {{"device", hbm.device},
          {"no_gpu", hbm.no_gpu},
          {"agents", hbm.agents},
          {"engines", hbm.engines},
          {"blocks", hbm.blocks},
          {"budget_bytes", hbm.budget_bytes},
          {"allocated_bytes", hbm.allocated_bytes},
          {"hits_shown", hbm.hits_shown},
          {"recomputed", hbm.recomputed},
          {"human_waits", hbm.human_waits},
          {"emptied", hbm.emptied},
          {"emptied_late", hbm.emptied_late},
          {"emptied_ms_max", hbm.emptied_ms_max},
          {"returns", hbm.returns},
          {"returned", hbm.returned},
          {"returned_ms_max", hbm.returned_ms_max},
          {"return_blocks", hbm.return_blocks},
          {"return_hbm_hits", hbm.return_hbm_hits},
          {"moves", hbm.moves},
          {"delays", hbm.delays},
          {"delay_ns_max", hbm.delay_ns_max},
          {"kills", hbm.kills},
          {"kills_mid_copy", hbm.kills_mid_copy},
          {"memd_kills", hbm.memd_kills},
          {"bytes_verified", hbm.bytes_verified},
          {"mismatches", hbm.mismatches},
          {"seconds", hbm.seconds}};
}

}  // namespace

std::string RenderSummary(const Report& report) {
  const Scoreboard& board = report.board;
  const RunResult& result = report.result;
  const std::vector<std::string> failures = Failures(report);
  const Json json = {{"ok", failures.empty()},
                     {"failures", failures},
                     {"troubles", result.troubles},
                     {"trace", report.options.trace},
                     {"seed", report.options.seed},
                     {"agents", report.options.agents},
                     {"requests", result.requests_done},
                     {"requests_wanted", report.workload.requests},
                     {"requests_redone", result.requests_redone},
                     {"hits", Hits(report)},
                     {"hits_behind_gap", board.Get(Counter::kHitsBehindGap)},
                     {"misses", Misses(board)},
                     {"kills", result.kills},
                     {"kills_posed", result.kills_posed},
                     {"kills_forked", result.kills_forked},
                     {"reclaim_ms_max", result.reclaim_ms_max},
                     {"mismatches", board.Get(Counter::kMismatches)},
                     {"bytes_verified", board.Get(Counter::kBytesVerified)},
                     {"blocks_verified", board.Get(Counter::kBlocksVerified)},
                     {"objects_verified", board.Get(Counter::kObjectsVerified)},
                     {"puts",
                      {{"visible", board.Get(Counter::kPutsVisible)},
                       {"durable", board.Get(Counter::kPutsDurable)},
                       {"objects", board.Get(Counter::kObjectsPut)},
                       {"failed", board.Get(Counter::kPutsFailed)}}},
                     {"gets_failed", board.Get(Counter::kGetsFailed)},
                     {"block_bytes", report.workload.block_bytes},
                     {"state_bytes", board.Get(Counter::kStateBytes)},
                     {"state_blocks", board.Get(Counter::kStateBlocks)},
                     {"dram_budget_bytes", report.options.dram_bytes},
                     {"resident_while_memd_dead", result.resident_while_down},
                     {"durable_acknowledged", result.durable_acknowledged},
                     {"durable_verified", result.durable_verified},
                     {"memd_restart_seconds", result.restart_seconds},
                     {"hibernations", result.memory.hibernations},
                     {"resumes", result.memory.resumes},
                     {"nodes", report.options.nodes},
                     {"moves", result.memory.moves},
                     {"forks", result.memory.forks},
                     {"first_page_p99_ms", FirstPageP99Ms(result.memory)},
                     {"memory", Memory(result.memory)},
                     {"hbm", Hbm(result.hbm)},
                     {"at_end", AtEnd(result.at_end)},
                     {"seconds", result.seconds},
                     {"work_seconds", result.work_seconds},
                     {"latencies", Latencies(board)},
                     {"tiers_over_time", Samples(result)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::Status WriteSummary(const Report& report) {
  std::error_code error;
  std::filesystem::create_directories(report.options.output, error);
  const std::string path = report.options.output + "/summary.json";
  std::ofstream file(path, std::ios::trunc);
  file << RenderSummary(report);
  file.close();
  if (!file) return Unavailable("cannot write " + path);
  return absl::OkStatus();
}

}  // namespace agentmem::demo
