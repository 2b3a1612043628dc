#include "client/memctl/program.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/status.h"
#include "client/memctl/agent_commands.h"
#include "client/memctl/command_line.h"
#include "client/memctl/doctor.h"
#include "client/memctl/file_error.h"
#include "client/memctl/human_text.h"
#include "client/memctl/key_text.h"
#include "client/memctl/region_commands.h"
#include "client/memctl/render.h"
#include "client/memctl/render_fabric.h"
#include "client/memctl/render_json.h"

namespace agentmem::memctl {
namespace {

const char* AckName(Ack ack) {
  switch (ack) {
    case Ack::kVisible:
      return "visible";
    case Ack::kReplicated:
      return "replicated";
    case Ack::kDurable:
      return "durable";
  }
  return "unknown";
}

absl::StatusOr<admin::v1::NodeSnapshot> FetchNode(const Invocation& invocation,
                                                  const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<AdminClient> admin,
      world.connect_admin(invocation.socket_path, invocation.timeout));
  return admin->Snapshot();
}

absl::StatusOr<admin::v1::FabricSnapshot> FetchFabric(
    const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<AdminClient> admin,
      world.connect_admin(invocation.socket_path, invocation.timeout));
  return admin->Fabric();
}

// --tenant must name one of the node's.
absl::Status CheckTenant(const admin::v1::NodeSnapshot& node,
                         const std::string& wanted) {
  if (wanted.empty()) return absl::OkStatus();
  std::string names;
  for (const auto& tenant : node.tenants()) {
    if (tenant.name() == wanted) return absl::OkStatus();
    names += (names.empty() ? "" : ", ") + Printable(tenant.name());
  }
  return NotFound("the node has no tenant \"" + wanted + "\"; it has " +
                  (names.empty() ? "none" : names));
}

absl::Status ShowNode(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const admin::v1::NodeSnapshot node,
                            FetchNode(invocation, world));
  AGENTMEM_RETURN_IF_ERROR(CheckTenant(node, invocation.tenant));
  const Output output = invocation.output;
  switch (invocation.verb) {
    case Verb::kTiers:
      *world.output << RenderTiers(node, invocation.tenant, output);
      break;
    case Verb::kTenants:
      *world.output << RenderTenants(node, invocation.tenant, output);
      break;
    case Verb::kClients:
      *world.output << RenderClients(node, invocation.tenant, output);
      break;
    default:
      return Internal("no such view of a node");
  }
  return absl::OkStatus();
}

absl::Status ShowStatus(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const admin::v1::NodeSnapshot node,
                            FetchNode(invocation, world));
  AGENTMEM_RETURN_IF_ERROR(CheckTenant(node, invocation.tenant));
  *world.output << RenderStatus(node, HealthOf(FetchFabric(invocation, world)),
                                invocation.output);
  return absl::OkStatus();
}

absl::Status ShowFabric(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(const admin::v1::FabricSnapshot fabric,
                            FetchFabric(invocation, world));
  *world.output << RenderFabric(fabric, invocation.output);
  return absl::OkStatus();
}

absl::Status ShowBlock(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<AdminClient> admin,
      world.connect_admin(invocation.socket_path, invocation.timeout));
  AGENTMEM_ASSIGN_OR_RETURN(
      const admin::v1::ShowBlockResponse response,
      admin->ShowBlock(invocation.tenant, invocation.key));
  *world.output << RenderBlocks(response, invocation.output);
  return absl::OkStatus();
}

// One byte more than a block may have tells that the input is too long.
absl::StatusOr<std::string> ReadBlock(std::istream* input,
                                      const std::string& name) {
  std::string bytes(kMaxBlockBytes + 1, '\0');
  input->read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (input->bad()) return FileError("reading " + name);
  bytes.resize(static_cast<std::size_t>(input->gcount()));
  if (bytes.empty() || bytes.size() > kMaxBlockBytes) {
    return InvalidArgument(
        name + " has " +
        (bytes.empty() ? "no bytes" : "more than 4194304 bytes") +
        "; a block has 1 to 4194304 (4 MiB): split what is larger");
  }
  return bytes;
}

absl::Status PutBlock(const Invocation& invocation, const World& world) {
  const bool standard = invocation.file == "-";
  std::ifstream file;
  if (!standard) {
    errno = 0;
    file.open(invocation.file, std::ios::binary);
    if (!file) return FileError("opening " + invocation.file);
  }
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::string bytes,
      ReadBlock(standard ? world.input : &file,
                standard ? "standard input" : invocation.file));
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<BlockClient> blocks,
      world.connect_blocks(invocation.socket_path, invocation.tenant,
                           invocation.timeout));
  AGENTMEM_RETURN_IF_ERROR(blocks->Put(invocation.key, bytes,
                                       invocation.block_class, invocation.ack));
  *world.output << RenderPut(
      {invocation.key, bytes.size(), invocation.file, AckName(invocation.ack)},
      invocation.block_class, invocation.output);
  return absl::OkStatus();
}

