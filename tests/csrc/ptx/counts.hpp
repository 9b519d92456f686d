#pragma once
/// What a launch asks of a GPU, counted per warp, as its hardware works.

#include <array>
#include <cstdint>

#include "program.hpp"

namespace ptx {

/// Bytes of device memory that one transfer of a request moves at least.
inline constexpr std::uint64_t kSectorBytes = 32;

/// Loads or stores of a kind.
struct Accesses {
  std::uint64_t requests = 0;  // of whole warps
  std::uint64_t bytes = 0;     // that lanes asked for
  std::uint64_t sectors = 0;   // different ones within each request
};

struct Counts {
  std::uint64_t launches = 0;
  std::uint64_t blocks = 0;
  std::array<std::uint64_t, kClasses> instructions{};
  std::uint64_t divergent_branches = 0;
  Accesses loads, stores;
  std::uint64_t atomics = 0;
  std::uint64_t shared_requests = 0;
  std::uint64_t bank_conflicts = 0;  // further turns that requests take

  void add_instruction(Class kind) { ++instructions[static_cast<std::size_t>(kind)]; }
  void add_divergence() { ++divergent_branches; }
  /// A request of the lanes of `active` for `bytes` bytes each.
  void add_access(bool shared, bool store, const Lanes& addresses, Mask active, std::size_t bytes);
};

}  // namespace ptx
