#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/tensor.hpp"
#include "cuda/driver.hpp"

ADALORA_MODULE(_cuda, module) {
  module.doc() = "The compiled CUDA core. adalora_core.ops is the way to call it.";
  module.attr("__version__") = ADALORA_VERSION;
  module.attr("architectures") = ADALORA_CUDA_ARCHITECTURES;
  module.def("connect", &adalora::bindings::connect,
             "Read torch's exchange table; ImportError gives the reason if it cannot be used.");
  module.def("runtime_version", &adalora::cuda::runtime_version,
             "The CUDA version of the build, 1000 * major + 10 * minor.");
  module.def("required_driver_version", &adalora::cuda::required_driver_version,
             "The lowest CUDA version that a driver must support.");
  module.def("driver_version", &adalora::cuda::driver_version,
             "The newest CUDA version that the driver supports; 0 without a driver.");
  module.def(
      "problem_of", &adalora::cuda::problem_of,
      pybind11::call_guard<pybind11::gil_scoped_release>(),
      "Load all kernels on a device; the reason why they cannot run there, empty if they can.");
  adalora::bindings::bind_importance(module);
  adalora::bindings::bind_orthogonality(module);
  adalora::bindings::bind_selection(module);
  adalora::bindings::bind_svd_linear(module);
}
