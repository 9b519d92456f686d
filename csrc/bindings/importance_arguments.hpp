#pragma once
/// The arguments of update_importance, checked; shared by CPU and CUDA.

#include <vector>

#include "adalora/importance.hpp"
#include "bindings/overlap.hpp"

namespace adalora::bindings {

inline constexpr const char* kUpdateImportance = "update_importance";

/// One of the two averages: a tensor per parameter, or one flat tensor with the entries of all
/// parameters in order, which is one object to read instead of hundreds.
class Averages {
 public:
  /// The average of so many `parameters`; its memory is added to `overlap`.
  Averages(py::handle object, const char* name, std::size_t parameters, Overlap& overlap);

  /// The average of the parameter `index`, which is the next one.
  MatrixView of(const MatrixView& parameter, std::int64_t index);

  /// Throws if a flat tensor has entries beyond those of the parameters.
  void require_used() const;

 private:
  const char* name_;
  Overlap& overlap_;
  py::object held_;  ///< the flat tensor, or a tuple of tensors
  bool is_flat_;
  MatrixView flat_;
  std::int64_t used_ = 0;
};

/// Parameters, gradients, averages and scores: read, and held while they are used.
///
/// A parameter or a gradient may be a negative view: |p * g| has no sign.
class ImportanceArguments {
 public:
  ImportanceArguments(py::handle parameters, py::handle gradients, py::handle smoothed,
                      py::handle uncertainty, py::handle scores);
  ImportanceArguments(const ImportanceArguments&) = delete;
  ImportanceArguments& operator=(const ImportanceArguments&) = delete;

  const std::vector<ImportanceEntry>& entries() const { return entries_; }

  /// The scores, or an absent view for None.
  const MatrixView& scores() const { return scores_; }

  /// What is read and written, to be checked before the op.
  Overlap& overlap() { return overlap_; }

 private:
  void read_entry(std::int64_t index);
  std::int64_t count_triplets() const;

  Overlap overlap_;
  py::tuple parameters_;
  py::tuple gradients_;
  Averages smoothed_;
  Averages uncertainty_;
  std::vector<ImportanceEntry> entries_;
  MatrixView scores_;
};

/// A number in [0, 1].
double read_beta(py::handle object, const char* name);

}  // namespace adalora::bindings
