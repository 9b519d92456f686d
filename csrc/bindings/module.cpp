#include <pybind11/pybind11.h>

PYBIND11_MODULE(_cpu, module) { module.attr("__version__") = ADALORA_VERSION; }
