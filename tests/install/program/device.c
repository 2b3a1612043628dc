/* Opens GPU 0 by what is installed, and prints its name, or why it is not. */
#include <agentmem/kv.h>
#include <stdio.h>

int main(int argc, char** argv) {
  agentmem_options options = {0};
  agentmem_device_options of_device = {0};
  agentmem_device_state state = {0};
  agentmem_client* client = NULL;
  agentmem_device* device = NULL;
  agentmem_error error = {0};
  agentmem_code code;
  options.size = sizeof(options);
  options.socket_path = argc > 1 ? argv[1] : NULL;
  options.timeout_ns = 30000000000u;
  code = agentmem_connect(&options, &client, &error);
  if (code != AGENTMEM_OK) {
    fprintf(stderr, "no memd: %s\n", error.message);
    return 1;
  }
  of_device.size = sizeof(of_device);
  of_device.kind = AGENTMEM_DEVICE_CUDA;
  code = agentmem_device_open(client, &of_device, &device, &error);
  state.size = sizeof(state);
  if (code == AGENTMEM_OK) {
    code = agentmem_device_describe(device, &state, &error);
  }
  printf("%d %s\n", (int)code,
         code == AGENTMEM_OK ? state.name : error.message);
  agentmem_device_close(device);
  agentmem_close(client);
  return 0;
}
