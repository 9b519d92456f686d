#pragma once
/// The arguments of update_importance, checked; shared by CPU and CUDA.

#include <memory>
#include <vector>

#include "adalora/importance.hpp"
#include "bindings/tensor.hpp"

namespace adalora::bindings {

inline constexpr const char* kUpdateImportance = "update_importance";

/// Parameters, gradients and averages: read, compared with each other, and held while they are
/// used.
class ImportanceArguments {
 public:
  ImportanceArguments(py::handle parameters, py::handle gradients, py::handle smoothed,
                      py::handle uncertainty);
  ~ImportanceArguments();

  const std::vector<ImportanceEntry>& entries() const;

  /// The scores, or an absent view for None.
  MatrixView scores(py::handle object) const;

  /// Throws if `view`, an output, shares memory with any of them.
  void require_apart_from(const MatrixView& view, const Argument& argument) const;

 private:
  class Arguments;
  std::unique_ptr<Arguments> arguments_;
};

/// A number in [0, 1].
double read_beta(py::handle object, const char* name);

}  // namespace adalora::bindings
