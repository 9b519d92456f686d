#pragma once
/// Adds functions of Python objects to the module.

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "bindings/tensor.hpp"

namespace adalora::bindings {

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
