// The wire between rxe0 and rxe1, to be cut, mended, and made to lose packets.
// In the virtual machine alone.
#ifndef AGENTMEM_TESTS_RDMA_LOSSY_WIRE_H_
#define AGENTMEM_TESTS_RDMA_LOSSY_WIRE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

namespace agentmem {

class LossyWire {
 public:
  ~LossyWire() {
    if (used_) Mend();
  }
  void Mend() { Netem("loss 0%"); }
  // What is on its way is lost, too.
  void Cut() { Netem("loss 100%"); }
  void Lose(const std::string& percent) { Netem("loss " + percent); }
  // So that it can be cut in the midst of something.
  void Slow() { Netem("rate 24mbit"); }

 private:
  // Both ways. Without the first of each pair a queue would be kept.
  void Netem(const std::string& what) {
    used_ = true;
    std::string lines;
    for (const std::string device : {"rdma0", "rdma1"}) {
      lines += "qdisc replace dev " + device + " root pfifo\n";
      lines += "qdisc replace dev " + device + " root netem " + what + "\n";
    }
    const std::string command = "echo '" + lines + "' | tc -batch -";
    EXPECT_EQ(::system(command.c_str()), 0) << command;
  }

  bool used_ = false;
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_RDMA_LOSSY_WIRE_H_
