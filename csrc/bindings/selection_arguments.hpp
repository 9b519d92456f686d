#pragma once
/// The arguments of select_triplets and apply_mask, checked; shared by CPU and CUDA.

#include <vector>

#include "adalora/selection.hpp"
#include "bindings/overlap.hpp"

namespace adalora::bindings {

/// The E [r, 1] of every matrix; the op writes to them.
class SingularValues {
 public:
  SingularValues(const char* op, py::handle object)
      : items_(read_items(object, {op, "singular_values"})) {
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const Argument argument{op, "singular_values", static_cast<std::int64_t>(i)};
      const MatrixView view = read_matrix(items_[i], argument);
      require_shape(view, argument, view.rows, 1, "[r, 1]");
      overlap_.write(view, argument);
      views_.push_back(view);
      count_ += view.rows;
    }
  }

  const std::vector<MatrixView>& views() const { return views_; }
  std::int64_t count() const { return count_; }
  Overlap& overlap() { return overlap_; }

 private:
  py::tuple items_;
  std::vector<MatrixView> views_;
  std::int64_t count_ = 0;
  Overlap overlap_;
};

/// The arguments of select_triplets.
struct SelectTripletsArguments {
  SelectTripletsArguments(py::handle scores_object, py::handle budget_object,
                          py::handle mask_object, py::handle singular_values);

  SingularValues values;
  MatrixView scores;
  std::int64_t budget;
  std::uint8_t* mask;
};

/// The arguments of apply_mask.
struct ApplyMaskArguments {
  ApplyMaskArguments(py::handle mask_object, py::handle singular_values);

  SingularValues values;
  const std::uint8_t* mask;
};

}  // namespace adalora::bindings
