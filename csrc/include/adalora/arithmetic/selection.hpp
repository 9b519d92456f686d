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

}  // namespace adalora
