#include "bindings/tensor.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

namespace adalora::bindings {

namespace {

/// The parts of torch that the bindings use; the objects live as long as the process.
struct Torch {
  PyTypeObject* tensor = nullptr;
  PyTypeObject* parameter = nullptr;
  PyObject* is_neg = nullptr;
  PyObject* grad = nullptr;  ///< the name of the attribute
  PyObject* count_modes = nullptr;
  PyObject* disable_functions = nullptr;
  int (*read)(void* object, dlpack::Tensor* out) = nullptr;
  int (*current_stream)(std::int32_t device_type, std::int32_t device, void** out) = nullptr;
};

Torch torch;

constexpr const char* kDTypeNames[kDTypeCount] = {"float32", "float64", "bfloat16", "float16"};

const char* name_of(DType dtype) { return kDTypeNames[static_cast<int>(dtype)]; }

std::string type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

std::string shape_text(const std::int64_t* sizes, std::int64_t count) {
  std::string text = "[";
  for (std::int64_t i = 0; i < count; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(sizes[i]);
  }
  return text + "]";
}

/// Accepts exactly two types: a subclass may give its memory another meaning.
void require_tensor(py::handle object, const Argument& argument) {
  if (torch.tensor == nullptr ||
      (Py_TYPE(object.ptr()) != torch.tensor && Py_TYPE(object.ptr()) != torch.parameter)) {
    throw_type_error(argument, "a torch.Tensor or a Parameter, not a subclass", type_name(object));
  }
}

dlpack::Tensor read(py::handle object, const Argument& argument) {
  require_tensor(object, argument);
  dlpack::Tensor tensor{};
  if (torch.read(object.ptr(), &tensor) != 0) {
    const std::string reason = py::error_already_set().what();
    throw_value_error(argument, "a dense tensor in memory (call to_dense() of a sparse one)",
                      reason.substr(0, reason.find('\n')));
  }
  return tensor;
}

bool has_type(const dlpack::Tensor& tensor, dlpack::TypeCode code, int bits) {
  return tensor.dtype.lanes == 1 && tensor.dtype.code == code && tensor.dtype.bits == bits;
}

[[noreturn]] void throw_other_type(const dlpack::Tensor& tensor, const Argument& argument,
                                   const char* expected) {
  // By the codes of DLPack's DLDataTypeCode.
  static const char* const kKinds[] = {"int",    "uint",    "float", "opaque",
                                       "bfloat", "complex", "bool"};
  const bool is_known = tensor.dtype.code < std::size(kKinds);
  throw_type_error(argument, expected,
                   (is_known ? kKinds[tensor.dtype.code] : "another kind of numbers of ") +
                       std::to_string(tensor.dtype.bits) + (is_known ? "" : " bits"));
}

DType read_dtype(const dlpack::Tensor& tensor, const Argument& argument) {
  if (has_type(tensor, dlpack::kFloat, 32)) return DType::kFloat32;
  if (has_type(tensor, dlpack::kFloat, 64)) return DType::kFloat64;
  if (has_type(tensor, dlpack::kBfloat, 16)) return DType::kBFloat16;
  if (has_type(tensor, dlpack::kFloat, 16)) return DType::kFloat16;
  throw_other_type(tensor, argument, "of dtype float32, float64, bfloat16 or float16");
}

void require_memory(const dlpack::Tensor& tensor, const Argument& argument) {
  require_device(tensor.device, argument);
  bool has_elements = true;
  for (std::int32_t i = 0; i < tensor.ndim; ++i) has_elements &= tensor.shape[i] != 0;
  if (has_elements && tensor.data == nullptr) {
    throw_value_error(argument, "a tensor with memory",
                      "a tensor without memory (its storage was freed, or it is a meta tensor)");
  }
}

void require_dimensions(const dlpack::Tensor& tensor, const Argument& argument, bool right,
                        const char* expected) {
  if (!right) throw_value_error(argument, expected, shape_text(tensor.shape, tensor.ndim));
}

/// Requires sizes and strides that a kernel can multiply without overflow, and no negative stride.
MatrixView view_of(const dlpack::Tensor& tensor, const Argument& argument, std::int64_t rows,
                   std::int64_t cols, std::int64_t row_stride, std::int64_t col_stride) {
  // The stride of a dimension with at most one entry may be any number: use the contiguous one.
  const bool empty = rows == 0 || cols == 0;
  MatrixView view{static_cast<char*>(tensor.data) + tensor.byte_offset,
                  rows,
                  cols,
                  rows > 1 && !empty ? row_stride : cols,
                  cols > 1 && !empty ? col_stride : 1,
                  read_dtype(tensor, argument)};
  std::int64_t entries = 0, along_rows = 0, along_cols = 0, extent = 0;
  if (view.row_stride < 0 || view.col_stride < 0) {
    throw_value_error(argument, "a tensor with non-negative strides", "a negative stride");
  }
  if (__builtin_mul_overflow(rows, cols, &entries) ||
      __builtin_mul_overflow(rows, view.row_stride, &along_rows) ||
      __builtin_mul_overflow(cols, view.col_stride, &along_cols) ||
      __builtin_add_overflow(along_rows, along_cols, &extent) || entries > (INT64_MAX >> 8) ||
      extent > (INT64_MAX >> 8)) {
    throw_value_error(argument, "a tensor that fits in memory",
                      shape_text(tensor.shape, tensor.ndim));
  }
  if (tensor.data == nullptr) view.data = nullptr;
  return view;
}

/// Reads a tensor of `ndim` dimensions that has memory.
dlpack::Tensor read(py::handle object, const Argument& argument, std::int32_t ndim,
                    const char* expected) {
  const dlpack::Tensor tensor = read(object, argument);
  require_memory(tensor, argument);
  require_dimensions(tensor, argument, tensor.ndim == ndim, expected);
  return tensor;
}

/// Throws if `object` is a negative view, whose numbers in memory have the opposite sign.
void require_not_negative(py::handle object, const Argument& argument) {
  PyObject* const arguments[] = {object.ptr()};
  const auto answer =
      py::reinterpret_steal<py::object>(PyObject_Vectorcall(torch.is_neg, arguments, 1, nullptr));
  if (!answer) throw py::error_already_set();
  if (answer.ptr() == Py_True) {
    throw_value_error(argument, "an ordinary tensor", "a negative view; call resolve_neg() on it");
  }
}

}  // namespace

std::string Argument::text() const {
  std::string text = std::string(op) + ": " + name;
  return index < 0 ? text : text + "[" + std::to_string(index) + "]";
}

void throw_value_error(const Argument& argument, const std::string& expected,
                       const std::string& got) {
  throw py::value_error(argument.text() + " must be " + expected + ", got " + got);
}

void throw_type_error(const Argument& argument, const std::string& expected,
                      const std::string& got) {
  throw py::type_error(argument.text() + " must be " + expected + ", got " + got);
}

void connect() {
  const py::object module = py::module_::import("torch");
  const py::object tensor = module.attr("Tensor");
  const py::object table = py::getattr(tensor, "__dlpack_c_exchange_api__", py::none());
  if (table.is_none() || PyCapsule_IsValid(table.ptr(), "dlpack_exchange_api") == 0) {
    throw py::import_error(
        "this torch has no DLPack exchange API; adalora-core needs torch >= 2.10");
  }
  const auto* header = static_cast<const dlpack::ExchangeHeader*>(
      PyCapsule_GetPointer(table.ptr(), "dlpack_exchange_api"));
  while (header != nullptr && header->version.major != dlpack::kMajorVersion) {
    header = header->previous;
  }
  const auto* api = reinterpret_cast<const dlpack::ExchangeApi*>(header);
  if (api == nullptr || api->dltensor_from_py_object_no_sync == nullptr) {
    throw py::import_error("this torch offers no DLPack 1.x exchange API; adalora-core needs one");
  }
  torch.read = api->dltensor_from_py_object_no_sync;
  torch.current_stream = api->current_work_stream;
  torch.grad = PyUnicode_InternFromString("grad");
  const py::object internals = module.attr("_C");
  torch.count_modes = py::object(internals.attr("_len_torch_function_stack")).release().ptr();
  torch.disable_functions = py::object(internals.attr("DisableTorchFunction")).release().ptr();
  torch.is_neg = py::object(tensor.attr("is_neg")).release().ptr();
  torch.parameter = reinterpret_cast<PyTypeObject*>(
      py::object(module.attr("nn").attr("Parameter")).release().ptr());
  torch.tensor = reinterpret_cast<PyTypeObject*>(py::object(tensor).release().ptr());
}

void* current_stream(const dlpack::Device& device) {
  void* stream = nullptr;
  if (torch.current_stream == nullptr ||
      torch.current_stream(device.type, device.id, &stream) != 0) {
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    throw std::runtime_error("torch has no current stream for device " + std::to_string(device.id));
  }
  return stream;
}

NoTorchFunctions::NoTorchFunctions() {
  if (torch.count_modes == nullptr) return;  // not connected: every tensor is refused
  const auto modes = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(torch.count_modes));
  if (!modes) throw py::error_already_set();
  // Most calls have no mode, and the guard costs more than the question.
  if (PyLong_AsLong(modes.ptr()) == 0) return;
  guard_ = py::reinterpret_borrow<py::object>(torch.disable_functions)();
  guard_.attr("__enter__")();
}

