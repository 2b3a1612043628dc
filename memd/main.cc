// memd: the daemon's arguments, environment and signals.
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "base/log.h"
#include "base/status.h"
#include "memd/cluster/etcd_compactor.h"
#include "memd/cluster/etcd_membership.h"
#include "memd/cluster/static_membership.h"
#include "memd/config.h"
#include "memd/daemon.h"
#include "memd/service/admin_service.h"
#include "memd/service/cluster_door.h"
#include "memd/service/peer_grpc_log.h"
#include "memd/service/start_check.h"
#include "memd/systemd_notify.h"
#include "memd/transport/fabric_provider.h"

namespace agentmem {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Surroundings ReadSurroundings() {
  Surroundings surroundings;
  surroundings.uid = geteuid();
  surroundings.home = Environment("HOME");
  surroundings.xdg_state_home = Environment("XDG_STATE_HOME");
  surroundings.xdg_runtime_dir = Environment("XDG_RUNTIME_DIR");
  surroundings.state_directory = Environment("STATE_DIRECTORY");
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) == 0) surroundings.host_name = host;
  surroundings.memory_bytes =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
      static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return surroundings;
}

// A thread for each process with agents, and large buffers that come and go:
// with the usual arenas (8 for each core) and thresholds that grow, what was
// freed stays with memd.
void BoundHeap() {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
}

// They are shared out by descriptor_budget.h: as many as the system lets us
// have.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void PrintConfig(const Config& config) {
  std::cout << "configuration is valid\n"
            << "state_directory = " << config.state_directory << "\n"
            << "socket = " << config.socket_path << "\n"
            << "admin_socket = " << config.admin_socket_path << "\n";
  for (const TenantConfig& tenant : config.tenants) {
    std::cout << "tenant " << tenant.name << ": dram " << tenant.dram_bytes
              << " bytes, " << tenant.slots << " slots, "
              << tenant.index_entries << " index entries\n";
  }
  if (!config.cluster.enabled()) return;
  std::cout << "cluster " << config.cluster.name << ": node "
            << config.cluster.node << ", listens on " << config.cluster.listen
            << ", " << (config.cluster.etcd.empty() ? "static peers" : "etcd")
            << ", lends " << config.pool.export_bytes << " bytes\n";
  if (config.store.remote) {
    std::cout << "store: remote, of ";
    for (const std::string& node : config.store.nodes) std::cout << node << " ";
    std::cout << (config.store.nodes.empty() ? "any node that serves its own\n"
                                             : "\n");
  } else if (config.store.serve_bytes != 0) {
    std::cout << "store: this node's disk, serves peers up to "
              << config.store.serve_bytes << " bytes\n";
  }
}

// Budgets are promises: the pages are made when they are first used, so memd
// starts, and later the kernel kills somebody.
void WarnOfShortMemory(const Config& config, std::uint64_t memory_bytes) {
  std::uint64_t dram = 0;
  for (const TenantConfig& tenant : config.tenants) dram += tenant.dram_bytes;
  dram += config.pool.export_bytes;
  if (dram <= memory_bytes) return;
  LogWarning("the tenants' dram and the pool's export are " +
             std::to_string(dram >> 20) + " MiB together; this machine has " +
             std::to_string(memory_bytes >> 20) +
             " MiB: lower one of them, or it will run out of memory");
}

// Libraries that libfabric brings along (libpsm2) catch crashes when they are
// loaded, and write files into the working directory: a core is better.
void RestoreSignals() {
  for (const int number :
       {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGINT, SIGTERM}) {
    signal(number, SIG_DFL);
  }
}

// libfabric reads these once; what the user has set stays.
void SetFabricEnvironment(const Config& config) {
  for (const auto& [name, value] :
       FabricEnvironment(config.cluster.peers.size())) {
    setenv(name.c_str(), value.c_str(), 0);
  }
}

absl::StatusOr<std::unique_ptr<ClusterDoor>> OpenCluster(
    const Config& config, Daemon* daemon,
    std::unique_ptr<EtcdCompactor>* compactor) {
  std::unique_ptr<Membership> membership;
  if (daemon->etcd() != nullptr) {
    EtcdCompactorOptions compaction;
    compaction.cluster = config.cluster.name;
    AGENTMEM_ASSIGN_OR_RETURN(*compactor,
                              EtcdCompactor::Make(daemon->etcd(), compaction));
    (*compactor)->Start();
    EtcdMembershipOptions options;
    options.cluster = config.cluster.name;
    AGENTMEM_ASSIGN_OR_RETURN(membership,
                              EtcdMembership::Make(daemon->etcd(), options));
  } else {
    std::vector<MemberInfo> members;
    for (const PeerConfig& peer : config.cluster.peers) {
      MemberInfo member;
      member.node = peer.node;
      member.peer_address = peer.address;
      members.push_back(member);
    }
    membership = std::make_unique<StaticMembership>(std::move(members));
  }
  return ClusterDoor::Start(config.cluster, std::move(membership),
                            daemon->pool_host());
}

