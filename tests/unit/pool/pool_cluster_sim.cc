#include "tests/unit/pool/pool_cluster_sim.h"

#include <algorithm>
#include <array>

#include "memd/pool/pool_timing.h"
#include "tiering/placement.h"

namespace agentmem {
namespace {

// Beyond an operation's deadline: bytes that are on their way (kMoveNsMin), a
// Tick, and the last packets of a slow node.
constexpr DurationNs kSlack = kMoveNsMin + 200 * kMillisecondNs;
constexpr std::uint64_t kStateBytesMax = 4 << 20;
constexpr int kRounds = 3;
// Until all have heard of a death, between two looks (CheckCopies).
constexpr DurationNs kHeardNs = kSilentNs + 100 * kMillisecondNs;
constexpr DurationNs kStopNsMax = 2 * kSecondNs;

}  // namespace

PoolClusterSim::PoolClusterSim(std::uint64_t seed)
    : seed_(seed), random_(seed * 0x9e3779b97f4a7c15ULL) {
  rough_ = SimOptions::Rough(seed);
  rough_.message_bytes_max = Chance(50) ? 4096 : 8192;
  cluster_ = std::make_unique<PoolCluster>(rough_);
  const std::size_t nodes = 3 + seed % 7;
  const bool racks = Chance(50);
  for (std::size_t i = 0; i < nodes; ++i) {
    const std::string name = "n" + std::to_string(i);
    names_.push_back(name);
    racks_[name] = racks ? "r" + std::to_string(i % 3) : "";
    // The last one of larger clusters only borrows.
    const bool lends = nodes < 5 || i + 1 != nodes;
    export_bytes_[name] = lends ? (Chance(30) ? 24 << 20 : 16 << 20) : 0;
  }
}

void PoolClusterSim::Fail(const std::string& what) {
  if (!wrong_.empty()) return;
  wrong_ = "seed " + std::to_string(seed_) + ", at " +
           std::to_string(cluster_->now() / kMillisecondNs) + " ms: " + what;
}

std::string PoolClusterSim::AnyNode() {
  auto node = cluster_->runs().begin();
  std::advance(node, Draw(cluster_->runs().size() - 1));
  return node->first;
}

std::string PoolClusterSim::Run() {
  for (const std::string& name : names_) {
    cluster_->Start(name, export_bytes_[name], racks_[name]);
    for (std::size_t i = 0; i < kSlots; ++i) slots_[name].insert(i);
  }
  for (int round = 0; round < kRounds && wrong_.empty(); ++round) {
    Trouble();
    Heal();
  }
  if (wrong_.empty()) CheckQuiet();
  for (const auto& [name, run] : cluster_->runs()) {
    const PoolSnapshot snapshot = run->node->Snapshot(cluster_->now());
    counts_.repaired += snapshot.repaired + snapshot.moved;
    counts_.stale += snapshot.stale;
  }
  const SimCounters& network = cluster_->network().counters();
  counts_.links_lost = network.links_lost;
  counts_.torn = network.torn;
  counts_.late_writes = network.late_writes;
  counts_.retransmits = network.retransmits;
  counts_.stalls = network.stalls;
  return wrong_;
}

// Everything at once, for a while.
void PoolClusterSim::Trouble() {
  SimOptions* const options = cluster_->network().options();
  options->loss_rate = rough_.loss_rate;
  options->loss_stall_rate = rough_.loss_stall_rate;
  options->reorder_rate = rough_.reorder_rate;
  options->completion_error_rate = rough_.completion_error_rate;
  options->completion_lost_rate = rough_.completion_lost_rate;
  options->torn_rate = rough_.torn_rate;
  options->late_write_rate = rough_.late_write_rate;
  pace_ = 4 * kMillisecondNs;
  may_put_ = true;
  deaths_left_ = Chance(70) ? (Chance(20) ? 2 : 1) : 0;
  next_fault_ = cluster_->now() + 200 * kMillisecondNs;
  // Long enough for repair to begin, and to fail, in the midst of it.
  cluster_->RunFor(3500 * kMillisecondNs, [this] {
    if (cluster_->now() >= next_fault_) Disturb();
    Step();
    return !wrong_.empty();
  });
}

void PoolClusterSim::Disturb() {
  next_fault_ =
      cluster_->now() + static_cast<DurationNs>(Draw(400 * kMillisecondNs));
  SimNetwork& network = cluster_->network();
  const std::string& a = names_[Draw(names_.size() - 1)];
  const std::string& b = names_[Draw(names_.size() - 1)];
  switch (Draw(9)) {
    case 0:
      if (a != b) network.Cut(a, b);
      break;
    case 1:
      if (a != b) network.CutOneWay(a, b);
      break;
    case 2:
      network.Partition({a});
      break;
    case 3:
      network.HealAll();
      break;
    case 4:
      network.Slow(a, static_cast<double>(1 + Draw(60)));
      break;
    case 5:
      network.Slow(a, 1);
      break;
    case 6:
      Restart();
      break;
    case 7:
      Stop(a);
      break;
    default:
      if (deaths_left_ > 0) Die(AnyNode());
      break;
  }
}

void PoolClusterSim::Die(const std::string& name) {
  std::size_t lenders = 0;
  for (const auto& [node, run] : cluster_->runs()) {
    lenders += node != name && run->export_bytes != 0;
  }
  if (lenders < 2) return;
  --deaths_left_;
  ++counts_.deaths;
  for (Block& block : blocks_) {
    if (!block.acknowledged || block.dropped || block.lost) continue;
    if (!Holds(name, block)) continue;
    block.died_at = cluster_->now();
    const std::size_t left = HoldersOf(block) - 1;
    if (left == 0 && !block.exposed) {
      Fail("the death of " + name + " took the only copy of block " +
           std::to_string(block.key.group));
    }
    block.lost = left == 0;
    counts_.lost += block.lost;
    block.exposed = left < 2;
  }
  for (auto i = operations_.begin(); i != operations_.end();) {
    i = i->second.node == name ? operations_.erase(i) : std::next(i);
  }
  stopped_until_.erase(name);
  continued_at_.erase(name);
  switch (Draw(2)) {
    case 0:
      return cluster_->Kill(name);
    case 1:
      return cluster_->KillQuietly(name);
    default:
      return cluster_->PowerOff(name);
  }
}

// Its clients stand still, too.
void PoolClusterSim::Stop(const std::string& name) {
  if (!cluster_->alive(name) || cluster_->stopped(name)) return;
  cluster_->Stop(name);
  stopped_until_[name] =
      cluster_->now() + static_cast<DurationNs>(Draw(kStopNsMax));
}

void PoolClusterSim::ContinueAll(bool all) {
  for (auto i = stopped_until_.begin(); i != stopped_until_.end();) {
    if (!all && cluster_->now() < i->second) {
      ++i;
      continue;
    }
    ++counts_.stops;
    cluster_->Continue(i->first);
    continued_at_[i->first] = cluster_->now();
    i = stopped_until_.erase(i);
  }
}

void PoolClusterSim::Restart() {
  for (const std::string& name : names_) {
    if (cluster_->alive(name)) continue;
    cluster_->Start(name, export_bytes_[name], racks_[name]);
    slots_[name].clear();
    for (std::size_t i = 0; i < kSlots; ++i) slots_[name].insert(i);
    next_hello_ = 0;
    return;
  }
}

void PoolClusterSim::Heal() {
  ContinueAll(/*all=*/true);
  SimNetwork& network = cluster_->network();
  network.HealAll();
  for (const std::string& name : names_) network.Slow(name, 1);
  SimOptions* const options = network.options();
  options->loss_rate = 0;
  options->loss_stall_rate = 0;
  options->reorder_rate = 0;
  options->completion_error_rate = 0;
  options->completion_lost_rate = 0;
  options->torn_rate = 0;
  options->late_write_rate = 0;
  if (Chance(60)) Restart();
  may_put_ = false;
  pace_ = 100 * kMillisecondNs;
  cluster_->RunFor(kHealNs, [this] {
    Step();
    return !wrong_.empty();
  });
  if (wrong_.empty()) CheckWhole();
}

// Clients and Hellos, between two steps of the network.
void PoolClusterSim::Step() {
  ContinueAll(/*all=*/false);
  if (cluster_->now() >= next_hello_) {
    next_hello_ = cluster_->now() + 200 * kMillisecondNs;
    cluster_->IntroduceAll();
  }
  if (cluster_->now() >= next_look_) {
    next_look_ = cluster_->now() + 20 * kMillisecondNs;
    CheckCopies();
  }
  for (const auto& [name, run] : cluster_->runs()) {
    for (const PoolCompletion& completion : run->done) Take(name, completion);
    run->done.clear();
  }
  while (cluster_->now() >= next_operation_) {
    next_operation_ =
        std::max(next_operation_, cluster_->now() - pace_) +
        static_cast<DurationNs>(Draw(static_cast<std::uint64_t>(2 * pace_)));
    SubmitAny();
  }
}

void PoolClusterSim::NewBlock() {
  constexpr std::uint32_t kLengths[] = {64,     4096,   10'000,  65'536,
                                        65'536, 65'536, 300'000, 700'001};
  Block block;
  block.key.group = static_cast<std::uint32_t>(random_());
  block.key.name = {static_cast<std::uint32_t>(random_()), 0,
                    static_cast<std::uint32_t>(blocks_.size())};
  block.length = kLengths[Draw(7)];
  if (state_bytes_ + block.length <= kStateBytesMax && Chance(50)) {
    block.block_class = BlockClass::kState;
    state_bytes_ += block.length;
  }
  blocks_.push_back(std::move(block));
}

void PoolClusterSim::SubmitAny() {
  const std::string node = AnyNode();
  if (slots_[node].empty() || cluster_->stopped(node)) return;
  const std::uint64_t what = Draw(99);
  PoolOp::Kind kind = PoolOp::Kind::kGet;
  if (may_put_ && what < 50) kind = PoolOp::Kind::kPut;
  if (may_put_ && what >= 94) kind = PoolOp::Kind::kDrop;
  if (what == 93) kind = PoolOp::Kind::kFind;
  if (kind == PoolOp::Kind::kPut && Chance(75)) NewBlock();
  if (blocks_.empty()) return;
  const std::size_t index = kind == PoolOp::Kind::kPut && Chance(80)
                                ? blocks_.size() - 1
                                : Draw(blocks_.size() - 1);
  Block& block = blocks_[index];
  if (block.dropped && kind == PoolOp::Kind::kPut) return;

  Operation operation;
  operation.node = node;
  operation.block = index;
  operation.slot = *slots_[node].begin();
  operation.deaths = counts_.deaths;
  operation.promised = block.acknowledged && !block.dropped;
  PoolRun& run = cluster_->at(node);
  PoolOp& op = operation.op;
  op.kind = kind;
  op.block_class = block.block_class;
  op.copies = block.block_class == BlockClass::kState ? 2 : 1;
  op.tenant = kTenant;
  op.key = block.key;
  op.memory = run.memory_id;
  op.bytes = run.memory.get() + operation.slot * kSlotBytes;
  op.length = block.length;
  op.ticket = next_ticket_++;
  op.deadline = cluster_->now() + 50 * kMillisecondNs +
                static_cast<DurationNs>(Draw(3 * kSecondNs));
  if (kind == PoolOp::Kind::kPut) {
    const std::uint64_t salt = op.ticket << 8 | 1;
    FillBlock(op.bytes, op.length, op.key, salt);
    block.salts.insert(salt);
  }
  if (kind == PoolOp::Kind::kDrop) block.dropped = true;
  if (!run.node->Submit(op)) return;
  ++counts_.operations;
  slots_[node].erase(operation.slot);
  operations_[op.ticket] = operation;
}

void PoolClusterSim::Take(const std::string& node,
                          const PoolCompletion& completion) {
  const auto found = operations_.find(completion.ticket);
  if (found == operations_.end() || found->second.node != node) {
    return Fail("a completion of an operation that is not under way on " +
                node);
  }
  const Operation operation = found->second;
  operations_.erase(found);
  slots_[node].insert(operation.slot);
  const DurationNs late =
      cluster_->now() - std::max(operation.op.deadline, continued_at_[node]);
  if (late > kSlack) {
    Fail("an operation of kind " +
         std::to_string(static_cast<int>(operation.op.kind)) + " on " + node +
         " ended " + std::to_string(late / kMillisecondNs) + " ms late");
  }
  counts_.failed += completion.code == Code::kUnavailable;
  counts_.puts_failed += operation.op.kind == PoolOp::Kind::kPut &&
                         completion.code == Code::kUnavailable;
  if (completion.code == Code::kDataLoss) Fail("DATA_LOSS on " + node);
  if (operation.op.kind == PoolOp::Kind::kPut) TakePut(operation, completion);
  if (operation.op.kind == PoolOp::Kind::kGet) TakeGet(operation, completion);
}

void PoolClusterSim::TakePut(const Operation& operation,
                             const PoolCompletion& completion) {
  Block& block = blocks_[operation.block];
  if (completion.code != Code::kOk || block.block_class != BlockClass::kState ||
      block.dropped) {
    return;
  }
  ++counts_.acknowledged;
  block.acknowledged = true;
  block.lost = false;
  const std::size_t holders = HoldersOf(block);
  if (holders >= 2) return;
  // One that died between its commit and now is a death all the same.
  if (operation.deaths == counts_.deaths) {
    return Fail("an acknowledged block lies on " + std::to_string(holders) +
                " nodes");
  }
  block.exposed = true;
  block.lost = holders == 0;
}

void PoolClusterSim::TakeGet(const Operation& operation,
                             const PoolCompletion& completion) {
  const Block& block = blocks_[operation.block];
  if (completion.code == Code::kOk) {
    ++counts_.gets;
    const std::uint64_t salt =
        SaltOf(operation.op.bytes, operation.op.length, block.key);
    if (!block.salts.contains(salt)) {
      Fail("wrong bytes of block " + std::to_string(block.key.group) + " on " +
           operation.node);
    }
    return;
  }
  if (completion.code == Code::kNotFound && operation.promised &&
      !block.dropped && !block.lost) {
    Fail("NOT_FOUND of an acknowledged block, on " + operation.node);
  }
}

bool PoolClusterSim::Holds(const std::string& node, const Block& block) {
  ExportPool* const exports = cluster_->at(node).exports.get();
  return exports != nullptr && exports->Find({kTenant, block.key}) != nullptr;
}

std::size_t PoolClusterSim::HoldersOf(const Block& block) {
  std::size_t holders = 0;
  for (const auto& [name, run] : cluster_->runs()) {
    holders += Holds(name, block);
  }
  return holders;
}

// Whatever moves, two copies are there all the time, but for deaths. Who had a
// copy too many, and had been told of two others, may let go of it before it
// hears that one of these has died: as if it had been a moment earlier.
void PoolClusterSim::CheckCopies() {
  for (Block& block : blocks_) {
    if (!block.acknowledged || block.dropped || block.lost || block.exposed) {
      continue;
    }
    const std::size_t holders = HoldersOf(block);
    if (holders >= 2) continue;
    if (holders == 1 && cluster_->now() - block.died_at <= kHeardNs) {
      block.exposed = true;
      continue;
    }
    Fail("no node died, and block " + std::to_string(block.key.group) +
         " lies on " + std::to_string(holders));
  }
}

void PoolClusterSim::CheckWhole() {
  std::vector<tiering::PlacementNode> nodes;
  for (const auto& [name, run] : cluster_->runs()) {
    if (run->exports == nullptr) continue;
    nodes.push_back({name, run->exports->capacity_bytes(), run->rack, false});
  }
  const tiering::Placement placement(nodes);
  for (Block& block : blocks_) {
    if (!block.acknowledged || block.dropped || block.lost) continue;
    std::array<std::uint32_t, 2> places;
    const std::size_t count = placement.Place(block.key.group, places);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string& node = placement.nodes()[places[i]].name;
      if (Holds(node, block)) continue;
      Fail("block " + std::to_string(block.key.group) + " of " +
           std::to_string(block.length) + " bytes is not on " + node + ", of " +
           std::to_string(HoldersOf(block)) + " that have it");
    }
    block.exposed = false;
    ++counts_.checked;
  }
  if (const std::string wrong = cluster_->CheckInvariants(); !wrong.empty()) {
    Fail(wrong);
  }
}

void PoolClusterSim::CheckQuiet() {
  pace_ = kReservationNs;
  cluster_->RunFor(kReservationNs + kSecondNs, [this] {
    next_operation_ = kNoDeadline;
    Step();
    return !wrong_.empty();
  });
  if (!operations_.empty()) Fail("operations that never ended");
  for (const auto& [name, run] : cluster_->runs()) {
    if (run->node->Snapshot(cluster_->now()).queued != 0) {
      Fail("something is under way on " + name);
    }
    if (run->exports != nullptr && run->exports->reservations() != 0) {
      Fail("something is reserved on " + name);
    }
    if (!run->node->whole()) Fail("repair has not ended on " + name);
  }
  if (const std::string wrong = cluster_->CheckInvariants(); !wrong.empty()) {
    Fail(wrong);
  }
}

}  // namespace agentmem