absl::Status GetBlock(const Invocation& invocation, const World& world) {
  AGENTMEM_ASSIGN_OR_RETURN(
      const std::unique_ptr<BlockClient> blocks,
      world.connect_blocks(invocation.socket_path, invocation.tenant,
                           invocation.timeout));
  AGENTMEM_ASSIGN_OR_RETURN(const FoundBlock found,
                            blocks->Get(invocation.key));
  const auto length = static_cast<std::streamsize>(found.bytes.size());
  if (invocation.file == "-") {
    world.output->write(found.bytes.data(), length);
    return absl::OkStatus();
  }
  errno = 0;
  std::ofstream file(invocation.file, std::ios::binary | std::ios::trunc);
  if (file) file.write(found.bytes.data(), length).flush();
  if (!file) return FileError("writing " + invocation.file);
  *world.output << RenderGet(
      {invocation.key, found.bytes.size(), invocation.file,
       TierName(static_cast<int>(found.tier))},
      invocation.output);
  return absl::OkStatus();
}

ExitCode RunDoctor(const Invocation& invocation, const Environment& environment,
                   const World& world) {
  const auto node = FetchNode(invocation, world);
  std::string state_directory = invocation.state_directory;
  if (state_directory.empty()) {
    state_directory = node.ok() ? node->state_directory()
                                : DefaultStateDirectory(environment);
  }
  std::vector<Finding> findings = CheckMemd(node);
  if (node.ok()) {
    const auto fabric = FetchFabric(invocation, world);
    for (Finding& finding : CheckFabric(fabric)) {
      findings.push_back(std::move(finding));
    }
    const std::uint64_t exported =
        fabric.ok() ? fabric->pool().export_bytes() : 0;
    for (Finding& finding : CheckBudgets(*world.system, *node, exported)) {
      findings.push_back(std::move(finding));
    }
  }
  for (Finding& finding : CheckSystem(*world.system, state_directory)) {
    findings.push_back(std::move(finding));
  }
  *world.output << RenderFindings(findings, invocation.output);
  const bool problem =
      std::any_of(findings.begin(), findings.end(),
                  [](const Finding& f) { return f.level == Level::kProblem; });
  return problem ? ExitCode::kProblem : ExitCode::kOk;
}

absl::Status Run(const Invocation& invocation, const World& world) {
  switch (invocation.verb) {
    case Verb::kStatus:
      return ShowStatus(invocation, world);
    case Verb::kFabric:
      return ShowFabric(invocation, world);
    case Verb::kBlockShow:
      return ShowBlock(invocation, world);
    case Verb::kBlockPut:
      return PutBlock(invocation, world);
    case Verb::kBlockGet:
      return GetBlock(invocation, world);
    case Verb::kAgentList:
      return ListAgents(invocation, world);
    case Verb::kAgentShow:
      return ShowAgent(invocation, world);
    case Verb::kAgentLog:
      return LogAgent(invocation, world);
    case Verb::kAgentDiff:
      return DiffRegion(invocation, world);
    case Verb::kAgentFork:
      return ForkAgent(invocation, world);
    case Verb::kAgentRevert:
      return RevertRegion(invocation, world);
    case Verb::kAgentHibernate:
      return HibernateAgent(invocation, world);
    case Verb::kAgentResume:
      return ResumeAgent(invocation, world);
    case Verb::kAgentDelete:
      return DeleteAgent(invocation, world);
    case Verb::kRegionRead:
      return ReadRegion(invocation, world);
    case Verb::kRegionWrite:
      return WriteRegion(invocation, world);
    case Verb::kRegionExport:
      return ExportRegion(invocation, world);
    case Verb::kHbm:
      return ShowHbm(invocation, world);
    default:
      return ShowNode(invocation, world);
  }
}

template <typename... Arguments, typename Client>
auto Noting(std::function<absl::StatusOr<std::unique_ptr<Client>>(Arguments...)>
                connect,
            bool* connected) {
  return [connect = std::move(connect), connected](Arguments... arguments) {
    auto client = connect(arguments...);
    *connected |= client.ok();
    return client;
  };
}

World NotingConnections(const World& world, bool* connected) {
  World noting = world;
  noting.connect_admin = Noting(world.connect_admin, connected);
  noting.connect_blocks = Noting(world.connect_blocks, connected);
  noting.connect_agents = Noting(world.connect_agents, connected);
  noting.connect_regions = Noting(world.connect_regions, connected);
  return noting;
}

}  // namespace

ExitCode RunMemctl(const std::vector<std::string>& arguments,
                   const Environment& environment, const World& world) {
  const ParsedCommandLine parsed = ParseCommandLine(arguments, environment);
  *world.output << parsed.output;
  *world.error << parsed.error;

  ExitCode code = parsed.exit_code;
  if (parsed.invocation && parsed.invocation->verb == Verb::kDoctor) {
    code = RunDoctor(*parsed.invocation, environment, world);
  } else if (parsed.invocation) {
    bool connected = false;
    const absl::Status status =
        Run(*parsed.invocation, NotingConnections(world, &connected));
    if (!status.ok()) {
      // Messages have names in them that others chose.
      *world.error << "memctl: " << Printable(StatusMessage(status)) << "\n";
    }
    code = ExitCodeOf(status, connected);
  }
  if (!world.output->flush()) {
    *world.error << "memctl: writing to standard output failed\n";
    return ExitCode::kFailed;
  }
  return code;
}

}  // namespace agentmem::memctl
