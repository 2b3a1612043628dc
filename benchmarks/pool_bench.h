// What the cases over other nodes' memory share: daemons that lend each other
// memory, and the baselines, measured in turn with ours.
//
// Ownership: owns daemons and baselines, borrows the result. Threads:
// thread-compatible. Errors: what could not be set up, measured, or was wrong.
// Cost: see each.
#ifndef AGENTMEM_BENCHMARKS_POOL_BENCH_H_
#define AGENTMEM_BENCHMARKS_POOL_BENCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/case_result.h"
#include "benchmarks/comparison.h"
#include "benchmarks/connection.h"
#include "benchmarks/failover_load.h"
#include "benchmarks/pool_blocks.h"
#include "benchmarks/pool_cluster.h"
#include "benchmarks/raw_fabric.h"
#include "benchmarks/suites.h"
#include "benchmarks/tcp_stream.h"
#include "benchmarks/wake_up.h"

namespace agentmem::bench {

struct PoolScale {
  std::uint64_t dram_bytes;    // of each node; a burst's blocks are pinned
  std::uint64_t export_bytes;  // of each that lends
  std::uint64_t set_bytes;     // that gets choose from
  std::size_t rounds;
  std::size_t burst_factor;  // bursts a round
  int idle_ms;
  int deaths;
};
PoolScale PoolScaleOf(const SuiteOptions& options);

// A side of a comparison and what it took, for bars over more than one ratio.
struct Tracked {
  Side Track(const Side& side);

  std::vector<double> means;  // of rounds, nanoseconds
  Samples samples;
};

// Daemons without a block, and a client of the first.
struct PoolSetup {
  std::unique_ptr<PoolCluster> cluster;
  std::unique_ptr<Connection> client;
};

class PoolBench {
 public:
  PoolBench(const SuiteOptions& options, std::uint64_t seed,
            SuiteResult* result)
      : options_(options),
        scale_(PoolScaleOf(options)),
        seed_(seed),
        result_(result) {}

  // Suite `pool`.
  absl::Status AddSmallGets();
  absl::Status AddLargeGets();
  absl::Status AddBatches();
  absl::Status AddPuts();
  absl::Status AddPutsTwice();
  absl::Status AddEncryptedGets();
  absl::Status AddIdle();
  absl::Status AddFailover();
  absl::Status AddAttach() { return AddAttachCases(options_, seed_, result_); }
  // Suite `tiers`: gets and puts of `size` bytes.
  absl::Status AddTier(std::size_t size);

 private:
  // Daemons without a block, a client of the first; the baselines.
  absl::Status SetUp(std::size_t nodes);
  absl::StatusOr<PoolSetup> StartNodes(std::size_t nodes, bool sealed) const;
  absl::StatusOr<RawFabric*> Raw();
  absl::StatusOr<PoolBlocks> FilledBlocks(std::size_t size) {
    return FilledBlocks(setup_.client.get(), size);
  }
  absl::StatusOr<PoolBlocks> FilledBlocks(const Connection* client,
                                          std::size_t size) const;
  // How a run of bursts of `size` is spread.
  PoolRun RunOf(std::size_t size, std::size_t group) const;
  Side GetSide(PoolBlocks* blocks, const PoolRun& run) const;
  Side PutSide(PoolBlocks* blocks, const PoolRun& run, bool copied) const;
  Side RawSide(RawEndpoint::Kind kind, std::size_t size, const PoolRun& run,
               std::uint32_t depth);
  // Adds the row of ours beside the raw operation, whatever else took part.
  absl::StatusOr<CaseResult*> AddRow(const std::string& name, const Unit& unit,
                                     Tracked* ours, Tracked* raw,
                                     std::vector<Side> sides);
  absl::Status AddEncryptedGets(const std::string& name,
                                const PoolSetup& sealed, std::size_t size,
                                std::size_t group, double least);
  absl::StatusOr<double> MeasurePuts(const std::string& name,
                                     PoolBlocks* blocks, bool copied = false);
  absl::Status CheckPuts(const std::string& name, PoolBlocks* blocks,
                         bool lose_a_node);
  // `last`: of all that was acknowledged, once all is over.
  void ReportFailover(LoadReport* load, const LoadReport& last, Samples* whole,
                      Samples* again);
  void Bar(const std::string& name, bool holds, const std::string& text);

  const SuiteOptions options_;
  const PoolScale scale_;
  const std::uint64_t seed_;
  SuiteResult* const result_;
  PoolSetup setup_;
  std::unique_ptr<RawFabric> raw_;
};

// "1.23", for notes.
std::string Decimal(double number);

}  // namespace agentmem::bench

#endif  // AGENTMEM_BENCHMARKS_POOL_BENCH_H_
