#pragma once
/// importance on a GPU; see adalora/importance.hpp for the formulas.

#include <cstdint>
#include <span>

#include "adalora/importance.hpp"
#include "cuda/launch.hpp"

namespace adalora::cuda {

/// The number of doubles that `update_importance` needs between its two stages if scores are
/// wanted.
std::int64_t score_room(std::span<const ImportanceEntry> entries);

/// The outputs of the op beside the averages, all on the device of the stream.
struct ImportanceOutputs {
  MatrixView scores;                ///< [sum of ranks, 1], contiguous; absent if not wanted
  double* partials = nullptr;       ///< `score_room` of them if scores are wanted
  std::int64_t* skipped = nullptr;  ///< skipped entries are added to it
};

/// Enqueues one launch per 678 tensors, and for the scores one more per 2,000 matrices.
///
/// All tensors are contiguous; where scores are wanted, the factors of a matrix have one dtype. A
/// change of dtype costs a launch. The averages are bit-equal to those of the CPU; sums of the
/// scores have the same order on every device.
void update_importance(std::span<const ImportanceEntry> entries, double beta1, double beta2,
                       const ImportanceOutputs& outputs, const Stream& stream);

}  // namespace adalora::cuda