NoTorchFunctions::~NoTorchFunctions() {
  if (guard_) guard_.attr("__exit__")(py::none(), py::none(), py::none());
}

py::object read_gradient(py::handle object, const Argument& argument) {
  require_tensor(object, argument);
  auto gradient = py::reinterpret_steal<py::object>(PyObject_GetAttr(object.ptr(), torch.grad));
  if (!gradient) throw py::error_already_set();
  return gradient;
}

MatrixView read_matrix_of_any_sign(py::handle object, const Argument& argument) {
  const dlpack::Tensor tensor = read(object, argument, 2, "a matrix [rows, columns]");
  return view_of(tensor, argument, tensor.shape[0], tensor.shape[1], tensor.strides[0],
                 tensor.strides[1]);
}

MatrixView read_matrix(py::handle object, const Argument& argument) {
  const MatrixView view = read_matrix_of_any_sign(object, argument);
  require_not_negative(object, argument);
  return view;
}

MatrixView read_contiguous(py::handle object, const Argument& argument) {
  const MatrixView view = read_matrix(object, argument);
  require_contiguous(view, argument);
  return view;
}

MatrixView read_rows(py::handle object, const Argument& argument) {
  const dlpack::Tensor tensor = read(object, argument);
  require_memory(tensor, argument);
  require_dimensions(tensor, argument, tensor.ndim >= 1, "of at least one dimension [..., size]");
  require_not_negative(object, argument);
  const std::int32_t last = tensor.ndim - 1;
  const bool empty = std::count(tensor.shape, tensor.shape + tensor.ndim, 0) > 0;
  std::int64_t rows = 1;
  std::int64_t row_stride = tensor.shape[last];
  for (std::int32_t i = last - 1; i >= 0; --i) {
    const std::int64_t size = tensor.shape[i];
    if (!empty && size != 1 && rows > 1 && tensor.strides[i] != row_stride * rows) {
      throw_value_error(argument, "a tensor whose leading dimensions merge into one",
                        "shape " + shape_text(tensor.shape, tensor.ndim) + " with strides " +
                            shape_text(tensor.strides, tensor.ndim) + "; call contiguous() on it");
    }
    if (size != 1 && rows == 1) row_stride = tensor.strides[i];
    if (__builtin_mul_overflow(rows, size, &rows)) {
      throw_value_error(argument, "a tensor that fits in memory",
                        shape_text(tensor.shape, tensor.ndim));
    }
  }
  return view_of(tensor, argument, rows, tensor.shape[last], row_stride, tensor.strides[last]);
}

