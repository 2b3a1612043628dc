// A RefStore in a map, with the rules of the interface.
#ifndef AGENTMEM_TESTS_UNIT_MEMD_AGENTS_FAKE_REFS_H_
#define AGENTMEM_TESTS_UNIT_MEMD_AGENTS_FAKE_REFS_H_

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "memd/store/ref_store.h"

namespace agentmem {

class FakeRefs final : public RefStore {
 public:
  // Called for each block of a Commit that succeeds.
  std::function<void(const RefBlock&)> on_block;
  // Before a Commit looks at what there is: others may be faster. Not called
  // within itself.
  std::function<void()> before_commit;
  // The next so many changes fail with UNAVAILABLE, and are not made; or they
  // are, and their answers are lost. And so many reads after these.
  int failures = 0;
  int lost_answers = 0;
  int failing_reads = 0;
  // The next change of a name that begins so is on its way when the store says
  // UNAVAILABLE; Deliver makes it, unless a ref that it named was changed
  // since.
  std::string delayed;
  bool Deliver() {
    MutexLock lock(&mutex_);
    const auto changes = std::exchange(on_its_way_, {});
    for (const auto& [change, revision] : changes) {
      if (revisions_[change.name] != revision) return false;
    }
    for (const auto& [change, revision] : changes) Make(change);
    return !changes.empty();
  }

  absl::StatusOr<Ref> Get(const std::string& name) override {
    AGENTMEM_ASSIGN_OR_RETURN(const Ref ref, Read(name));
    if (ref.version == 0) return NotFound(name);
    return ref;
  }

  absl::StatusOr<Ref> Read(const std::string& name) override {
    MutexLock lock(&mutex_);
    if (failing_ && failing_reads > 0) {
      --failing_reads;
      return Unavailable("as it was told");
    }
    failing_ = false;
    return refs_[name];
  }

  absl::StatusOr<Fence> AcquireFence(const std::string& name) override {
    MutexLock lock(&mutex_);
    Ref& ref = refs_[name];
    ref.fence = Fence(ref.fence.value() + 1);
    ++revisions_[name];
    return ref.fence;
  }

  absl::StatusOr<std::uint64_t> CompareAndSwap(
      const std::string& name, std::uint64_t expected_version, Fence fence,
      const std::string& value) override {
    const RefChange change = {name, expected_version, fence, value, false};
    AGENTMEM_RETURN_IF_ERROR(Commit({&change, 1}, {}));
    return expected_version + 1;
  }

  absl::Status Commit(std::span<const RefChange> changes,
                      std::span<const RefBlock> blocks) override {
    if (auto hook = std::exchange(before_commit, nullptr)) {
      hook();
      before_commit = std::move(hook);
    }
    MutexLock lock(&mutex_);
    if (failures > 0) {
      --failures;
      failing_ = true;
      return Unavailable("as it was told");
    }
    for (const RefChange& change : changes) {
      const Ref& ref = refs_[change.name];
      if (ref.version != change.expected_version ||
          !(ref.fence == change.fence)) {
        return Aborted(change.name);
      }
    }
    if (!delayed.empty() && on_its_way_.empty() &&
        changes[0].name.starts_with(delayed)) {
      delayed.clear();
      for (const RefChange& change : changes) {
        on_its_way_.push_back({change, revisions_[change.name]});
      }
      return Unavailable("as it was told");
    }
    for (const RefChange& change : changes) Make(change);
    if (on_block) {
      for (const RefBlock& block : blocks) on_block(block);
    }
    if (lost_answers > 0) {
      --lost_answers;
      failing_ = true;
      return Unavailable("as it was told");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(
      const std::string& prefix) override {
    MutexLock lock(&mutex_);
    std::vector<std::string> names;
    for (const auto& [name, ref] : refs_) {
      if (ref.version != 0 && name.starts_with(prefix)) names.push_back(name);
    }
    return names;
  }

  absl::StatusOr<std::vector<NamedRef>> ReadAll(
      std::span<const std::string> prefixes) override {
    MutexLock lock(&mutex_);
    std::vector<NamedRef> refs;
    for (const std::string& prefix : prefixes) {
      for (const auto& [name, ref] : refs_) {
        if (ref.version != 0 && name.starts_with(prefix)) {
          refs.push_back({name, ref});
        }
      }
    }
    return refs;
  }

 private:
  void Make(const RefChange& change) AGENTMEM_REQUIRES(mutex_) {
    if (change.only_check) return;
    Ref& ref = refs_[change.name];
    ref.value = change.value;
    ref.version = change.remove ? 0 : ref.version + 1;
    if (change.new_fence) ref.fence = Fence(ref.fence.value() + 1);
    ++revisions_[change.name];
  }

  Mutex mutex_;
  bool failing_ AGENTMEM_GUARDED_BY(mutex_) = false;
  std::map<std::string, Ref> refs_ AGENTMEM_GUARDED_BY(mutex_);
  // As etcd has them: never the same twice.
  std::map<std::string, std::uint64_t> revisions_ AGENTMEM_GUARDED_BY(mutex_);
  std::vector<std::pair<RefChange, std::uint64_t>> on_its_way_
      AGENTMEM_GUARDED_BY(mutex_);
};

}  // namespace agentmem

#endif  // AGENTMEM_TESTS_UNIT_MEMD_AGENTS_FAKE_REFS_H_
