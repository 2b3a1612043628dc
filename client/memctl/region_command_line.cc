// memctl region: the command line.
#include "client/memctl/subcommand.h"

namespace agentmem::memctl {
namespace {

void AddRegion(CLI::App* command, Invocation* invocation) {
  command->add_option("AGENT", invocation->name.agent, "the agent's name")
      ->required()
      ->type_name("");
  command->add_option("REGION", invocation->name.region, "the region's name")
      ->required()
      ->type_name("");
}

void AddVersion(CLI::App* command, Invocation* invocation) {
  AddNumber(command, "--version", "which version. Default: the newest", 1,
            &invocation->version)
      ->type_name("VERSION");
}

void AddRead(CLI::App* region, Invocation* invocation) {
  CLI::App* const read = AddCommand(
      region, "read", "Write a version's bytes to standard output",
      ExamplesFooter("  memctl region read coder-7 heap --length 256 | xxd\n"
                     "  memctl region read coder-7 heap --version 11 "
                     "--offset 1MiB > b\n"),
      Verb::kRegionRead, invocation);
  AddRegion(read, invocation);
  AddVersion(read, invocation);
  AddBytes(read, "--offset", "where to begin. Default: 0", &invocation->offset);
  AddBytes(read, "--length", "how much. Default: up to the region's end",
           &invocation->length);
}

void AddWrite(CLI::App* region, Invocation* invocation, Texts* texts) {
  CLI::App* const write = AddCommand(
      region, "write", "Write bytes into a region, and commit a new version",
      ExamplesFooter(
          "  memctl region write coder-7 heap --file heap.bin -m restored\n"
          "  echo hi | memctl region write coder-7 notes --bytes 64KiB \\\n"
          "      --label step=3\n") +
          "\nThe version is durable, and has all of the input or does not "
          "come to be.\nRefused while another writer has the agent open, "
          "unless --take-over is given.\n",
      Verb::kRegionWrite, invocation);
  AddRegion(write, invocation);
  AddBytes(write, "--offset", "where to begin. Default: 0",
           &invocation->offset);
  write
      ->add_option("--file", invocation->file,
                   "a file, or - for standard input (default)")
      ->type_name("FILE");
  AddBytes(write, "--bytes",
           "make a region of this size (a multiple of 4 KiB), and the agent, "
           "where there is none",
           &invocation->writer.create_bytes);
  write
      ->add_option("-m,--message", invocation->message,
                   "what `agent log` tells of the version")
      ->type_name("TEXT");
  const auto why_not_label = [](const std::string& text) -> std::string {
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos && equals != 0) return "";
    return "\"" + text + "\" is not a label; write KEY=VALUE";
  };
  write
      ->add_option("--label", texts->labels,
                   "a label of the version; may be given again")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE")
      ->check(CLI::Validator(why_not_label, ""));
  write->add_flag("--take-over", invocation->writer.take_over,
                  "fence off a writer that lives: its commits will fail");
}

void AddExport(CLI::App* region, Invocation* invocation) {
  CLI::App* const command = AddCommand(
      region, "export", "Write a version to a file, with holes for zeros",
      ExamplesFooter("  memctl region export coder-7 heap heap.bin\n"
                     "  memctl region export coder-7 heap old.bin "
                     "--version 11\n") +
          "\nThe file appears whole or not at all, and is its owner's alone "
          "to read.\n",
      Verb::kRegionExport, invocation);
  AddRegion(command, invocation);
  command->add_option("FILE", invocation->file, "the file to write")
      ->required()
      ->type_name("");
  AddVersion(command, invocation);
  command->add_flag("--overwrite", invocation->overwrite,
                    "replace FILE if it exists");
}

}  // namespace

void AddRegionCommands(CLI::App* app, Invocation* invocation, Texts* texts) {
  CLI::App* const region =
      app->add_subcommand("region", "The bytes of an agent's memory");
  region->fallthrough();
  region->require_subcommand(1);
  region->footer(
      ExamplesFooter("  memctl region read coder-7 heap --length 256 | xxd\n"));
  AddRead(region, invocation);
  AddWrite(region, invocation, texts);
  AddExport(region, invocation);
}

}  // namespace agentmem::memctl
