#include "tests/demo/report.h"

#include <cstdio>
#include <string>

#include "tests/demo/report_hbm.h"
#include "tests/demo/report_text.h"

namespace agentmem::demo {
namespace {

constexpr std::uint64_t kKillsMin = 10;
constexpr std::uint64_t kStateTimesMin = 4;

std::string Requests(const Report& report) {
  const RunResult& result = report.result;
  char text[200];
  std::snprintf(text, sizeof(text),
                "%s of %s in %.1f s, by %u agent processes; %s done again "
                "after kills",
                CountText(result.requests_done).c_str(),
                CountText(report.workload.requests).c_str(),
                result.work_seconds, report.options.agents,
                CountText(result.requests_redone).c_str());
  return text;
}

std::string Hits(const Scoreboard& board) {
  const std::uint64_t dram = board.Get(Counter::kHitsDram);
  const std::uint64_t store = board.Get(Counter::kHitsStore);
  return "dram " + CountText(dram) + ", store " + CountText(store) +
         " blocks (" + Percent(dram, dram + store) + " dram)";
}

std::string Misses(const Scoreboard& board) {
  return "never stored " + CountText(board.Get(Counter::kMissesNeverStored)) +
         ", dropped " + CountText(board.Get(Counter::kMissesDropped)) +
         ", evicted between match and get " +
         CountText(board.Get(Counter::kMissesEvicted)) + ", deadline " +
         CountText(board.Get(Counter::kMissesDeadline));
}

std::string State(const Report& report) {
  const std::uint64_t bytes = report.board.Get(Counter::kStateBytes);
  char times[32];
  std::snprintf(times, sizeof(times), "%.1f",
                static_cast<double>(bytes) /
                    static_cast<double>(report.options.dram_bytes));
  return BytesText(bytes) + " in " +
         CountText(report.board.Get(Counter::kStateBlocks)) +
         " distinct blocks of up to " + BytesText(report.workload.block_bytes) +
         ": " + times + " x the DRAM budget of " +
         BytesText(report.options.dram_bytes);
}

std::string Kills(const RunResult& result) {
  char text[200];
  std::snprintf(text, sizeof(text),
                "%s, of them %s with pins, holds, grants and half a block in "
                "hand, %s with a forked child",
                CountText(result.kills).c_str(),
                CountText(result.kills_posed).c_str(),
                CountText(result.kills_forked).c_str());
  return text;
}

std::string Returned(const RunResult& result) {
  const TenantSample& end = result.at_end;
  char text[200];
  std::snprintf(text, sizeof(text),
                "within %.0f ms as memctl sees it; at the end granted %s, "
                "pinned %s, held %s, limbo %s",
                result.reclaim_ms_max, BytesText(end.granted_bytes).c_str(),
                BytesText(end.pinned_bytes).c_str(),
                BytesText(end.held_bytes).c_str(),
                BytesText(end.limbo_bytes).c_str());
  return text;
}

std::string Recovery(const RunResult& result) {
  char text[240];
  std::snprintf(text, sizeof(text),
                "%s resident blocks read while it was dead; back in %.2f s; "
                "%s of %s durable blocks and objects right",
                CountText(result.resident_while_down).c_str(),
                result.restart_seconds,
                CountText(result.durable_verified).c_str(),
                CountText(result.durable_acknowledged).c_str());
  return text;
}

std::string Memory(const MemoryResult& memory) {
  char text[400];
  std::snprintf(
      text, sizeof(text),
      "%s agents in %s processes, %s commits (%s durable); %s kills, %s in "
      "mid-commit,\n             and %s of memd; %s hibernations, %s forks; "
      "%s resumes, first page p99 %s;\n             %s compared in %.1f s",
      CountText(memory.agents).c_str(), CountText(memory.processes).c_str(),
      CountText(memory.commits).c_str(),
      CountText(memory.commits_durable).c_str(),
      CountText(memory.kills).c_str(),
      CountText(memory.kills_mid_commit).c_str(),
      CountText(memory.memd_kills).c_str(),
      CountText(memory.hibernations).c_str(), CountText(memory.forks).c_str(),
      CountText(memory.resumes).c_str(),
      TimeText(memory.first_page.QuantileNs(0.99)).c_str(),
      BytesText(memory.bytes_verified).c_str(), memory.seconds);
  return text;
}

std::string Cluster(const MemoryResult& memory) {
  return CountText(memory.nodes) + " nodes, one killed " +
         CountText(memory.memd_kills) + " times; " + CountText(memory.moves) +
         " times an agent woke on another node than the one before; " +
         CountText(memory.pool_hits) + " pool hits;\n             " +
         CountText(memory.delays) + " times one had to wait, at most " +
         TimeText(memory.delay_ns_max);
}

// What working memory has not shown.
void AddMemoryFailures(const Report& report,
                       std::vector<std::string>* failures) {
  const MemoryResult& memory = report.result.memory;
  const auto require = [&](bool holds, const std::string& otherwise) {
    if (!holds) failures->push_back("working memory: " + otherwise);
  };
  if (!memory.done) return failures->push_back("working memory: not done");
  require(memory.mismatches == 0, CountText(memory.mismatches) + " mismatches");
  require(memory.resumes > 0, "no agent was resumed");
  require(memory.hibernations > 0, "no agent was hibernated");
  require(memory.forks > 0, "no agent was forked");
  require(memory.kills_mid_commit > 0, "no process was killed in mid-commit");
  require(memory.memd_kills > 0 || !report.options.recovery,
          "memd was not killed");
  if (report.options.nodes == 1) return;
  require(memory.moves > 0, "no agent woke on another node");
  require(memory.pool_hits > 0, "no hits in the pool");
}

std::uint64_t BytesVerified(const Report& report) {
  if (report.options.hbm) return report.result.hbm.bytes_verified;
  if (report.options.nodes > 1) return report.result.memory.bytes_verified;
  return report.board.Get(Counter::kBytesVerified);
}

std::string Verdict(const Report& report) {
  const std::vector<std::string> failures = Failures(report);
  std::string text;
  if (!report.result.troubles.empty()) {
    text += "\n  " + CountText(report.result.troubles_count) + " troubles:\n";
    for (const std::string& trouble : report.result.troubles) {
      text += "    " + trouble + "\n";
    }
  }
  if (failures.empty()) {
    return text + "\n  OK: " + BytesText(BytesVerified(report)) +
           " verified, 0 mismatches\n";
  }
  text += "\n  FAILED:\n";
  for (const std::string& failure : failures) text += "    " + failure + "\n";
  return text;
}

// The machine was slower than the time that the run had.
constexpr char kTimeAdvice[] =
    "the time ran out; give it more with --seconds-max, or fewer --requests";

// What has to do with the requests, which only a lone node has.
void AddRequestFailures(const Report& report,
                        std::vector<std::string>* failures) {
  const Scoreboard& board = report.board;
  const RunResult& result = report.result;
  const auto require = [&](bool holds, const std::string& otherwise) {
    if (!holds) failures->push_back(otherwise);
  };
  const auto number = [](std::uint64_t value) { return CountText(value); };
  require(result.requests_done == report.workload.requests,
          number(report.workload.requests - result.requests_done) +
              " requests were not done");
  require(result.kills >= kKillsMin,
          "only " + number(result.kills) + " kills; at least 10 are wanted: " +
              (result.out_of_time ? kTimeAdvice
                                  : "ask for more requests, and for at least "
                                    "10 with --kills"));
  require(board.Get(Counter::kStateBytes) >=
              kStateTimesMin * report.options.dram_bytes,
          "the state, " + BytesText(board.Get(Counter::kStateBytes)) +
              ", is not 4 x the DRAM budget: " +
              (result.out_of_time ? kTimeAdvice
                                  : "ask for more requests or larger blocks"));
  require(board.Get(Counter::kHitsDram) > 0, "no hits in dram");
  require(board.Get(Counter::kHitsStore) > 0, "no hits in the store");
  require(board.Get(Counter::kPutsFailed) == 0,
          number(board.Get(Counter::kPutsFailed)) + " puts failed");
  require(board.Get(Counter::kGetsFailed) == 0,
          number(board.Get(Counter::kGetsFailed)) + " gets failed");
  require(board.Get(Counter::kForkNotRefused) == 0,
          "a forked child could use its parent's client");
  require(result.at_end.Quiet(),
          "memd did not get everything back from its clients");
  if (report.options.recovery) {
    require(result.recovered && result.durable_acknowledged > 0 &&
                result.durable_verified == result.durable_acknowledged,
            "of " + number(result.durable_acknowledged) +
                " durable blocks and objects " +
                number(result.durable_verified) +
                " are there after kill -9 of memd");
    require(result.resident_while_down > 0,
            "no resident block could be read while memd was dead");
  }
}

}  // namespace

std::vector<std::string> Failures(const Report& report) {
  const Scoreboard& board = report.board;
  const RunResult& result = report.result;
  std::vector<std::string> failures;
  const auto require = [&](bool holds, const std::string& otherwise) {
    if (!holds) failures.push_back(otherwise);
  };
  const auto number = [](std::uint64_t value) { return CountText(value); };
  require(board.Get(Counter::kMismatches) == 0,
          number(board.Get(Counter::kMismatches)) + " mismatches");
  if (result.interrupted) {
    failures.push_back("interrupted");
    return failures;
  }
  if (report.options.hbm) {
    AddHbmFailures(report, &failures);
  } else {
    if (report.options.nodes == 1) AddRequestFailures(report, &failures);
    if (report.options.memory_agents > 0) AddMemoryFailures(report, &failures);
  }
  require(result.troubles_count == 0,
          number(result.troubles_count) + " troubles (above)");
  return failures;
}

std::string RenderScreen(const Report& report) {
  std::string screen = "\nagentmem demo: ";
  screen += report.options.trace.empty()
                ? "coding agents, seed " + std::to_string(report.options.seed)
                : report.options.trace;
  screen += "\n\n";
  if (report.options.hbm) {
    return screen + HbmLines(report.result.hbm) + Verdict(report);
  }
  if (report.options.nodes > 1) {
    screen += Line("cluster", Cluster(report.result.memory));
    screen += Line("memory", Memory(report.result.memory));
    return screen + Verdict(report);
  }
  screen += Line("requests", Requests(report));
  screen += Line("hits", Hits(report.board));
  screen += Line("misses", Misses(report.board));
  screen += Line("state", State(report));
  screen += Line("kills", Kills(report.result));
  screen += Line("returned", Returned(report.result));
  if (report.result.recovered) {
    screen += Line("kill memd", Recovery(report.result));
  }
  if (report.result.memory.agents > 0) {
    screen += Line("memory", Memory(report.result.memory));
  }
  screen += Line("verified",
                 BytesText(report.board.Get(Counter::kBytesVerified)) + " in " +
                     CountText(report.board.Get(Counter::kBlocksVerified)) +
                     " blocks and objects, each byte compared; mismatches " +
                     CountText(report.board.Get(Counter::kMismatches)));
  screen += "\n" + LatencyTable(report.board);
  screen += "\n" + TierTable(report.result.samples);
  return screen + Verdict(report);
}

}  // namespace agentmem::demo
