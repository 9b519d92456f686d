#pragma once
/// The entries of x that dropout keeps: a hash of (seed, row, column), so that nothing is stored.

#include <cstdint>

#include "adalora/arithmetic/portable.hpp"

namespace adalora {

/// An entry is kept if its draw of 32 bits is at least this.
ADALORA_SHARED std::uint32_t drop_threshold(double probability) {
  const double scaled = probability * 4294967296.0;
  return static_cast<std::uint32_t>(scaled < 4294967295.0 ? scaled : 4294967295.0);
}

/// Spreads seed and row over 64 bits (the finaliser of splitmix64).
ADALORA_SHARED std::uint64_t drop_row_key(std::uint64_t seed, std::uint64_t row) {
  std::uint64_t key = seed + (row + 1) * 0x9e3779b97f4a7c15u;
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
  return key ^ (key >> 31);
}

/// Two rounds of multiply and xor-shift: every input bit reaches every output bit.
ADALORA_SHARED std::uint32_t mix(std::uint32_t value) {
  value ^= value >> 16;
  value *= 0x7feb352du;
  value ^= value >> 15;
  value *= 0x846ca68bu;
  return value ^ (value >> 16);
}

/// The draw of entry `index` of the row that `key` belongs to.
ADALORA_SHARED std::uint32_t drop_draw(std::uint64_t key, std::uint32_t index) {
  const std::uint32_t low = static_cast<std::uint32_t>(key);
  const std::uint32_t high = static_cast<std::uint32_t>(key >> 32);
  return mix(mix(index ^ low) + high);
}

}  // namespace adalora
