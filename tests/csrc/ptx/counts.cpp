#include "counts.hpp"

#include <algorithm>

namespace ptx {

namespace {

constexpr unsigned kBanks = 32;
constexpr std::uint64_t kWordBytes = 4;

/// The turns that a request of shared memory takes: lanes that need different words of one bank
/// wait for each other. Lanes with 8 or 16 bytes are served in halves or quarters of a warp.
std::uint64_t turns_of(const Lanes& addresses, Mask active, std::size_t bytes) {
  const unsigned group = static_cast<unsigned>(kLanes * kWordBytes / std::max(bytes, kWordBytes));
  std::uint64_t turns = 0;
  for (unsigned first = 0; first < kLanes; first += group) {
    std::array<std::uint64_t, kLanes> words;  // of a group: at most 128 bytes
    std::size_t count = 0;
    for (unsigned lane = first; lane < first + group; ++lane) {
      if ((active >> lane & 1u) == 0) continue;
      for (std::uint64_t at = addresses[lane]; at < addresses[lane] + bytes; at += kWordBytes) {
        words[count++] = at / kWordBytes;
      }
    }
    std::sort(words.begin(), words.begin() + count);
    const auto end = std::unique(words.begin(), words.begin() + count);
    std::array<std::uint64_t, kBanks> of_bank{};
    for (auto word = words.begin(); word != end; ++word) ++of_bank[*word % kBanks];
    turns += *std::max_element(of_bank.begin(), of_bank.end());
  }
  return turns;
}

}  // namespace

void Counts::add_access(bool shared, bool store, const Lanes& addresses, Mask active,
                        std::size_t bytes) {
  if (shared) {
    const auto least = std::max<std::uint64_t>(1, bytes / kWordBytes);
    ++shared_requests;
    const std::uint64_t turns = turns_of(addresses, active, bytes);
    bank_conflicts += turns > least ? turns - least : 0;
    return;
  }
  Accesses& accesses = store ? stores : loads;
  std::array<std::uint64_t, kLanes> sectors;
  std::size_t count = 0;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    // Aligned accesses are at most 16 bytes: each is inside of one sector.
    if ((active >> lane & 1u) != 0) sectors[count++] = addresses[lane] / kSectorBytes;
  }
  std::sort(sectors.begin(), sectors.begin() + count);
  ++accesses.requests;
  accesses.bytes += count * bytes;
  accesses.sectors += static_cast<std::uint64_t>(
      std::unique(sectors.begin(), sectors.begin() + count) - sectors.begin());
}

}  // namespace ptx
