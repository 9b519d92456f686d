#include "adalora/selection.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/selection_arguments.hpp"

namespace adalora::bindings {

namespace {

void select(py::handle scores, py::handle budget, py::handle mask, py::handle singular_values) {
  SelectTripletsArguments arguments(scores, budget, mask, singular_values);
  select_triplets(arguments.scores, arguments.budget, arguments.mask, arguments.values.views());
}

void apply(py::handle mask, py::handle singular_values) {
  const ApplyMaskArguments arguments(mask, singular_values);
  apply_mask(arguments.mask, arguments.values.views());
}

}  // namespace

void bind_selection(py::module_& module) {
  define<&select>(module, "select_triplets", "Write mask and zero what is dropped.");
  define<&apply>(module, "apply_mask", "Zero the singular values that mask drops.");
}

}  // namespace adalora::bindings
