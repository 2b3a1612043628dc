// Keeps a pool as memd wants it: a thread that reports what is in it, hears of
// budgets and wishes, and carries them out.
//
//   an agent waits for a human   memd wishes kEmpty: what the agent has alone
//                                leaves: dropped if it is below, else written
//                                there first; the slabs that are empty then are
//                                freed; answered when none of it is left
//   it reasons again             kBringBack: what it had is asked of memd and
//                                copied into room that is free; answered when
//                                all that could come is there
//   the budget shrinks           blocks leave until slabs are empty: freed
//   a store found no room        because what could leave is not below: written
//                                there, so that it can
//   memd dies                    what is in the pool stays; the keeper connects
//                                anew, and tells the next memd all of it
//
// A block that a copy uses cannot leave: the keeper looks again, every
// millisecond, and a wish that takes longer than memd's deadline is answered
// late. While nothing happens it sleeps on the link's bell, a second at a time,
// to see whether memd has died. It also sweeps: transfers let go of blocks
// whose copies have ended, also when nobody waits for them, and extents that
// memd wants are given back.
//
// memd also adds up what loads found in the pool: each report tells it, and one
// a second is made for that alone while there are more.
//
// Nobody waits for the keeper but who asks for room, and who ends it. Nothing
// of it is on the path of a store or load: these set a flag, and wake it once
// when it sleeps. What a round waits for has bounds of its own, whatever it has
// to do: a memd that does not answer takes some seconds of it.
//
// Ownership: owns its thread and its copies; borrows its parts. Threads: Step
// and Finish are the thread's, or a test's; the rest is thread-safe. Errors: of
// Open as HbmLink; later ones are met by trying again. Cost: one thread with
// 256 KiB of stack, asleep.
#ifndef AGENTMEM_CLIENT_HBM_KEEPER_H_
#define AGENTMEM_CLIENT_HBM_KEEPER_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "client/hbm_link.h"
#include "client/hbm_moves.h"
#include "client/hbm_pool.h"
#include "client/kv_transfer.h"

namespace agentmem::client {

class HbmKeeper {
 public:
  struct Parts {
    KvParts kv;  // device, memory, reader, writer
    HbmPool* pool = nullptr;
    HbmLink* link = nullptr;
    const Clock* clock = nullptr;
    // Advances what nobody waits for. True: there is nothing.
    std::function<bool()> sweep;
    // A new memd is there: what is below is asked of that one from now on.
    std::function<void()> meet;
    // So long Finish waits for memd at most, when it is there.
    std::uint64_t finish_ns = 5 * kSecondNs;
  };

  explicit HbmKeeper(const Parts& parts);
  ~HbmKeeper();
  HbmKeeper(const HbmKeeper&) = delete;
  HbmKeeper& operator=(const HbmKeeper&) = delete;

  // Asks memd for a budget.
  Outcome Open(const Deadline& deadline);
  // Once.
  Outcome Start();
  // What is of class state and not below is written there, for some seconds at
  // most; if memd is gone, to the next one, if that is there within a second.
  // False: the device does not end what it has begun; the keeper and what
  // it borrows must stay then.
  bool Stop();

  // One round: what there is to do now. Answers how long it may be left alone.
  DurationNs Step();
  // The last rounds: see Stop.
  bool Finish();

  // There is something to do.
  void Wake();
  // Slabs are given back until the pool has at most so much, for a second.
  // False: it has not come to that in time.
  bool MakeRoom(std::uint64_t allocated_max, const Deadline& deadline);

  std::uint64_t emptied() const { return emptied_.load(); }
  std::uint64_t emptied_late() const { return emptied_late_.load(); }

 private:
  struct Job {
    HbmWish wish = {};
    TimeNs learned_at = 0;
    bool is_begun = false;
    // Of kBringBack: what has not come yet.
    HbmAgent agent;
    std::vector<HbmPool::Remembered> keys;
  };
  struct Done {
    std::string agent;
    std::uint64_t number = 0;
    DurationNs took = 0;
  };

  static void* Run(void* self);
  void Loop();
  void Connect(std::uint64_t timeout_ns);
  void Lose();
  HbmHits HitsInAll() const;
  HbmHits HitsSinceOpen() const;
  void Report();
  std::vector<HbmUse> TakeUses();
  void Hear(const HbmWish& wish);
  void EndJob(Job* job);
  void Begin(Job* job);
  // True: it is done.
  bool BringBack(Job* job, TimeNs until);
  void AdvanceJobs();
  // Makes room as the budget wants. True: there is nothing to do.
  bool Fit();
  DurationNs Pause(bool is_busy);

  const Parts parts_;
  HbmMoves moves_;
  pthread_t thread_ = {};
  bool is_started_ = false;
  bool is_finished_ = true;  // as Finish says
  std::atomic<bool> stop_ = false;
  std::atomic<bool> has_news_ = false;  // for the next round
  std::atomic<bool> is_asleep_ = false;
  std::atomic<std::uint64_t> emptied_ = 0;
  std::atomic<std::uint64_t> emptied_late_ = 0;

  bool is_connected_ = false;
  TimeNs connect_at_ = 0;
  TimeNs look_at_ = 0;  // whether memd lives
  bool owes_report_ = false;
  bool is_refused_ = false;  // the last report
  TimeNs report_at_ = 0;
  TimeNs again_at_ = 0;  // no report before: one has failed
  TimeNs write_at_ = 0;
  std::uint32_t heard_ = 0;  // of the bell
  std::uint64_t reported_allocated_ = 0;
  HbmHits hits_before_;    // at the last Open
  HbmHits reported_hits_;  // since then
  bool owes_hits_ = false;
  TimeNs moved_at_ = 0;  // when something went on, last
  DurationNs pause_ = 0;
  std::map<std::string, Job> jobs_;  // by agent
  std::string served_;               // for whom a block was brought last
  std::vector<Done> done_;           // not told yet
};

}  // namespace agentmem::client

#endif  // AGENTMEM_CLIENT_HBM_KEEPER_H_
