#pragma once
/// selection: the triplets that stay within the budget.

#include <cstdint>
#include <span>

#include "adalora/view.hpp"

namespace adalora {

/// Writes `mask` (one byte per triplet, 1 keeps it) and zeroes the dropped singular values.
///
/// Keeps exactly min(budget, number of triplets), the highest scores first (Algorithm 1 of the
/// paper). Ties: the lower position stays. NaN counts as the lowest score of all. Deterministic.
/// `scores` is [sum of ranks, 1] in float or double; `singular_values` are the E [r, 1] of each
/// matrix, in the order of the scores.
void select_triplets(const MatrixView& scores, std::int64_t budget, std::uint8_t* mask,
                     std::span<const MatrixView> singular_values);

/// Zeroes the singular values whose byte of `mask` is 0.
void apply_mask(const std::uint8_t* mask, std::span<const MatrixView> singular_values);

}  // namespace adalora
