#include "tests/demo/report_hbm.h"

#include <cstdio>

#include "agentmem/agentmem.h"
#include "tests/demo/report_text.h"

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kFoundPerMiss = 4;

std::string Caches(const HbmResult& hbm) {
  const std::uint64_t bytes = hbm.blocks * kKvBlockBytes;
  return CountText(hbm.agents) + " agents in " + CountText(hbm.engines) +
         " engine processes on " + CountText(hbm.nodes) +
         (hbm.nodes == 1 ? " node" : " nodes") + ", device " + hbm.device +
         (hbm.no_gpu.empty() ? "" : " (" + hbm.no_gpu + ")") +
         ";\n             " + BytesText(bytes) + " in " +
         CountText(hbm.blocks) + " blocks; HBM of an engine at most " +
         BytesText(hbm.allocated_bytes) + " of a budget of " +
         BytesText(hbm.budget_bytes);
}

std::string Hits(const HbmResult& hbm) {
  return "hbm " + CountText(hbm.hits[AGENTMEM_TIER_HBM]) + " (memctl shows " +
         CountText(hbm.hits_shown) + "), dram " +
         CountText(hbm.hits[AGENTMEM_TIER_DRAM]) + ", pool " +
         CountText(hbm.hits[AGENTMEM_TIER_POOL]) + ", store " +
         CountText(hbm.hits[AGENTMEM_TIER_STORE]) + " blocks" +
         (hbm.recomputed == 0 ? ""
                              : "; not found, and computed again, " +
                                    CountText(hbm.recomputed));
}

std::string HumanWaits(const HbmResult& hbm) {
  char text[320];
  std::snprintf(
      text, sizeof(text),
      "%s times an agent waited for a human, %s left HBM (%s late), within "
      "%.0f ms;\n             %s came back before they asked, within %.0f ms: "
      "%s of what they loaded then was in HBM",
      CountText(hbm.human_waits).c_str(), CountText(hbm.emptied).c_str(),
      CountText(hbm.emptied_late).c_str(), hbm.emptied_ms_max,
      CountText(hbm.returned).c_str(), hbm.returned_ms_max,
      Percent(hbm.return_hbm_hits, hbm.return_blocks).c_str());
  return text;
}

std::string Kills(const HbmResult& hbm) {
  return CountText(hbm.kills) + " of engines, " +
         CountText(hbm.kills_mid_copy) + " in the midst of copies; " +
         CountText(hbm.memd_kills) + " of memd" +
         (hbm.nodes == 1 ? ""
                         : "; " + CountText(hbm.moves) +
                               " times an agent went on on another node");
}

}  // namespace

void AddHbmFailures(const Report& report, std::vector<std::string>* failures) {
  const HbmResult& hbm = report.result.hbm;
  const auto require = [&](bool holds, const std::string& otherwise) {
    if (!holds) failures->push_back("HBM: " + otherwise);
  };
  if (!hbm.done) return failures->push_back("HBM: not done");
  require(hbm.mismatches == 0, CountText(hbm.mismatches) + " mismatches");
  require(hbm.hits[AGENTMEM_TIER_HBM] > 0, "no hits in hbm");
  require(hbm.hits_shown > 0 || hbm.hits[AGENTMEM_TIER_HBM] == 0,
          "memctl shows no hits in hbm");
  require(hbm.hits[AGENTMEM_TIER_DRAM] > 0, "no hits in dram");
  require(hbm.hits[AGENTMEM_TIER_STORE] > 0, "no hits in the store");
  std::uint64_t found = 0;
  for (const std::uint64_t hits : hbm.hits) found += hits;
  require(kFoundPerMiss * hbm.recomputed <= found,
          CountText(hbm.recomputed) + " blocks had to be computed again, and " +
              CountText(found) + " were found");
  require(hbm.human_waits > 0, "no agent with blocks there waited for a human");
  require(hbm.emptied == hbm.human_waits, "of " + CountText(hbm.human_waits) +
                                              " that waited for a human " +
                                              CountText(hbm.emptied) + " left");
  require(hbm.emptied_late == 0,
          CountText(hbm.emptied_late) + " left after memd's deadline");
  require(hbm.returned == hbm.returns,
          "of " + CountText(hbm.returns) + " that reason again " +
              CountText(hbm.returned) + " came back");
  require(
      hbm.return_hbm_hits > 0 && 2 * hbm.return_hbm_hits >= hbm.return_blocks,
      "of " + CountText(hbm.return_blocks) +
          " blocks that were loaded after a return " +
          CountText(hbm.return_hbm_hits) + " were in HBM");
  require(hbm.kills_mid_copy > 0,
          "no engine was killed in the midst of copies");
  require(hbm.memd_kills > 0 || !report.options.recovery,
          "memd was not killed");
  if (report.options.nodes == 1) return;
  require(hbm.hits[AGENTMEM_TIER_POOL] > 0, "no hits in the pool");
  require(hbm.moves > 0, "no agent went on on another node");
}

std::string HbmLines(const HbmResult& hbm) {
  return Line("caches", Caches(hbm)) + Line("hits", Hits(hbm)) +
         Line("humans", HumanWaits(hbm)) + Line("kills", Kills(hbm)) +
         Line("verified", BytesText(hbm.bytes_verified) +
                              ", each byte compared in the engines' pages; "
                              "mismatches " +
                              CountText(hbm.mismatches));
}

}  // namespace agentmem::demo
