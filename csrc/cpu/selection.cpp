#include "adalora/selection.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "adalora/arithmetic/selection.hpp"

namespace adalora {

namespace {

/// One triplet as a pair of integers whose order is the order of selection: best first.
struct Candidate {
  std::uint64_t key;
  std::int64_t position;

  bool operator<(const Candidate& other) const {
    return key != other.key ? key < other.key : position < other.position;
  }
};

double read_score(const MatrixView& scores, std::int64_t position) {
  const char* address = scores.at(position, 0);
  return scores.dtype == DType::kFloat64 ? *reinterpret_cast<const double*>(address)
                                         : *reinterpret_cast<const float*>(address);
}

}  // namespace

void select_triplets(const MatrixView& scores, std::int64_t budget, std::uint8_t* mask,
                     std::span<const MatrixView> singular_values) {
  const std::int64_t kept = std::min(budget, scores.rows);
  std::vector<Candidate> candidates(static_cast<std::size_t>(scores.rows));
  for (std::int64_t i = 0; i < scores.rows; ++i) {
    candidates[i] = {descending_key(read_score(scores, i)), i};
  }
  std::nth_element(candidates.begin(), candidates.begin() + kept, candidates.end());
  std::fill_n(mask, scores.rows, std::uint8_t{0});
  for (std::int64_t i = 0; i < kept; ++i) mask[candidates[i].position] = 1;
  apply_mask(mask, singular_values);
}

void apply_mask(const std::uint8_t* mask, std::span<const MatrixView> singular_values) {
  for (const MatrixView& values : singular_values) {
    for (std::int64_t t = 0; t < values.rows; ++t) {
      // All bits zero is +0 in each of the four dtypes.
      if (mask[t] == 0) std::memset(values.at(t, 0), 0, item_size(values.dtype));
    }
    mask += values.rows;
  }
}

}  // namespace adalora
