#include "adalora/importance.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/importance_arguments.hpp"

namespace adalora::bindings {

namespace {

std::int64_t update(py::handle parameters, py::handle gradients, py::handle smoothed,
                    py::handle uncertainty, py::handle beta1, py::handle beta2, py::handle scores) {
  const double decay1 = read_beta(beta1, "beta1");
  const double decay2 = read_beta(beta2, "beta2");
  ImportanceArguments arguments(parameters, gradients, smoothed, uncertainty, scores);
  arguments.overlap().check();
  const py::gil_scoped_release unlocked;
  return update_importance(arguments.entries(), decay1, decay2, arguments.scores());
}

}  // namespace

void bind_importance(py::module_& module) {
  define<&update>(module, "update_importance",
                  "Update the averages; return the number of skipped entries.");
}

}  // namespace adalora::bindings
