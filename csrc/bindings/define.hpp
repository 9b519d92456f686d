#pragma once
/// Defines a module, and adds functions of Python objects to it.

#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "bindings/tensor.hpp"

namespace adalora::bindings {

/// Returns whether the main interpreter imports the module; else an ImportError is set.
inline bool is_main_interpreter() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return true;
  PyErr_SetString(PyExc_ImportError,
                  "adalora_core: the compiled core runs in the main interpreter only, like torch, "
                  "and this is a subinterpreter; import it in the main interpreter, or use another "
                  "process");
  return false;
}

namespace detail {

template <class Result, class... Handles>
constexpr std::size_t arity(Result (*)(Handles...)) {
  return sizeof...(Handles);
}

template <class Result, class... Handles, std::size_t... Index>
pybind11::object call(Result (*function)(Handles...), [[maybe_unused]] PyObject* const* arguments,
                      std::index_sequence<Index...>) {
  if constexpr (std::is_void_v<Result>) {
    function(pybind11::handle(arguments[Index])...);
    return pybind11::none();
  } else {
    return pybind11::cast(function(pybind11::handle(arguments[Index])...));
  }
}

/// Sets the Python error that the caught exception stands for, as pybind11 does.
inline void translate() {
  try {
    throw;
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (const pybind11::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}

template <auto Function>
struct Definition {
  static constexpr std::size_t kCount = arity(Function);
  static inline PyMethodDef method{};

  static PyObject* vectorcall(PyObject*, PyObject* const* arguments, Py_ssize_t count,
                              PyObject* names) {
    const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
    if (count != static_cast<Py_ssize_t>(kCount) || named != 0) {
      return PyErr_Format(PyExc_TypeError,
                          "%s: arguments must be %zu, all positional, got %zd and %zd by name",
                          method.ml_name, kCount, count, named);
    }
    try {
      const NoTorchFunctions no_functions;
      return call(Function, arguments, std::make_index_sequence<kCount>()).release().ptr();
    } catch (...) {
      translate();
      return nullptr;
    }
  }
};

}  // namespace detail

/// Adds `Function`, whose parameters are all handles, positional only.
///
/// Without pybind11's dispatcher, which takes longer to call. It also prints the repr of each
/// argument if their number is wrong, and that of a torch tensor whose storage was freed crashes.
template <auto Function>
void define(pybind11::module_& module, const char* name, const char* doc) {
  using Definition = detail::Definition<Function>;
  Definition::method = {
      name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Definition::vectorcall)),
      METH_FASTCALL | METH_KEYWORDS, doc};
  const pybind11::object module_name = module.attr("__name__");
  const auto function = pybind11::reinterpret_steal<pybind11::object>(
      PyCFunction_NewEx(&Definition::method, nullptr, module_name.ptr()));
  if (!function) throw pybind11::error_already_set();
  module.add_object(name, function);
}

}  // namespace adalora::bindings

/// Begins the definition of the module `name`, as PYBIND11_MODULE does.
///
/// Before Python 3.12 pybind11 waits for ever for the lock of the main interpreter if a
/// subinterpreter imports its module, so the interpreter is checked before pybind11 is called.
/// Later versions may call the entry function in the main interpreter, and are checked again.
#define ADALORA_MODULE(name, variable)                                                     \
  static void define_##name(pybind11::module_& variable);                                  \
  extern "C" PYBIND11_EXPORT PyObject* PyInit_##name##_in_main();                          \
  extern "C" PYBIND11_EXPORT PyObject* PyInit_##name() {                                   \
    return adalora::bindings::is_main_interpreter() ? PyInit_##name##_in_main() : nullptr; \
  }                                                                                        \
  PYBIND11_MODULE(name##_in_main, module) {                                                \
    if (!adalora::bindings::is_main_interpreter()) throw pybind11::error_already_set();    \
    define_##name(module);                                                                 \
  }                                                                                        \
  static void define_##name(pybind11::module_& variable)