MatrixView read_vector(py::handle object, const Argument& argument) {
  const dlpack::Tensor tensor = read(object, argument, 1, "of one dimension [count]");
  require_not_negative(object, argument);
  return view_of(tensor, argument, tensor.shape[0], 1, tensor.strides[0], 1);
}

MatrixView read_scalar(py::handle object, const Argument& argument) {
  const dlpack::Tensor tensor = read(object, argument, 0, "a tensor without dimensions");
  require_not_negative(object, argument);
  return view_of(tensor, argument, 1, 1, 1, 1);
}

MatrixView read_scores(py::handle object, const Argument& argument, std::int64_t count) {
  const MatrixView scores = read_vector(object, argument);
  require_dtype(scores, argument, compute_type(scores.dtype), "or float64");
  require_shape(scores, argument, count, 1, "[sum of ranks, 1]");
  return scores;
}

std::uint8_t* read_mask(py::handle object, const Argument& argument, std::int64_t count) {
  const dlpack::Tensor tensor = read(object, argument);
  if (!has_type(tensor, dlpack::kBool, 8)) throw_other_type(tensor, argument, "of dtype bool");
  require_memory(tensor, argument);
  const std::string expected = "contiguous, one entry per triplet, [" + std::to_string(count) + "]";
  require_dimensions(tensor, argument, tensor.ndim == 1 && tensor.shape[0] == count,
                     expected.c_str());
  if (count > 1 && tensor.strides[0] != 1) {
    throw_value_error(argument, expected, "stride " + std::to_string(tensor.strides[0]));
  }
  return reinterpret_cast<std::uint8_t*>(tensor.data) + (count > 0 ? tensor.byte_offset : 0);
}

