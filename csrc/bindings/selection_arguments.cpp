#include "bindings/selection_arguments.hpp"

namespace adalora::bindings {

namespace {

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

}  // namespace

SelectionArguments::SelectionArguments(py::handle scores_object, py::handle budget_object,
                                       py::handle mask_object, py::handle singular_values)
    : values("select_triplets", singular_values) {
  constexpr const char* kOp = "select_triplets";
  const Argument scores_argument{kOp, "scores"};
  scores = read_vector(scores_object, scores_argument);
  require_dtype(scores, scores_argument, compute_type(scores.dtype), "or float64");
  require_shape(scores, scores_argument, values.count(), 1, "[sum of ranks, 1]");
  budget = read_integer(budget_object, {kOp, "budget"});
  if (budget < 0) throw_value_error({kOp, "budget"}, "0 or more", std::to_string(budget));
  mask = read_mask(mask_object, {kOp, "mask"}, values.count());
  values.overlap().read(scores, scores_argument);
  values.overlap().check();
  const Interval mask_memory = bytes(mask, values.count());
  require_apart(kOp, mask_memory, scores, scores_argument);
  for (const MatrixView& view : values.views()) {
    require_apart(kOp, mask_memory, view, {kOp, "singular_values"});
  }
}

MaskArguments::MaskArguments(py::handle mask_object, py::handle singular_values)
    : values("apply_mask", singular_values) {
  constexpr const char* kOp = "apply_mask";
  mask = read_mask(mask_object, {kOp, "mask"}, values.count());
  values.overlap().check();
  for (const MatrixView& view : values.views()) {
    require_apart(kOp, bytes(mask, values.count()), view, {kOp, "singular_values"});
  }
}

}  // namespace adalora::bindings
