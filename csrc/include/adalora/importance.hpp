#pragma once
/// importance: smoothed sensitivity, uncertainty and triplet scores of all matrices in one pass.

#include <cstdint>
#include <span>

#include "adalora/arithmetic/importance.hpp"
#include "adalora/view.hpp"

namespace adalora {

/// One parameter with its gradient and its two averages, all of one shape.
///
/// The gradient has the dtype of the parameter; without one the averages do not change. The
/// averages have the compute type of the parameter.
struct ImportanceEntry {
  MatrixView parameter;
  MatrixView gradient;
  MatrixView smoothed;
  MatrixView uncertainty;
};

/// Updates the averages in place and returns the number of skipped entries.
///
/// For each entry of a parameter p with gradient g (paper equations 9 and 10):
///   I = |p * g|
///   smoothed    <- beta1 * smoothed + (1 - beta1) * I
///   uncertainty <- beta2 * uncertainty + (1 - beta2) * |I - smoothed|     with the new smoothed
/// Products and sums are rounded one by one, so the result is bit-equal to the same formula in
/// torch, whatever the instruction set and the number of threads. An entry whose I is not finite is
/// not changed, but counted as skipped.
///
/// Without scores, `entries` are any matrices. With scores they are A [r, in], E [r, 1], B [out, r]
/// of matrix 0, then those of matrix 1, and so on.
///
/// If `scores` is present ([sum of ranks, 1], the compute type of the parameters) it is overwritten
/// with one score per triplet, from the new averages (equations 7 and 8), also where no gradient
/// was given:
///   score = s(E[t]) + (mean over the row of s(A[t, :]) + mean over the column of s(B[:, t]))
/// with s = smoothed * uncertainty; the mean of nothing is zero. Sums run in a fixed order.
std::int64_t update_importance(std::span<const ImportanceEntry> entries, double beta1, double beta2,
                               const MatrixView& scores);

}  // namespace adalora