std::int64_t* read_int64(py::handle object, const Argument& argument) {
  const dlpack::Tensor tensor = read(object, argument);
  if (!has_type(tensor, dlpack::kInt, 64)) throw_other_type(tensor, argument, "of dtype int64");
  require_memory(tensor, argument);
  require_dimensions(tensor, argument, tensor.ndim == 0, "a tensor without dimensions");
  return reinterpret_cast<std::int64_t*>(static_cast<char*>(tensor.data) + tensor.byte_offset);
}

double read_number(py::handle object, const Argument& argument) {
  if (!PyFloat_Check(object.ptr()) && !PyLong_Check(object.ptr())) {
    throw_type_error(argument, "a number", type_name(object));
  }
  const double value = PyFloat_AsDouble(object.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw_value_error(argument, "a number in the range of a double", "a larger integer");
  }
  return value;
}

std::int64_t read_integer(py::handle object, const Argument& argument) {
  if (!PyLong_Check(object.ptr())) throw_type_error(argument, "an int", type_name(object));
  const long long value = PyLong_AsLongLong(object.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw_value_error(argument, "an int of 64 bits", "a larger one");
  }
  return value;
}

bool read_flag(py::handle object, const Argument& argument) {
  if (!PyBool_Check(object.ptr())) throw_type_error(argument, "True or False", type_name(object));
  return object.ptr() == Py_True;
}

bool is_sequence(py::handle object) {
  return PyList_Check(object.ptr()) || PyTuple_Check(object.ptr());
}

py::tuple read_items(py::handle object, const Argument& argument) {
  if (!is_sequence(object)) {
    throw_type_error(argument, "a list or tuple of tensors", type_name(object));
  }
  auto items = py::reinterpret_steal<py::tuple>(PySequence_Tuple(object.ptr()));
  if (!items) throw py::error_already_set();
  return items;
}

void require_shape(const MatrixView& view, const Argument& argument, std::int64_t rows,
                   std::int64_t cols, const char* meaning) {
  if (view.rows == rows && view.cols == cols) return;
  const std::int64_t wanted[] = {rows, cols}, got[] = {view.rows, view.cols};
  throw_value_error(argument, std::string(meaning) + " = " + shape_text(wanted, 2),
                    shape_text(got, 2));
}

void require_dtype(const MatrixView& view, const Argument& argument, DType dtype,
                   const char* meaning) {
  if (view.dtype == dtype) return;
  throw_type_error(argument, std::string("of dtype ") + name_of(dtype) + ", " + meaning,
                   name_of(view.dtype));
}

void require_like(const MatrixView& view, const Argument& argument, const MatrixView& like,
                  const char* name) {
  if (view.rows == like.rows && view.cols == like.cols && view.dtype == like.dtype) return;
  require_shape(view, argument, like.rows, like.cols,
                ("the shape of " + std::string(name)).c_str());
  require_dtype(view, argument, like.dtype, ("that of " + std::string(name)).c_str());
}

void require_contiguous(const MatrixView& view, const Argument& argument) {
  if (view.rows == 0 || view.cols == 0 || view.contiguous()) return;
  throw_value_error(argument, "contiguous", "a strided tensor; call contiguous() on it");
}

}  // namespace adalora::bindings
