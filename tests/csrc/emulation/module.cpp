// adalora_core._cuda with emulated kernels, under another name, so that the path from the ops to
// the kernels is tested without a GPU.

#include "bindings/bindings.hpp"
#include "bindings/tensor.hpp"
#include "cuda_runtime.h"

PYBIND11_MODULE(cuda_emulated, module) {
  emulation::holds_lock = &PyGILState_Check;
  module.def("connect", &adalora::bindings::connect);
  module.def("take_launch_count", &emulation::take_launch_count);
  adalora::bindings::bind_importance(module);
  adalora::bindings::bind_orthogonality(module);
  adalora::bindings::bind_selection(module);
  adalora::bindings::bind_svd_linear(module);
}
