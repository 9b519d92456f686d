#include <vector>

#include "adalora/selection.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/tensor.hpp"

namespace adalora::bindings {

namespace {

/// The E [r, 1] of every matrix, which are written.
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

/// The mask as a view whose memory can be compared; its bytes are counted in pairs, rounded up.
Interval bytes(const std::uint8_t* mask, std::int64_t count) {
  const auto begin = reinterpret_cast<std::uintptr_t>(mask);
  return {begin, begin + static_cast<std::uintptr_t>(count)};
}

void require_apart(const char* op, const Interval& mask, const MatrixView& view,
                   const Argument& argument) {
  const Interval memory = memory_of(view);
  if (!mask.empty() && memory.begin < mask.end && mask.begin < memory.end) {
    throw_overlap({op, "mask"}, argument);
  }
}

void select(py::handle scores, py::handle budget, py::handle mask, py::handle singular_values) {
  constexpr const char* kOp = "select_triplets";
  SingularValues values(kOp, singular_values);
  const Argument scores_argument{kOp, "scores"};
  const MatrixView score_view = read_vector(scores, scores_argument);
  require_dtype(score_view, scores_argument, compute_type(score_view.dtype), "or float64");
  require_shape(score_view, scores_argument, values.count(), 1, "[sum of ranks, 1]");
  const std::int64_t kept = read_integer(budget, {kOp, "budget"});
  if (kept < 0) throw_value_error({kOp, "budget"}, "0 or more", std::to_string(kept));
  std::uint8_t* const flags = read_mask(mask, {kOp, "mask"}, values.count());
  values.overlap().read(score_view, scores_argument);
  values.overlap().check();
  const Interval mask_memory = bytes(flags, values.count());
  require_apart(kOp, mask_memory, score_view, scores_argument);
  for (const MatrixView& view : values.views()) {
    require_apart(kOp, mask_memory, view, {kOp, "singular_values"});
  }
  select_triplets(score_view, kept, flags, values.views());
}

void apply(py::handle mask, py::handle singular_values) {
  constexpr const char* kOp = "apply_mask";
  SingularValues values(kOp, singular_values);
  const std::uint8_t* const flags = read_mask(mask, {kOp, "mask"}, values.count());
  values.overlap().check();
  for (const MatrixView& view : values.views()) {
    require_apart(kOp, bytes(flags, values.count()), view, {kOp, "singular_values"});
  }
  apply_mask(flags, values.views());
}

}  // namespace

void bind_selection(py::module_& module) {
  define<&select>(module, "select_triplets", "Write mask and zero what is dropped.");
  define<&apply>(module, "apply_mask", "Zero the singular values that mask drops.");
}

}  // namespace adalora::bindings
