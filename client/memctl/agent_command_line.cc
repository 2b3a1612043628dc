// memctl agent: the command line.
#include "client/memctl/subcommand.h"

namespace agentmem::memctl {
namespace {

void AddAgent(CLI::App* command, Invocation* invocation) {
  command->add_option("AGENT", invocation->name.agent, "the agent's name")
      ->required()
      ->type_name("");
}

void AddLooks(CLI::App* agent, Invocation* invocation) {
  CLI::App* const list = AddCommand(
      agent, "list", "Agents: phase, writer, memory",
      ExamplesFooter("  memctl agent list\n"
                     "  memctl agent list coder- -o json | jq .agents\n"),
      Verb::kAgentList, invocation);
  list->add_option("PREFIX", invocation->prefix,
                   "only agents whose names begin with it")
      ->type_name("");

  CLI::App* const show =
      AddCommand(agent, "show", "One agent and its regions",
                 ExamplesFooter("  memctl agent show coder-7\n"),
                 Verb::kAgentShow, invocation);
  AddAgent(show, invocation);

  CLI::App* const log = AddCommand(
      agent, "log", "Versions of an agent's regions, the newest first",
      ExamplesFooter("  memctl agent log coder-7\n"
                     "  memctl agent log coder-7 --region heap -n 10\n"),
      Verb::kAgentLog, invocation);
  AddAgent(log, invocation);
  log->add_option("--region", invocation->name.region,
                  "only this region. Default: all, by time")
      ->type_name("REGION");
  AddNumber(log, "-n,--count", "at most so many versions. Default: all", 1,
            &invocation->count)
      ->type_name("N");
}

void AddVersions(CLI::App* agent, Invocation* invocation) {
  const auto add_region = [&](CLI::App* command) {
    AddAgent(command, invocation);
    command->add_option("REGION", invocation->name.region, "the region's name")
        ->required()
        ->type_name("");
  };
  CLI::App* const diff = AddCommand(
      agent, "diff", "Where two versions of a region differ, in units of 4 KiB",
      ExamplesFooter("  memctl agent diff coder-7 heap 11 12\n"
                     "  memctl agent diff coder-7 heap 0 12   what 12 has\n"),
      Verb::kAgentDiff, invocation);
  add_region(diff);
  AddNumber(diff, "FROM", "a version; 0: a region of zeros", 0,
            &invocation->from_version)
      ->required()
      ->type_name("");
  AddNumber(diff, "TO", "a version", 1, &invocation->version)
      ->required()
      ->type_name("");

  CLI::App* const revert = AddCommand(
      agent, "revert", "Make a new version that is equal to an older one",
      ExamplesFooter("  memctl agent revert coder-7 heap 11\n") +
          "\nNothing is lost: the versions between stay. Refused while a "
          "writer has the\nagent open.\n",
      Verb::kAgentRevert, invocation);
  add_region(revert);
  AddNumber(revert, "VERSION", "the version to go back to", 1,
            &invocation->version)
      ->required()
      ->type_name("");

  CLI::App* const fork = AddCommand(
      agent, "fork", "Make a new agent with what another has committed",
      ExamplesFooter("  memctl agent fork coder-7 coder-8\n"
                     "  memctl agent fork coder-7 coder-8 --version 11\n") +
          "\nNothing is copied: both share what neither changes.\n",
      Verb::kAgentFork, invocation);
  AddAgent(fork, invocation);
  fork->add_option("NEW", invocation->fork_to, "the new agent's name")
      ->required()
      ->type_name("");
  AddNumber(fork, "--version",
            "of an agent with one region. Default: the newest of each", 1,
            &invocation->version)
      ->type_name("VERSION");
}

void AddMoves(CLI::App* agent, Invocation* invocation) {
  AddAgent(
      AddCommand(agent, "hibernate", "Store an agent, and free its memory",
                 ExamplesFooter("  memctl agent hibernate coder-7\n") +
                     "\nA process that has it open goes on: what it touches "
                     "comes back.\n",
                 Verb::kAgentHibernate, invocation),
      invocation);
  AddAgent(AddCommand(agent, "resume",
                      "Bring an agent's memory back before it is touched",
                      ExamplesFooter("  memctl agent resume coder-7\n"),
                      Verb::kAgentResume, invocation),
           invocation);
  CLI::App* const remove = AddCommand(
      agent, "delete", "Delete an agent: all versions of all its regions",
      ExamplesFooter(
          "  memctl agent delete coder-7         says what would go\n"
          "  memctl agent delete coder-7 --yes   deletes it\n") +
          "\nRefused while a writer has the agent open. Forks of it stay "
          "whole.\n",
      Verb::kAgentDelete, invocation);
  AddAgent(remove, invocation);
  remove->add_flag("--yes", invocation->sure,
                   "delete it; this cannot be undone");
}

}  // namespace

void AddHbmCommand(CLI::App* app, Invocation* invocation) {
  CLI::App* const hbm = AddCommand(
      app, "hbm", "Blocks in device memory: each process's pool, or agents'",
      ExamplesFooter("  memctl hbm\n"
                     "  memctl hbm --agents   who left it, and how soon\n"
                     "  memctl hbm --agents -o json | jq '.agents[] | "
                     "select(.wish_late)'\n") +
          "\nIt is what processes say of themselves. An agent that waits for a "
          "human, is\nidle or done is asked to leave, and brought back when it "
          "reasons again.\n",
      Verb::kHbm, invocation);
  hbm->add_flag("--agents", invocation->by_agent,
                "a row for each agent in each process");
}

void AddAgentCommands(CLI::App* app, Invocation* invocation) {
  CLI::App* const agent =
      app->add_subcommand("agent", "Agents, and versions of their memory");
  agent->fallthrough();
  agent->require_subcommand(1);
  agent->footer(
      ExamplesFooter("  memctl agent list\n"
                     "  memctl agent log coder-7\n"));
  AddLooks(agent, invocation);
  AddVersions(agent, invocation);
  AddMoves(agent, invocation);
}

}  // namespace agentmem::memctl
