#pragma once
/// The order of scores in selection.hpp, as an order of integers.

#include <cstdint>

#include "adalora/arithmetic/portable.hpp"

namespace adalora {

/// Maps a score to an integer that is smaller the higher the score; NaN gets the largest.
ADALORA_SHARED std::uint64_t descending_key(double score) {
  if (score != score) return ~std::uint64_t{0};
  constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
  const auto bits = __builtin_bit_cast(std::uint64_t, score + 0.0);  // -0 becomes 0
  const std::uint64_t ascending = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return ~ascending;
}

/// The same order for scores that are floats, in half of the bits.
ADALORA_SHARED std::uint32_t descending_key(float score) {
  if (score != score) return ~std::uint32_t{0};
  constexpr std::uint32_t kSign = std::uint32_t{1} << 31;
  const auto bits = __builtin_bit_cast(std::uint32_t, score + 0.0f);
  const std::uint32_t ascending = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return ~ascending;
}

}  // namespace adalora
