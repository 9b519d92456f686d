#include "bindings/bindings.hpp"
#include "bindings/cuda/call.hpp"
#include "bindings/define.hpp"
#include "bindings/orthogonality_arguments.hpp"
#include "cuda/orthogonality.hpp"

namespace adalora::bindings {

namespace {

void require_layout(const Factors& factors) {
  const auto matrices = static_cast<std::int64_t>(factors.matrices());
  std::int64_t index = 0;
  for (const Factor& factor : factors.views()) {
    const bool is_A = index < matrices;
    require_contiguous(factor.matrix, {kOrthogonality, is_A ? "lora_As" : "lora_Bs",
                                       is_A ? index : index - matrices});
    ++index;
  }
}

std::int64_t gram_room(py::handle lora_As, py::handle lora_Bs) {
  const Call call;
  return cuda::gram_room(Factors(lora_As, lora_Bs).views());
}

MatrixView read_number_on_device(py::handle object, const char* name, const Factors& factors) {
  const MatrixView view = read_scalar(object, {kOrthogonality, name});
  require_dtype(view, {kOrthogonality, name}, factors.dtype(), "that of the factors");
  return view;
}

void penalty(py::handle lora_As, py::handle lora_Bs, py::handle partials, py::handle grams,
             py::handle norms, py::handle result) {
  const Call call;
  const Factors factors(lora_As, lora_Bs);
  require_layout(factors);
  const Residuals residuals(grams, norms, factors);
  const MatrixView room =
      read_flat(partials, {kOrthogonality, "partials"}, cuda::gram_room(factors.views()),
                compute_type(factors.dtype()));
  const MatrixView number = read_number_on_device(result, "penalty", factors);
  Overlap overlap = forward_memory(factors, residuals);
  overlap.write(room, {kOrthogonality, "partials"});
  overlap.write(number, {kOrthogonality, "penalty"});
  overlap.check();
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::orthogonality_penalty(factors.views(), room.data, residuals.grams.data,
                              static_cast<double*>(residuals.norms.data), number.data, stream);
}

void gradient(py::handle lora_As, py::handle lora_Bs, py::handle grams, py::handle norms,
              py::handle grad, py::handle gradients) {
  const Call call;
  const Factors factors(lora_As, lora_Bs);
  require_layout(factors);
  const Residuals residuals(grams, norms, factors);
  const MatrixView upstream = read_number_on_device(grad, "grad", factors);
  Gradients outputs(gradients, factors, residuals);
  for (std::size_t i = 0; i < outputs.views().size(); ++i) {
    require_contiguous(outputs.views()[i],
                       {kOrthogonality, "gradients", static_cast<std::int64_t>(i)});
  }
  outputs.overlap().read(upstream, {kOrthogonality, "grad"});
  outputs.overlap().check();
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::orthogonality_gradient(factors.views(), residuals.grams.data,
                               static_cast<const double*>(residuals.norms.data), upstream.data,
                               outputs.views(), stream);
}

}  // namespace

void bind_orthogonality(py::module_& module) {
  define<&gram_room>(module, "gram_room",
                     "The number of values that the penalty of factors needs.");
  define<&penalty>(module, "orthogonality_penalty", "Write grams, norms and their mean.");
  define<&gradient>(module, "orthogonality_gradient", "Write the gradients of all factors.");
}

}  // namespace adalora::bindings
