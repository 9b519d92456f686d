#include "adalora/orthogonality.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/orthogonality_arguments.hpp"

namespace adalora::bindings {

namespace {

constexpr const char* kOp = kOrthogonality;

double penalty(py::handle lora_As, py::handle lora_Bs, py::handle grams, py::handle norms) {
  const Factors factors(lora_As, lora_Bs);
  const Kept kept(grams, norms, factors);
  Overlap overlap;
  overlap.write(kept.grams, {kOp, "grams"});
  overlap.write(kept.norms, {kOp, "norms"});
  for (const Factor& factor : factors.views()) overlap.read(factor.matrix, {kOp, "the factors"});
  overlap.check();
  const py::gil_scoped_release unlocked;
  return orthogonality_penalty(factors.views(), kept.grams.data,
                               static_cast<double*>(kept.norms.data));
}

void gradient(py::handle lora_As, py::handle lora_Bs, py::handle grams, py::handle norms,
              py::handle grad, py::handle gradients) {
  const Factors factors(lora_As, lora_Bs);
  const Kept kept(grams, norms, factors);
  const double upstream = read_number(grad, {kOp, "grad"});
  Gradients outputs(gradients, factors);
  Overlap& overlap = outputs.overlap();
  for (const Factor& factor : factors.views()) overlap.read(factor.matrix, {kOp, "the factors"});
  overlap.read(kept.grams, {kOp, "grams"});
  overlap.read(kept.norms, {kOp, "norms"});
  overlap.check();
  const py::gil_scoped_release unlocked;
  orthogonality_gradient(factors.views(), kept.grams.data,
                         static_cast<const double*>(kept.norms.data), upstream, outputs.views());
}

}  // namespace

void bind_orthogonality(py::module_& module) {
  define<&penalty>(module, "orthogonality_penalty", "Write grams and norms; return the mean.");
  define<&gradient>(module, "orthogonality_gradient", "Write the gradients of all factors.");
}

}  // namespace adalora::bindings
