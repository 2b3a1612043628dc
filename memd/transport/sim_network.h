// SimNetwork: a network of simulated nodes in one thread, from one seed.
//
// Real bytes go between the memories that the nodes registered; time, order and
// faults are made here. The same seed, options and calls give the same events
// at the same times: trace_hash() tells.
//
//   SimNetwork network(SimOptions::Rough(seed), &clock);
//   auto a = network.Add("a"), b = network.Add("b");
//   while (network.Step()) { a->Poll(...); b->Poll(...); }
//
// Things happen when Step, RunFor or RunDue lets them (Poll calls RunDue), in
// the order of their times, and never before the clock has come so far.
//
// A node that died may be added again: another run with another address, and
// nothing that was meant for the earlier one reaches it.
//
// Ownership: borrows the clock; outlives its transports. A transport's end is
// its node's death, as by Kill. Threads: one. Errors: none of its own; nodes
// that it does not know are an invariant of the test (CHECK). Cost: O(log n) an
// event; it allocates.
#ifndef AGENTMEM_MEMD_TRANSPORT_SIM_NETWORK_H_
#define AGENTMEM_MEMD_TRANSPORT_SIM_NETWORK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "memd/transport/sim_options.h"
#include "memd/transport/transport.h"

namespace agentmem {

class SimTransport;

class SimNetwork {
 public:
  SimNetwork(const SimOptions& options, ManualClock* clock);
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  // A run of a node. At most one of a name lives at a time.
  std::unique_ptr<Transport> Add(const std::string& node);

  // The process dies: its memory is gone, and its peers notice in the time of a
  // packet. Its transport does nothing any more.
  void Kill(const std::string& node);
  // The same, but a peer notices only when it asks for something, as RDMA has
  // it where nothing is under way.
  void KillQuietly(const std::string& node);
  // The machine dies: nothing answers, so peers notice by themselves.
  void PowerOff(const std::string& node);

  // The process stands still until Continue, as by SIGSTOP: what is sent to it,
  // reads and writes too, waits before it (as TCP has it; a NIC would answer).
  // Who calls Stop must not call its transport meanwhile.
  void Stop(const std::string& node) { stopped_.insert(node); }
  void Continue(const std::string& node);
  bool IsStopped(const std::string& node) const {
    return stopped_.contains(node);
  }

  // Nothing goes between the two, or not from the one to the other. What is on
  // its way is lost with it, and sent again until its retransmits are used up.
  void Cut(const std::string& a, const std::string& b);
  void CutOneWay(const std::string& from, const std::string& to);
  void Heal(const std::string& a, const std::string& b);
  void HealAll() { cuts_.clear(); }
  // Cuts all between these and the other nodes that were ever added.
  void Partition(const std::set<std::string>& side);

  // What this node sends and gets takes `factor` times as long.
  void Slow(const std::string& node, double factor);

  // One thing happens; the clock goes to its time, never back. False: nothing
  // is left to happen.
  bool Step();
  // What happens within the time, and the clock goes on by it.
  void RunFor(DurationNs duration);
  // What is due by the clock.
  void RunDue();
  std::optional<TimeNs> next_event_at() const;

  // Faults can be changed as it runs.
  SimOptions* options() { return &options_; }
  const SimCounters& counters() const { return counters_; }
  // Of all that happened, in order.
  std::uint64_t trace_hash() const { return trace_hash_; }
  void Observe(std::function<void(const SimTrace&)> observer) {
    observer_ = std::move(observer);
  }

 private:
  friend class SimTransport;

  struct Event {
    TimeNs at = 0;
    std::uint64_t sequence = 0;
    std::function<void()> action;
  };
  struct Later {
    bool operator()(const Event& x, const Event& y) const {
      return std::pair(x.at, x.sequence) > std::pair(y.at, y.sequence);
    }
  };
  // One run of a node, by its number; kept when it has died.
  struct Run {
    std::string node;
    std::string address;
    SimTransport* transport = nullptr;  // null: dead
    bool answers = true;                // false: its machine is gone
    TimeNs link_free_at = 0;            // when all that it sent has left
  };
  // A packet and what comes of it: one of the two is called, if not null.
  struct Packet {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    std::uint64_t bytes = 0;
    TimeNs not_before = 0;  // it does not arrive sooner
    std::uint32_t attempts = 0;
    std::function<void()> arrived = nullptr;
    std::function<void()> failed = nullptr;
  };

  // The time of what happens now, or the clock's between events.
  TimeNs now() const { return running_ ? event_at_ : clock_->Now(); }
  void Schedule(TimeNs at, std::function<void()> action);
  void Travel(Packet packet);
  void Arrive(Packet packet);
  bool Passes(std::uint64_t from, std::uint64_t to);
  // A write to the peer's memory that outlives its sender.
  void WriteLate(std::uint64_t from, std::uint64_t to,
                 const Transfer& transfer);
  enum class Death : std::uint8_t { kTold, kQuiet, kMachine };
  void End(std::uint64_t run, Death death);
  std::uint64_t LiveRunOf(const std::string& node) const;

  SimTransport* Find(std::uint64_t run) const;
  // 0: no run has this address.
  std::uint64_t FindAddress(const std::string& address) const;
  DurationNs Latency(std::uint64_t from, std::uint64_t to);
  bool Chance(double rate);
  std::uint64_t Draw(std::uint64_t max);  // 0 to max
  void Trace(SimTrace::Kind kind, std::uint64_t node, std::uint64_t a,
             std::uint64_t b);

  SimOptions options_;
  ManualClock* const clock_;
  std::mt19937_64 random_;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  std::uint64_t next_sequence_ = 0;
  TimeNs event_at_ = 0;
  bool running_ = false;                                // an event
  std::vector<Run> runs_;                               // the first is number 1
  std::set<std::pair<std::string, std::string>> cuts_;  // from, to
  std::map<std::string, double> slow_;
  std::set<std::string> stopped_;
  std::map<std::string, std::vector<Packet>> held_;  // for those that stopped
  SimCounters counters_;
  std::uint64_t trace_hash_ = 0;
  std::function<void(const SimTrace&)> observer_;
};

}  // namespace agentmem

#endif  // AGENTMEM_MEMD_TRANSPORT_SIM_NETWORK_H_
