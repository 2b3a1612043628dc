// Connects where no memd listens, and prints what the library says about it.
#include <agentmem/agentmem.h>
#if __has_include(<agentmem/agentmem.hpp>)
#include <agentmem/agentmem.hpp>
#endif

#include <cstdio>

int main(int, char** argv) {
  agentmem_options options = {};
  options.size = sizeof(options);
  options.socket_path = argv[1];
  agentmem_client* client = nullptr;
  agentmem_error error = {};
  const agentmem_code code = agentmem_connect(&options, &client, &error);
  std::printf("%d %s\n", code, error.message);
  agentmem_close(client);
  return code == AGENTMEM_UNAVAILABLE ? 0 : 1;
}
