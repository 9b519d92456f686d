#include "warp.hpp"

#include <algorithm>

namespace ptx {

Warp::Warp(const Launch& launch, unsigned first)
    : launch_(launch),
      first_(first),
      all_(launch.threads - first >= kLanes ? kAllLanes : (1u << (launch.threads - first)) - 1),
      registers_(launch.kernel.registers),
      known_(launch.kernel.registers),
      predicates_(launch.kernel.predicates),
      known_predicates_(launch.kernel.predicates) {}

void Warp::start(unsigned block) {
  block_ = block;
  std::ranges::fill(known_, Mask{0});
  std::ranges::fill(known_predicates_, Mask{0});
  for (const auto& [special, index] : launch_.kernel.specials) {
    known_[index] = all_;
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const std::uint64_t values[] = {first_ + lane,  block, launch_.threads,
                                      launch_.blocks, lane,  0};
      registers_[index][lane] = values[static_cast<std::size_t>(special)];
    }
  }
  groups_.assign(1, {0, all_, false});
  current_ = 0;
}

Mask Warp::flags(const Operand& operand) const {
  if (operand.kind == Operand::Kind::kConstant) {
    return launch_.kernel.constants[operand.index][0] != 0 ? kAllLanes : 0;
  }
  require_known(known_predicates_[operand.index]);
  return predicates_[operand.index];
}

void Warp::set_flags(const Operand& operand, Mask flags) {
  known_predicates_[operand.index] |= active_;
  Mask& own = predicates_[operand.index];
  own = (own & ~active_) | (flags & active_);
}

void Warp::throw_unknown(Mask lanes) {
  throw Fault("uses a register that nobody wrote", static_cast<unsigned>(std::countr_zero(lanes)));
}

void Warp::fail(const std::string& what, std::size_t at, unsigned lane) const {
  throw Fault(what + "\n  at: " + launch_.kernel.instructions[at].text + "\n  kernel " +
              launch_.kernel.name + ", block " + std::to_string(block_) + ", thread " +
              std::to_string(thread(lane)));
}

void Warp::fail(const std::string& what) const {
  const Group& group = groups_.front();
  fail(what, group.at, static_cast<unsigned>(std::countr_zero(group.lanes)));
}

bool Warp::can_run() const {
  return std::ranges::any_of(groups_, [](const Group& group) { return !group.waits; });
}

/// Selects the group that runs next: the one that is behind the others, so that they meet soon; or
/// the one that is ahead, or any.
bool Warp::choose() {
  if (groups_.size() == 1) {
    current_ = 0;
    return !groups_[0].waits;
  }
  bool found = false;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].waits) continue;
    bool first = !found;
    if (found && launch_.order == Order::kForward) first = groups_[i].at < groups_[current_].at;
    if (found && launch_.order == Order::kBackward) first = groups_[i].at > groups_[current_].at;
    if (found && launch_.order == Order::kShuffled) first = launch_.random() % 2 == 0;
    if (first) current_ = i;
    found = true;
  }
  return found;
}

void Warp::run(std::uint64_t turns) {
  try {
    for (; turns > 0 && choose(); --turns) {
      step();
      if (groups_.size() > 1) merge();
    }
  } catch (const Fault& fault) {
    fail(fault.what(), at_, fault.lane);
  }
}

void Warp::step() {
  Group& group = groups_[current_];
  at_ = group.at;
  const Instruction& instruction = launch_.kernel.instructions[at_];
  if (launch_.instructions < kLanes) throw Fault("more instructions than the limit");
  active_ = group.lanes;
  if (instruction.guard) {
    const Mask flags = this->flags(instruction.guard);
    active_ &= instruction.guard_is_negated ? ~flags : flags;
  }
  instruction.has_run |= active_ != 0;
  launch_.instructions -= static_cast<unsigned>(std::popcount(group.lanes));
  if (launch_.counts != nullptr) launch_.counts->add_instruction(instruction.opcode.kind);
  switch (instruction.opcode.flow) {
    case Flow::kNext:
      if (active_ != 0) instruction.opcode.action(*this, instruction);
      ++group.at;
      return;
    case Flow::kBranch:
      return branch(group, instruction);
    case Flow::kReturn:
      group.lanes &= ~active_;
      ++group.at;
      if (group.lanes == 0) groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(current_));
      return;
    case Flow::kBarrier:
      if (active_ != group.lanes) throw Fault("a barrier for some lanes of a group");
      group.waits = true;
      return;
    case Flow::kExchange:
      if (active_ != group.lanes) throw Fault("an exchange for some lanes of a group");
      return exchange(group, instruction);
  }
}

void Warp::branch(Group& group, const Instruction& instruction) {
  if (active_ == group.lanes) {
    group.at = instruction.branch;
    return;
  }
  ++group.at;
  if (active_ == 0) return;
  if (launch_.counts != nullptr) launch_.counts->add_divergence();
  group.lanes &= ~active_;
  groups_.push_back({instruction.branch, active_, false});
}

/// Lanes that exchange values name each other in the last operand, and wait for all of them.
void Warp::exchange(Group& group, const Instruction& instruction) {
  const Operand& members = instruction.sources[instruction.source_count - 1u];
  const auto named = static_cast<Mask>(value(members)[std::countr_zero(group.lanes)]) & all_;
  if ((group.lanes & ~named) != 0) throw Fault("a lane exchanges values without naming itself");
  group.waits = group.lanes != named;
  if (group.waits) return;
  instruction.opcode.action(*this, instruction);
  ++group.at;
}

void Warp::merge() {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    for (std::size_t j = groups_.size() - 1; j > i; --j) {
      if (groups_[i].at != groups_[j].at) continue;
      groups_[i].lanes |= groups_[j].lanes;
      // Lanes that waited for these look again whether all are there.
      const bool is_barrier =
          launch_.kernel.instructions[groups_[i].at].opcode.flow == Flow::kBarrier;
      groups_[i].waits = groups_[i].waits && groups_[j].waits && is_barrier;
      groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(j));
    }
  }
}

std::size_t Warp::barrier() const {
  const Group& group = groups_.front();
  if (launch_.kernel.instructions[group.at].opcode.flow != Flow::kBarrier) {
    fail("an exchange with lanes that are elsewhere");
  }
  if (group.lanes != all_) fail("a barrier that some lanes of a warp do not reach");
  return group.at;
}

void Warp::pass_barrier() {
  for (Group& group : groups_) {
    ++group.at;
    group.waits = false;
  }
}

}  // namespace ptx
