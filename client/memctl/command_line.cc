#include "client/memctl/command_line.h"

#include <CLI/CLI.hpp>
#include <map>
#include <sstream>

#include "agentmem/agentmem.h"
#include "base/status.h"
#include "client/memctl/human_text.h"
#include "client/memctl/key_text.h"
#include "client/memctl/subcommand.h"

namespace agentmem::memctl {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  memctl status                     is memd well, and how full is it\n"
    "  memctl clients -t chat            who pins and holds memory of a "
    "tenant\n"
    "  memctl tiers -o json | jq .tiers  the same for programs\n"
    "  memctl fabric                     other nodes, and the way to them\n"
    "  memctl agent log coder-7          the versions of an agent's memory\n"
    "  memctl doctor                     what of this machine needs attention\n"
    "\n"
    "Data goes to standard output, messages to standard error.\n";

constexpr char kKeyHelp[] =
    "KEY is as messages and memd's log have it, 8 and 24 hex digits:\n"
    "  0000002a:00112233445566778899aabb\n";

std::string Version() {
  return "memctl " + std::to_string(AGENTMEM_VERSION_MAJOR) + "." +
         std::to_string(AGENTMEM_VERSION_MINOR) + ".0";
}

// A validator's answer is empty, or the reason.
std::string WhyNotDuration(const std::string& text) {
  return StatusMessage(ParseDuration(text).status());
}
std::string WhyNotKey(const std::string& text) {
  return StatusMessage(ParseKey(text).status());
}

void AddGlobals(CLI::App* app, Invocation* invocation, Texts* texts) {
  app->add_option(
         "-s,--socket", invocation->socket_path,
         "memd's socket; the administration's, admin.sock, lies beside "
         "it. Default: $AGENTMEM_SOCKET, as root "
         "/run/agentmem/memd.sock, else "
         "$XDG_RUNTIME_DIR/agentmem/memd.sock")
      ->type_name("PATH");
  app->add_option("-t,--tenant", invocation->tenant,
                  "only this tenant (blocks' bytes, agents and regions: as "
                  "this tenant)")
      ->type_name("NAME");
  app->add_option("-o,--output", texts->output,
                  "table or json (raw integers: "
                  "bytes, nanoseconds). Default: table")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"table", "json"}));
  app->add_option("--timeout", texts->timeout,
                  "how long to wait for each answer, as 500ms, 5s or 1m. "
                  "Default: 5s; 1m for agent hibernate and revert, region "
                  "write and export")
      ->type_name("TIME")
      ->check(CLI::Validator(WhyNotDuration, ""));
}

void AddKey(CLI::App* command, Texts* texts) {
  command->add_option("KEY", texts->key, "the block's key")
      ->required()
      ->type_name("")
      ->check(CLI::Validator(WhyNotKey, ""));
}

void AddFile(CLI::App* command, const char* description,
             Invocation* invocation) {
  command->add_option("FILE", invocation->file, description)->type_name("");
}

void AddBlockCommands(CLI::App* app, Invocation* invocation, Texts* texts) {
  CLI::App* const block =
      app->add_subcommand("block", "Show, put or get one block");
  block->fallthrough();
  block->require_subcommand(1);
  block->footer(std::string(kKeyHelp) + "\n" + kExitCodes);

  CLI::App* const show = AddCommand(
      block, "show", "Where a block is, and who keeps it there",
      std::string(kKeyHelp) +
          "\nWithout --tenant every tenant is asked.\n\nExample:\n"
          "  memctl block show 0000002a:00112233445566778899aabb\n\n" +
          kExitCodes,
      Verb::kBlockShow, invocation);
  AddKey(show, texts);

  CLI::App* const put = AddCommand(
      block, "put", "Store the bytes of FILE, or of standard input",
      std::string(kKeyHelp) +
          "\nA block has 1 B to 4 MiB. A key that exists keeps its bytes.\n\n"
          "Examples:\n"
          "  memctl block put 0000002a:00112233445566778899aabb kv.bin\n"
          "  echo hi | memctl block put 0000002a:00112233445566778899aabb \\\n"
          "      --class state --ack durable\n\n" +
          kExitCodes,
      Verb::kBlockPut, invocation);
  AddKey(put, texts);
  AddFile(put, "a file, or - for standard input (default)", invocation);
  put->add_option("--class", texts->block_class,
                  "cache (may be dropped) or state (is kept). Default: cache")
      ->type_name("CLASS")
      ->check(CLI::IsMember({"cache", "state"}));
  put->add_option("--ack", texts->ack,
                  "wait until it is visible (here), replicated (in the memory "
                  "of two nodes) or durable (on stable storage). Default: "
                  "visible")
      ->type_name("ACK")
      ->check(CLI::IsMember({"visible", "replicated", "durable"}));

  CLI::App* const get = AddCommand(
      block, "get", "Write a block's bytes to FILE, or to standard output",
      std::string(kKeyHelp) +
          "\nExamples:\n"
          "  memctl block get 0000002a:00112233445566778899aabb kv.bin\n"
          "  memctl block get 0000002a:00112233445566778899aabb | xxd\n\n" +
          kExitCodes,
      Verb::kBlockGet, invocation);
  AddKey(get, texts);
  AddFile(get, "a file, or - for standard output (default)", invocation);
}