int Fail(const absl::Status& status) {
  LogError("memd: " + StatusMessage(status));
  return 1;
}

// Whoever has asked the reactor for something already is answered.
int EndAndFail(Daemon* daemon, const absl::Status& status) {
  daemon->Stop();
  (void)daemon->Run();  // it has served nobody
  return Fail(status);
}

int Check(const Config& config) {
  RestoreSignals();
  SetFabricEnvironment(config);
  LogGrpcErrorsOnce();
  const absl::Status status = CheckStart(config);
  if (!status.ok()) return Fail(status);
  PrintConfig(config);
  return 0;
}

int Serve(const Config& config) {
  RestoreSignals();
  // Signals are taken by a thread of their own; block them everywhere first.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // the write says so: EFBIG
  BoundHeap();
  RaiseDescriptorLimit();
  SetLogForJournal(!Environment("JOURNAL_STREAM").empty());

  SetFabricEnvironment(config);
  LogGrpcErrorsOnce();
  // (gRPC and libfabric have threads of their own from here on.)
  const absl::Status can_start = CheckStart(config);
  if (!can_start.ok()) return Fail(can_start);
  const MonotonicClock clock;
  auto daemon = Daemon::Open(config, &clock);
  if (!daemon.ok()) return Fail(daemon.status());
  auto admin =
      AdminServer::Start(config.admin_socket_path, &(*daemon)->admin());
  if (!admin.ok()) return EndAndFail(daemon->get(), admin.status());
  std::unique_ptr<EtcdCompactor> compactor;
  std::unique_ptr<ClusterDoor> cluster;
  if ((*daemon)->pool_host() != nullptr) {
    auto opened = OpenCluster(config, daemon->get(), &compactor);
    if (!opened.ok()) return EndAndFail(daemon->get(), opened.status());
    cluster = std::move(*opened);
  }

  const SystemdNotify systemd(Environment("NOTIFY_SOCKET"));
  std::atomic<bool> ended = false;
  std::thread waiter([&] {
    int signal_number = 0;
    for (bool again = false;; again = true) {
      sigwait(&signals, &signal_number);
      if (ended) return;
      if (!again) {
        systemd.Stopping();
        (*daemon)->Stop();
      } else if (!(*daemon)->StopNow()) {
        std::_Exit(Fail(absl::CancelledError("told to stop twice")));
      }
    }
  });
  LogInfo("memd serves on " + config.socket_path + ", state in " +
          config.state_directory);
  systemd.Ready();
  const absl::Status status = (*daemon)->Run();
  if (status.code() == absl::StatusCode::kCancelled) {
    std::_Exit(Fail(status));  // as if killed: that is what was asked for
  }
  ended = true;
  pthread_kill(waiter.native_handle(), SIGTERM);  // it may have ended by itself
  waiter.join();
  cluster.reset();
  compactor.reset();
  admin->reset();
  if (!status.ok()) return Fail(status);
  LogInfo("memd stopped");
  return 0;
}

}  // namespace
}  // namespace agentmem

int main(int argc, char** argv) {
  CLI::App app{
      "memd: the agentmem daemon of this node.\n"
      "Without a configuration file it serves this user, with state under the\n"
      "XDG state directory (as root /var/lib/agentmem) and its socket under\n"
      "the XDG runtime directory (as root /run/agentmem)."};
  app.name("memd");
  std::string config_path;
  bool check = false;
  app.add_option("--config", config_path, "TOML file; see configs/memd.toml");
  app.add_flag("--check-config", check,
               "say whether the configuration is valid, and end");
  app.set_version_flag("--version", "memd 0.1.0");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  const agentmem::Surroundings surroundings = agentmem::ReadSurroundings();
  // The same checks with no file at all: an empty one.
  auto loaded = config_path.empty()
                    ? agentmem::ParseConfig("", "defaults", surroundings)
                    : agentmem::LoadConfig(config_path, surroundings);
  if (!loaded.ok()) return agentmem::Fail(loaded.status());
  const agentmem::Config& config = *loaded;
  for (const std::string& remark : config.remarks) {
    agentmem::LogWarning(remark);
  }
  agentmem::WarnOfShortMemory(config, surroundings.memory_bytes);
  return check ? agentmem::Check(config) : agentmem::Serve(config);
}
