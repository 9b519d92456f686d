#pragma once
/// The functions that add the ops to the module, one per bind_<op>.cpp.

#include <pybind11/pybind11.h>

namespace adalora::bindings {

void bind_importance(pybind11::module_& module);
void bind_orthogonality(pybind11::module_& module);
void bind_selection(pybind11::module_& module);
void bind_svd_linear(pybind11::module_& module);

}  // namespace adalora::bindings
