#pragma once
/// selection on a GPU; see adalora/selection.hpp for the triplets that stay.

#include <cstdint>
#include <span>

#include "adalora/selection.hpp"
#include "cuda/launch.hpp"

namespace adalora::cuda {

/// Enqueues one launch, and one more per 1,800 matrices beyond the first 1,800. `scores` is
/// contiguous.
void select_triplets(const MatrixView& scores, std::int64_t budget, std::uint8_t* mask,
                     std::span<const MatrixView> singular_values, const Stream& stream);

/// Enqueues one launch per 1,800 matrices.
void apply_mask(const std::uint8_t* mask, std::span<const MatrixView> singular_values,
                const Stream& stream);

}  // namespace adalora::cuda
