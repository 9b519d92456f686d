#pragma once
/// Defines a module, and adds functions of Python objects to it.

#include <pybind11/pybind11.h>

#include <string>
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

template <class Result, class... Handles, std::size_t... Index>
Result call(Result (*function)(Handles...), [[maybe_unused]] const pybind11::args& arguments,
            std::index_sequence<Index...>) {
  return function(pybind11::handle(PyTuple_GET_ITEM(arguments.ptr(), Index))...);
}

template <class Result, class... Handles>
constexpr std::size_t arity(Result (*)(Handles...)) {
  return sizeof...(Handles);
}

}  // namespace detail

/// Adds `Function`, whose parameters are all handles, positional only.
///
/// On a wrong number of arguments pybind11 prints the repr of each, and the repr of a torch tensor
/// whose storage was freed crashes. The arguments are therefore counted here.
template <auto Function>
void define(pybind11::module_& module, const char* name, const char* doc) {
  constexpr std::size_t kCount = detail::arity(Function);
  const std::string expected = std::string(name) + ": arguments must be " + std::to_string(kCount) +
                               ", all positional, got ";
  module.def(
      name,
      [expected](const pybind11::args& arguments, const pybind11::kwargs& named) {
        if (arguments.size() != kCount || named.size() != 0) {
          throw pybind11::type_error(expected + std::to_string(arguments.size()) + " and " +
                                     std::to_string(named.size()) + " by name");
        }
        const NoTorchFunctions no_functions;
        return detail::call(Function, arguments, std::make_index_sequence<kCount>());
      },
      doc);
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
