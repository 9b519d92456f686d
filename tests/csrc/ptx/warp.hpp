#pragma once
/// A warp: threads that run in groups, each group at one instruction. A branch divides a group, and
/// groups that meet are one again. Which group runs first is free, as on a GPU.

#include <bit>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "counts.hpp"
#include "memory.hpp"
#include "program.hpp"

namespace ptx {

/// The order in which blocks, warps and divided groups take their turns. No result may depend on
/// it.
enum class Order { kForward, kBackward, kShuffled };

/// What the warps of a launch share.
struct Launch {
  const Kernel& kernel;
  unsigned blocks, threads;
  std::span<const std::byte> parameters;
  Memory& global;
  Memory& shared;
  Order order;
  std::mt19937& random;
  std::uint64_t& instructions;  // those left
  Counts* counts;               // none unless they are counted
};

/// Calls `body` with each lane of `lanes`.
template <class Body>
void for_lanes(Mask lanes, const Body& body) {
  if (lanes == kAllLanes) {
    for (unsigned lane = 0; lane < kLanes; ++lane) body(lane);
    return;
  }
  for (; lanes != 0; lanes &= lanes - 1) body(static_cast<unsigned>(std::countr_zero(lanes)));
}

class Warp {
 public:
  /// The warp with the threads [`first`, `first` + 32) of a block, as far as there are so many.
  Warp(const Launch& launch, unsigned first);

  /// Begins a block at the first instruction, with registers that nobody wrote.
  void start(unsigned block);

  /// Runs at most `turns` instructions, until every group waits.
  void run(std::uint64_t turns);

  bool is_done() const { return groups_.empty(); }
  bool can_run() const;

  /// The barrier at which all threads wait; throws a Fault where only some do.
  std::size_t barrier() const;
  void pass_barrier();

  /// Throws a Fault that names the place of one of the groups.
  [[noreturn]] void fail(const std::string& what) const;

  // For the actions of instructions.

  /// Calls `body` with each active lane in the order of the launch; a Fault names its lane.
  template <class Body>
  void for_each_lane(const Body& body) {
    const bool backward = launch_.order == Order::kBackward;
    unsigned lane = 0;
    try {
      for (unsigned i = 0; i < kLanes; ++i) {
        lane = backward ? kLanes - 1 - i : i;
        if ((active_ >> lane & 1u) != 0) body(lane);
      }
    } catch (const Fault& fault) {
      throw Fault(fault.what(), lane);
    }
  }

  const Launch& launch() const { return launch_; }
  Mask active() const { return active_; }
  unsigned thread(unsigned lane) const { return first_ + lane; }

  const Lanes& value(const Operand& operand) const {
    if (operand.kind == Operand::Kind::kConstant) return launch_.kernel.constants[operand.index];
    require_known(known_[operand.index]);
    return registers_[operand.index];
  }
  Lanes& result(const Operand& operand) {
    known_[operand.index] |= active_;
    return registers_[operand.index];
  }
  Mask flags(const Operand& operand) const;
  void set_flags(const Operand& operand, Mask flags);

 private:
  struct Group {
    std::size_t at;
    Mask lanes;
    bool waits;
  };

  void require_known(Mask known) const {
    if ((active_ & ~known) != 0) throw_unknown(active_ & ~known);
  }
  [[noreturn]] static void throw_unknown(Mask lanes);
  [[noreturn]] void fail(const std::string& what, std::size_t at, unsigned lane) const;
  bool choose();
  void step();
  void branch(Group& group, const Instruction& instruction);
  void exchange(Group& group, const Instruction& instruction);
  void merge();

  const Launch& launch_;
  unsigned first_;
  unsigned block_ = 0;
  Mask all_;
  Mask active_ = 0;
  std::size_t at_ = 0;  // of the instruction that runs, for messages
  std::vector<Group> groups_;
  std::size_t current_ = 0;
  std::vector<Lanes> registers_;
  std::vector<Mask> known_;
  std::vector<Mask> predicates_;
  std::vector<Mask> known_predicates_;
};

}  // namespace ptx
