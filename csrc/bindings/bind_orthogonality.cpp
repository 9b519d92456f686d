#include "adalora/orthogonality.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/orthogonality_arguments.hpp"

namespace adalora::bindings {

namespace {

double penalty(py::handle lora_As, py::handle lora_Bs, py::handle grams, py::handle norms) {
  const Factors factors(lora_As, lora_Bs);
  const Residuals residuals(grams, norms, factors);
  forward_memory(factors, residuals).check();
  const py::gil_scoped_release unlocked;
  return orthogonality_penalty(factors.views(), residuals.grams.data,
                               static_cast<double*>(residuals.norms.data));
}

void gradient(py::handle lora_As, py::handle lora_Bs, py::handle grams, py::handle norms,
              py::handle grad, py::handle gradients) {
  const Factors factors(lora_As, lora_Bs);
  const Residuals residuals(grams, norms, factors);
  const double upstream = read_number(grad, {kOrthogonality, "grad"});
  Gradients outputs(gradients, factors, residuals);
  outputs.overlap().check();
  const py::gil_scoped_release unlocked;
  orthogonality_gradient(factors.views(), residuals.grams.data,
                         static_cast<const double*>(residuals.norms.data), upstream,
                         outputs.views());
}

double add_gradient(py::handle lora_As, py::handle lora_Bs, py::handle weight,
                    py::handle gradients) {
  const Factors factors(lora_As, lora_Bs);
  const double upstream = read_number(weight, {kOrthogonality, "weight"});
  Gradients outputs(gradients, factors);
  outputs.overlap().check();
  const py::gil_scoped_release unlocked;
  return adalora::add_orthogonality_gradient(factors.views(), upstream, outputs.views());
}

}  // namespace

void bind_orthogonality(py::module_& module) {
  define<&penalty>(module, "orthogonality_penalty", "Write grams and norms; return the mean.");
  define<&gradient>(module, "orthogonality_gradient", "Write the gradients of all factors.");
  define<&add_gradient>(module, "add_orthogonality_gradient",
                        "Add the gradients of all factors, weighted; return the mean.");
}

}  // namespace adalora::bindings
