// agentmem_demo: real agent processes work through a trace against a real memd;
// some are killed, and every byte that they read is compared.
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/status.h"
#include "tests/demo/agent.h"
#include "tests/demo/cluster_nodes.h"
#include "tests/demo/driver.h"
#include "tests/demo/hbm_engine.h"
#include "tests/demo/hbm_phase.h"
#include "tests/demo/memory_agent.h"
#include "tests/demo/memory_phase.h"
#include "tests/demo/nodes.h"
#include "tests/demo/report.h"
#include "tests/demo/workload_builder.h"

namespace agentmem::demo {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

std::string OwnPath() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

// memd and memctl lie beside the demo.
std::string Beside(const std::string& own_path, const char* name) {
  return (std::filesystem::path(own_path).parent_path() / name).string();
}

int Complain(const absl::Status& status, int code) {
  std::fprintf(stderr, "agentmem_demo: %s\n", StatusMessage(status).c_str());
  return code;
}

// agentmem_demo --agent LANE SOCKET WORKLOAD BOARD LIFELINE MEMD: by itself.
int RunAgent(int argc, char** argv) {
  if (argc != 8) return kUsage;
  const auto number = [&](int i) {
    return static_cast<int>(std::strtol(argv[i], nullptr, 10));
  };
  AgentArguments arguments;
  arguments.lane = static_cast<std::size_t>(number(2));
  arguments.demo_socket = number(3);
  arguments.workload = number(4);
  arguments.board = number(5);
  arguments.lifeline = number(6);
  arguments.memd_socket_path = argv[7];
  return AgentMain(arguments);
}

// agentmem_demo --memory-agent SOCKET MEMD: by itself.
int RunMemoryAgent(int argc, char** argv) {
  if (argc != 4) return kUsage;
  return MemoryAgentMain(static_cast<int>(std::strtol(argv[2], nullptr, 10)),
                         argv[3]);
}

// agentmem_demo --hbm-engine SOCKET MEMD: by itself.
int RunHbmEngine(int argc, char** argv) {
  if (argc != 4) return kUsage;
  return HbmEngineMain(static_cast<int>(std::strtol(argv[2], nullptr, 10)),
                       argv[3]);
}

void AddOptions(CLI::App* app, DemoOptions* options, bool* no_recovery) {
  app->add_option("--trace", options->trace,
                  "requests in Mooncake's format; default: made up after the "
                  "published statistics of coding agents")
      ->type_name("FILE");
  app->add_option("--agents", options->agents, "agent processes (4)")
      ->check(CLI::Range(4u, static_cast<unsigned>(kLanesMax)));
  app->add_option("--requests", options->requests,
                  "of the trace, from its start (3000)")
      ->check(CLI::Range(1, 1'000'000'000));
  app->add_option("--block-bytes", options->block_bytes,
                  "the longest block; default: chosen so that the state is "
                  "several times the DRAM budget")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(512u, 4u << 20));
  app->add_option("--dram", options->dram_bytes,
                  "memd's DRAM budget (192MiB; with --hbm 64MiB)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{16} << 20, std::uint64_t{1} << 40));
  app->add_option("--kills", options->kills, "agents to kill (12)")
      ->check(CLI::Range(0, 10'000));
  app->add_option("--memory-agents", options->memory_agents,
                  "agents with working memory, after the requests (6); 0: "
                  "none")
      ->check(CLI::Range(0, 32));
  app->add_option("--nodes", options->nodes,
                  "agents with working memory alone, on a cluster of so many "
                  "nodes, which ./dev demo --nodes N starts")
      ->check(CLI::Range(1, 16));
  app->add_flag("--hbm", options->hbm,
                "agents with KV caches in device memory alone: on a GPU, or "
                "on the host device where there is none; with --nodes on a "
                "cluster");
  app->add_option("--hbm-agents", options->hbm_agents,
                  "agents with KV caches in device memory (6)")
      ->check(CLI::Range(3, 32));
  app->add_option("--seed", options->seed, "of everything random (1)");
  app->add_option("--output", options->output,
                  "directory of summary.json (build/demo)")
      ->type_name("DIR");
  app->add_option("--memd", options->memd, "default: beside this program")
      ->type_name("PATH");
  app->add_option("--memctl", options->memctl, "default: beside this program")
      ->type_name("PATH");
  app->add_option("--seconds-max", options->seconds_max,
                  "give up after so long (100)")
      ->check(CLI::Range(1, 1'000'000));
  app->add_flag("--no-recovery", *no_recovery, "leave out killing memd");
  app->add_flag("--keep", options->keep, "keep the temporary directory");
}

// The demo ends its children itself when the user stops it.
UniqueFd TakeSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return UniqueFd(signalfd(-1, &signals, SFD_CLOEXEC));
}

// The exit code.
int Finish(const Report& report) {
  std::fputs(RenderScreen(report).c_str(), stdout);
  const absl::Status status = WriteSummary(report);
  if (!status.ok()) return Complain(status, kFailed);
  return Failures(report).empty() ? 0 : kFailed;
}

void SayWhatComes(const DemoOptions& options, const WorkloadHeader& header,
                  const MemdProcess& memd) {
  std::printf(
      "agentmem demo: %u agents, %llu requests, %llu distinct blocks of up to "
      "%llu KiB,\n%llu MiB of DRAM, %u kills; memd in %s\n",
      options.agents, static_cast<unsigned long long>(header.requests),
      static_cast<unsigned long long>(header.blocks),
      static_cast<unsigned long long>(header.block_bytes >> 10),
      static_cast<unsigned long long>(options.dram_bytes >> 20), options.kills,
      memd.directory().c_str());
  std::fflush(stdout);
}

// In the cluster whose directory is `cluster`.
int RunOnNodes(const DemoOptions& options, const std::string& cluster,
               const std::string& own_path) {
  if (cluster.empty()) {
    return Complain(
        InvalidArgument("--nodes without $AGENTMEM_CLUSTER, the directory of a "
                        "cluster that runs; ./dev demo --nodes 3 starts one"),
        kUsage);
  }
  const auto nodes = ClusterNodes::Open(cluster);
  if (!nodes.ok()) return Complain(nodes.status(), kUsage);
  if ((*nodes)->count() != options.nodes) {
    return Complain(
        InvalidArgument("--nodes " + std::to_string(options.nodes) +
                        ", and the cluster in " + cluster + " has " +
                        std::to_string((*nodes)->count())),
        kUsage);
  }
  const UniqueFd signals = TakeSignals();
  RunResult result;
  absl::Status status;
  if (options.hbm) {
    status = HbmPhase(options, {nodes->get(), signals.get(), own_path}, &result)
                 .Run();
  } else {
    status =
        MemoryPhase(options, {nodes->get(), signals.get(), own_path}, &result)
            .Run();
  }
  if (!status.ok()) result.Trouble(StatusMessage(status));
  const WorkloadHeader no_requests = {};
  const auto no_counts = std::make_unique<Scoreboard>();
  return Finish({options, no_requests, *no_counts, result});
}

// With a memd of its own.
int RunHbm(const DemoOptions& options, const std::string& own_path) {
  const UniqueFd signals = TakeSignals();
  const auto memd = MemdProcess::Create(options);
  if (!memd.ok()) return Complain(memd.status(), kFailed);
  if (const absl::Status status = (*memd)->Start(); !status.ok()) {
    return Complain(status, kFailed);
  }
  RunResult result;
  LoneNode node(memd->get());
  absl::Status status =
      HbmPhase(options, {&node, signals.get(), own_path}, &result).Run();
  if (!status.ok()) result.Trouble(StatusMessage(status));
  if ((*memd)->running()) {
    status = (*memd)->Stop();
    if (!status.ok()) result.Trouble(StatusMessage(status));
  }
  const WorkloadHeader no_requests = {};
  const auto no_counts = std::make_unique<Scoreboard>();
  return Finish({options, no_requests, *no_counts, result});
}

int RunDemo(const DemoOptions& options, const std::string& own_path) {
  const auto workload = BuildWorkload(options);
  if (!workload.ok()) return Complain(workload.status(), kUsage);
  const auto board = SharedRegion::Create("demo-board", sizeof(Scoreboard));
  if (!board.ok()) return Complain(board.status(), kFailed);
  const UniqueFd signals = TakeSignals();
  // Forked children of killed agents come to the demo, which waits for them.
  prctl(PR_SET_CHILD_SUBREAPER, 1);

  auto memd = MemdProcess::Create(options);
  if (!memd.ok()) return Complain(memd.status(), kFailed);
  const WorkloadHeader& header = Workload(workload->data()).header();
  SayWhatComes(options, header, **memd);
  if (const absl::Status status = (*memd)->Start(); !status.ok()) {
    return Complain(status, kFailed);
  }
  RunResult result;
  absl::Status status;
  {
    Driver driver(options,
                  {&*workload, &*board, memd->get(), signals.get(), own_path});
    status = driver.Run(&result);
  }
  if (status.ok() && !result.interrupted && options.memory_agents > 0) {
    LoneNode node(memd->get());
    status =
        MemoryPhase(options, {&node, signals.get(), own_path}, &result).Run();
  }
  if (!status.ok()) result.Trouble(StatusMessage(status));
  if ((*memd)->running()) {
    status = (*memd)->Stop();
    if (!status.ok()) result.Trouble(StatusMessage(status));
  }
  while (waitpid(-1, nullptr, 0) > 0) {
  }

  return Finish(
      {options, header, *reinterpret_cast<Scoreboard*>(board->data()), result});
}

}  // namespace
}  // namespace agentmem::demo

int main(int argc, char** argv) {
  using namespace agentmem::demo;  // NOLINT: main is of the demo
  if (argc > 1 && std::strcmp(argv[1], "--agent") == 0) {
    return RunAgent(argc, argv);
  }
  if (argc > 1 && std::strcmp(argv[1], "--memory-agent") == 0) {
    return RunMemoryAgent(argc, argv);
  }
  if (argc > 1 && std::strcmp(argv[1], "--hbm-engine") == 0) {
    return RunHbmEngine(argc, argv);
  }
  CLI::App app{
      "Agent processes match, get and put KV blocks through a memd with a "
      "DRAM\n"
      "budget well below the state; some are killed in mid-work, and every "
      "byte\n"
      "read is compared. Writes build/demo/summary.json; exit code 0: all "
      "well."};
  app.name("agentmem_demo");
  DemoOptions options;
  bool no_recovery = false;
  AddOptions(&app, &options, &no_recovery);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  const std::string own_path = OwnPath();
  if (options.memd.empty()) options.memd = Beside(own_path, "memd");
  if (options.memctl.empty()) options.memctl = Beside(own_path, "memctl");
  options.recovery = !no_recovery;
  if (options.hbm && app.count("--dram") == 0) options.dram_bytes = 64 << 20;
  if (options.nodes > 1) {
    const char* const cluster = std::getenv("AGENTMEM_CLUSTER");
    return RunOnNodes(options, cluster == nullptr ? "" : cluster, own_path);
  }
  if (options.hbm) return RunHbm(options, own_path);
  return RunDemo(options, own_path);
}
