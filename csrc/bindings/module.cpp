#include "adalora/isa.hpp"
#include "adalora/parallel.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/tensor.hpp"

namespace adalora::bindings {

void require_device(const dlpack::Device& device, const Argument& argument) {
  if (device.type == dlpack::kCpu) return;
  throw_value_error(
      argument, "on the CPU",
      "a tensor on device type " + std::to_string(device.type) + " (DLPack's numbering)");
}

namespace {

constexpr const char* kNoPool =
    "adalora_core: this torch does not export torch_parallel_for and torch_get_num_threads, so the "
    "compiled core runs on one thread; use another build of torch >= 2.10";

void connect_cpu() {
  isa_name();  // throws if no set can be chosen: better here than in a kernel
  connect();
  if (!has_pool() && PyErr_WarnEx(PyExc_RuntimeWarning, kNoPool, 1) != 0) {
    throw py::error_already_set();
  }
}

}  // namespace

}  // namespace adalora::bindings

ADALORA_MODULE(_cpu, module) {
  module.doc() = "The compiled CPU core. adalora_core.ops is the way to call it.";
  module.attr("__version__") = ADALORA_VERSION;
  module.attr("no_cuda_reason") = ADALORA_NO_CUDA_REASON;
  using adalora::bindings::define;
  define<&adalora::bindings::connect_cpu>(
      module, "connect",
      "Read torch's exchange table; ImportError gives the reason if it cannot be used.");
  define<&adalora::isa_name>(module, "isa_name", "The instruction set that the kernels use.");
  define<&adalora::thread_count>(module, "thread_count", "The number of threads of a large op.");
  adalora::bindings::bind_importance(module);
  adalora::bindings::bind_orthogonality(module);
  adalora::bindings::bind_selection(module);
  adalora::bindings::bind_svd_linear(module);
}
