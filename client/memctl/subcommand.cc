#include "client/memctl/subcommand.h"

#include "base/status.h"
#include "client/memctl/human_text.h"
#include "client/memctl/proc_text.h"

namespace agentmem::memctl {

const char kExitCodes[] =
    "Exit codes:\n"
    "  0  done\n"
    "  1  the operation failed (not found, refused, timed out)\n"
    "  2  the command line is wrong\n"
    "  3  no memd is reachable\n"
    "  4  doctor found a problem\n";

CLI::App* AddCommand(CLI::App* app, const char* name, const char* description,
                     const std::string& footer, Verb verb,
                     Invocation* invocation) {
  CLI::App* const command = app->add_subcommand(name, description);
  command->fallthrough();
  command->footer(footer);
  command->callback([=] { invocation->verb = verb; });
  return command;
}

std::string ExamplesFooter(const std::string& examples) {
  return "Examples:\n" + examples + "\n" + kExitCodes;
}

CLI::Option* AddNumber(CLI::App* command, const char* name,
                       const char* description, std::uint64_t least,
                       std::uint64_t* to) {
  // A validator's answer is empty, or the reason.
  const auto why_not = [=](const std::string& text) -> std::string {
    const std::optional<std::uint64_t> number = ParseNumber(text);
    if (number.has_value() && *number >= least) return "";
    return "\"" + text + "\" is not a whole number from " +
           std::to_string(least);
  };
  return command
      ->add_option_function<std::string>(
          name,
          [=](const std::string& text) {
            *to = ParseNumber(text).value_or(least);
          },
          description)
      ->check(CLI::Validator(why_not, ""));
}

CLI::Option* AddBytes(CLI::App* command, const char* name,
                      const char* description, std::uint64_t* to) {
  const auto why_not = [](const std::string& text) {
    return StatusMessage(ParseBytes(text).status());
  };
  return command
      ->add_option_function<std::string>(
          name,
          [=](const std::string& text) { *to = ParseBytes(text).value(); },
          description)
      ->type_name("BYTES")
      ->check(CLI::Validator(why_not, ""));
}

}  // namespace agentmem::memctl
