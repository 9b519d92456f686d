#include "bindings/selection_arguments.hpp"

namespace adalora::bindings {

namespace {

Interval memory_of_mask(const std::uint8_t* mask, std::int64_t count) {
  const auto begin = reinterpret_cast<std::uintptr_t>(mask);
  return {begin, begin + static_cast<std::uintptr_t>(count)};
}

}  // namespace

SelectTripletsArguments::SelectTripletsArguments(py::handle scores_object, py::handle budget_object,
                                                 py::handle mask_object, py::handle singular_values)
    : values("select_triplets", singular_values) {
  constexpr const char* kOp = "select_triplets";
  const Argument scores_argument{kOp, "scores"}, mask_argument{kOp, "mask"};
  scores = read_scores(scores_object, scores_argument, values.count());
  budget = read_integer(budget_object, {kOp, "budget"});
  if (budget < 0) throw_value_error({kOp, "budget"}, "0 or more", std::to_string(budget));
  mask = read_mask(mask_object, mask_argument, values.count());
  values.overlap().read(scores, scores_argument);
  values.overlap().write(memory_of_mask(mask, values.count()), mask_argument);
  values.overlap().check();
}

ApplyMaskArguments::ApplyMaskArguments(py::handle mask_object, py::handle singular_values)
    : values("apply_mask", singular_values) {
  const Argument mask_argument{"apply_mask", "mask"};
  mask = read_mask(mask_object, mask_argument, values.count());
  values.overlap().read(memory_of_mask(mask, values.count()), mask_argument);
  values.overlap().check();
}

}  // namespace adalora::bindings
