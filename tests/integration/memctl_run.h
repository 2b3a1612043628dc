// memctl as an operator runs it, against a memd of the test's own.
#ifndef AGENTMEM_TESTS_INTEGRATION_MEMCTL_RUN_H_
#define AGENTMEM_TESTS_INTEGRATION_MEMCTL_RUN_H_

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/integration/memd_process.h"

namespace agentmem {

struct Outcome {
  int exit_code = -1;
  std::string output;
  std::string error;
  nlohmann::json json() const {
    return nlohmann::json::parse(output, nullptr, false);
  }
};

inline std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline Outcome RunMemctl(const MemdProcess& memd,
                         std::vector<std::string> arguments,
                         const std::string& input = "") {
  const std::string socket = memd.socket();
  const std::string directory = memd.directory();
  arguments.insert(arguments.begin(), {"memctl", "--socket", socket});
  std::ofstream(directory + "/in", std::ios::binary) << input;
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const bool redirected =
        std::freopen((directory + "/in").c_str(), "r", stdin) != nullptr &&
        std::freopen((directory + "/out").c_str(), "w", stdout) != nullptr &&
        std::freopen((directory + "/err").c_str(), "w", stderr) != nullptr;
    if (redirected) ::execv(AGENTMEM_MEMCTL, argv.data());
    ::_exit(127);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "memctl ended by a signal: " << status;
  return {WEXITSTATUS(status), ReadAll(directory + "/out"),
          ReadAll(directory + "/err")};
}

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_INTEGRATION_MEMCTL_RUN_H_
