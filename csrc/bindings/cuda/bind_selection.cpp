#include "bindings/bindings.hpp"
#include "bindings/cuda/call.hpp"
#include "bindings/define.hpp"
#include "bindings/selection_arguments.hpp"
#include "cuda/selection.hpp"

namespace adalora::bindings {

namespace {

void select(py::handle scores, py::handle budget, py::handle mask, py::handle singular_values) {
  const Call call;
  const SelectTripletsArguments arguments(scores, budget, mask, singular_values);
  require_contiguous(arguments.scores, {"select_triplets", "scores"});
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::select_triplets(arguments.scores, arguments.budget, arguments.mask,
                        arguments.values.views(), stream);
}

void apply(py::handle mask, py::handle singular_values) {
  const Call call;
  const ApplyMaskArguments arguments(mask, singular_values);
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::apply_mask(arguments.mask, arguments.values.views(), stream);
}

}  // namespace

void bind_selection(py::module_& module) {
  define<&select>(module, "select_triplets", "Write mask and zero what is dropped.");
  define<&apply>(module, "apply_mask", "Zero the singular values that mask drops.");
}

}  // namespace adalora::bindings
