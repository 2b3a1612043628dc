/* The C ABI from C: agentmem.h must need nothing of C++. */
#include <agentmem/agentmem.h>
#include <stdio.h>

int main(int argc, char** argv) {
  agentmem_options options = {0};
  agentmem_client* client = NULL;
  agentmem_error error = {0};
  agentmem_code code;
  options.size = sizeof(options);
  options.socket_path = argc > 1 ? argv[1] : NULL;
  code = agentmem_connect(&options, &client, &error);
  printf("%d %s\n", (int)code, error.message);
  agentmem_close(client);
  return code == AGENTMEM_UNAVAILABLE ? 0 : 1;
}