void AddCommands(CLI::App* app, Invocation* invocation, Texts* texts) {
  AddCommand(
      app, "status", "The node in short: state, tiers, tenants, clients",
      ExamplesFooter("  memctl status\n  memctl status -o json | jq .state\n"),
      Verb::kStatus, invocation);
  AddCommand(app, "tiers", "How full each tier is, and what it did",
             ExamplesFooter("  memctl tiers\n  memctl tiers -t chat\n"),
             Verb::kTiers, invocation);
  AddCommand(
      app, "tenants", "Each tenant's puts, misses and memory",
      ExamplesFooter("  memctl tenants\n  memctl tenants -t chat -o json\n"),
      Verb::kTenants, invocation);
  AddCommand(app, "clients", "Who pins and holds what, and for how long",
             ExamplesFooter("  memctl clients\n"
                            "  memctl clients -o json | jq '.clients[].pid'\n"),
             Verb::kClients, invocation);
  AddCommand(app, "fabric",
             "What bytes travel over and why; devices, peers, pool, cluster",
             ExamplesFooter("  memctl fabric\n"
                            "  memctl fabric -o json | jq '.pool.peers[] | "
                            "select(.state != \"up\")'\n"),
             Verb::kFabric, invocation);
  AddHbmCommand(app, invocation);
  AddAgentCommands(app, invocation);
  AddRegionCommands(app, invocation, texts);
  AddBlockCommands(app, invocation, texts);
  CLI::App* const doctor = AddCommand(
      app, "doctor", "What of this machine needs attention, and the remedy",
      ExamplesFooter("  memctl doctor\n"
                     "  memctl doctor -o json | jq '.findings[] | "
                     "select(.level != \"ok\")'\n") +
          "\nWorks without memd. Levels: ok; note (costs speed, or is not in "
          "use here);\nproblem (something that agentmem offers does not work "
          "here).\n",
      Verb::kDoctor, invocation);
  doctor
      ->add_option("--state-directory", invocation->state_directory,
                   "memd's state directory. Default: what memd says, else "
                   "/var/lib/agentmem as root or "
                   "$XDG_STATE_HOME/agentmem")
      ->type_name("PATH");
}

// After the validators: each text is a known word.
void Take(const Texts& texts, Invocation* invocation) {
  static const std::map<std::string, Ack> kAcks = {
      {"visible", Ack::kVisible},
      {"replicated", Ack::kReplicated},
      {"durable", Ack::kDurable}};
  invocation->output = texts.output == "json" ? Output::kJson : Output::kTable;
  invocation->timeout = texts.timeout.empty()
                            ? DefaultTimeout(invocation->verb)
                            : ParseDuration(texts.timeout).value();
  invocation->ack = kAcks.at(texts.ack);
  invocation->block_class =
      texts.block_class == "state" ? BlockClass::kState : BlockClass::kCache;
  for (const std::string& label : texts.labels) {
    const std::size_t equals = label.find('=');
    invocation->labels.emplace_back(label.substr(0, equals),
                                    label.substr(equals + 1));
  }
  if (!texts.key.empty()) invocation->key = ParseKey(texts.key).value();
}

constexpr char kRunHelp[] = "Run with --help for more information.\n";

// "memctl: "foo" is no command. "; empty: no word was left over.
std::string UnknownCommand(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  if (left.empty()) return "";
  return "\"" + left.front() + "\" is no command of memctl's. ";
}

}  // namespace

ParsedCommandLine ParseCommandLine(const std::vector<std::string>& arguments,
                                   const Environment& environment) {
  Invocation invocation;
  invocation.socket_path = DefaultSocketPath(environment);
  Texts texts;
  CLI::App app("memctl: look at and operate the memd of this node", "memctl");
  app.require_subcommand(1);
  app.set_version_flag("--version", Version());
  app.footer(std::string(kExamples) + "\n" + kExitCodes);
  AddGlobals(&app, &invocation, &texts);
  AddCommands(&app, &invocation, &texts);

  ParsedCommandLine parsed;
  try {
    // CLI11 takes the arguments from the back.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    Take(texts, &invocation);
    parsed.invocation = invocation;
  } catch (const CLI::RequiredError& error) {
    // (CLI11 names what is missing, and not what stands in its place.)
    parsed.exit_code = ExitCode::kUsage;
    parsed.error = UnknownCommand(app) + error.what() + "\n" + kRunHelp;
  } catch (const CLI::ParseError& error) {
    std::ostringstream output;
    std::ostringstream message;
    const bool asked = app.exit(error, output, message) == 0;
    parsed.exit_code = asked ? ExitCode::kOk : ExitCode::kUsage;
    parsed.output = output.str();
    parsed.error = message.str();
  }
  return parsed;
}

}  // namespace agentmem::memctl
