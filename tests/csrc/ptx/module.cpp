// The Python module stand_in, beside adalora_core._cuda in one file: what a test asks of the
// runtime that _cuda is linked with, and an exchange table that shows tensors of the CPU as those
// of a GPU.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "adalora/dlpack_abi.hpp"
#include "runtime.hpp"

namespace py = pybind11;
namespace dlpack = adalora::dlpack;

namespace {

/// What a launch may touch, where tensors are, and the number of the stream.
struct Place {
  std::map<std::uintptr_t, std::uintptr_t> claims;      // from begin to end
  std::map<std::uintptr_t, std::uintptr_t> of_capture;  // those that a captured graph keeps
  int device = 0;
  int stream = 0;
  std::uintptr_t forgotten = 0;  // the tensor here is not claimed
};

Place place;
dlpack::ExchangeApi torch_table, own_table;

ptx::Memory& memory() { return ptx::runtime::device().memory(); }

void release_all() {
  for (const auto& [begin, end] : place.claims) memory().remove(begin);
  place.claims.clear();
}

/// Tensors may share memory; those that only touch stay apart.
void claim(std::uintptr_t begin, std::uintptr_t end) {
  auto each = place.claims.lower_bound(begin);
  if (each != place.claims.begin() && std::prev(each)->second > begin) --each;
  while (each != place.claims.end() && each->first < end) {
    begin = std::min(begin, each->first);
    end = std::max(end, each->second);
    memory().remove(each->first);
    each = place.claims.erase(each);
  }
  place.claims[begin] = end;
  memory().add(begin, reinterpret_cast<std::byte*>(begin), end - begin);
  memory().host_write(begin, end - begin);
}

/// Claims the elements of a tensor from `dimension` on, and none that lies between them.
void claim(const dlpack::Tensor& tensor, std::uintptr_t at, std::int32_t dimension) {
  const std::int64_t item = tensor.dtype.bits / 8;
  std::int64_t dense = 1;
  bool is_dense = true;
  for (std::int32_t i = tensor.ndim - 1; i >= dimension; --i) {
    is_dense = is_dense && (tensor.shape[i] == 1 || tensor.strides[i] == dense);
    dense *= tensor.shape[i];
  }
  if (dense == 0) return;
  if (is_dense) return claim(at, at + static_cast<std::uintptr_t>(dense * item));
  for (std::int64_t i = 0; i < tensor.shape[dimension]; ++i) {
    const std::int64_t offset = i * tensor.strides[dimension] * item;
    claim(tensor, at + static_cast<std::uintptr_t>(offset), dimension + 1);
  }
}

void end_capture() {
  ptx::runtime::end_capture();
  place.of_capture = place.claims;
}

void replay() {
  release_all();
  for (const auto& [begin, end] : place.of_capture) claim(begin, end);
  ptx::runtime::replay();
}

int read(void* object, dlpack::Tensor* tensor) {
  const int error = torch_table.dltensor_from_py_object_no_sync(object, tensor);
  if (error != 0) return error;
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor->data) + tensor->byte_offset;
  if (tensor->data != nullptr && begin != place.forgotten) claim(*tensor, begin, 0);
  tensor->device = {dlpack::kCuda, place.device};
  return 0;
}

int current_stream(std::int32_t, std::int32_t device, void** stream) {
  *stream = ptx::runtime::stream_of(device, place.stream);
  return 0;
}

py::capsule table(const py::capsule& of_torch) {
  torch_table = *of_torch.get_pointer<dlpack::ExchangeApi>();
  own_table = torch_table;
  own_table.header.previous = nullptr;
  own_table.dltensor_from_py_object_no_sync = read;
  own_table.current_work_stream = current_stream;
  return py::capsule(&own_table, "dlpack_exchange_api");
}

}  // namespace

PYBIND11_MODULE(stand_in, module) {
  ptx::runtime::forbid_lock(&PyGILState_Check);
  ptx::runtime::load(ptx::runtime::embedded_text(80));
  ptx::runtime::device().set_order(ptx::Order::kShuffled, 7);
  module.def("table", &table, "An exchange table over that of torch.");
  module.def("release_all", &release_all, "Launches may touch tensors that are read from now on.");
  module.def("take_calls", &ptx::runtime::take_calls, "Functions of CUDA called since then.");
  module.def("begin_capture", &ptx::runtime::begin_capture, "Launches are kept and do not run.");
  module.def("end_capture", &end_capture, "Launches run.");
  module.def("replay", &replay, "Run what was captured; its tensors have to be there.");
  module.def("pretend_driver", &ptx::runtime::pretend_driver, "Its version; 0 is none.");
  module.def(
      "forget", [](std::uintptr_t address) { place.forgotten = address; },
      "No launch may touch the tensor at this address; 0 is no tensor.");
  module.def(
      "move_to",
      [](int device, int stream) {
        place.device = device;
        place.stream = stream;
      },
      "Where tensors are from now on, and the stream that is current there.");
}
