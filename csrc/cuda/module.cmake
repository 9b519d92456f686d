# The extension module _cuda, if decision.cmake is for it and the CUDA compiler works.

# Reports why there are no kernels: here, in the last line of the build, and to `adalora env`.
function(adalora_report_no_cuda reason)
  target_compile_definitions(_cpu PRIVATE "ADALORA_NO_CUDA_REASON=\"${reason}\"")
  if(NOT ADALORA_CUDA STREQUAL OFF)
    message(STATUS "adalora-core: no CUDA kernels: ${reason}")
    install(CODE "message(STATUS \"adalora-core: no CUDA kernels: ${reason}\")")
  endif()
endfunction()

include(${CMAKE_CURRENT_LIST_DIR}/decision.cmake)
if(adalora_no_cuda)
  adalora_report_no_cuda("${adalora_no_cuda}")
  return()
endif()

# Detects a compiler that cannot compile before anything depends on it.
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(ADALORA_CUDA STREQUAL ON)
    message(FATAL_ERROR
      "adalora-core: ADALORA_CUDA=ON, but no working CUDA compiler was found. Put nvcc into PATH, or name it in "
      "CUDACXX; ADALORA_CUDA=AUTO builds without CUDA kernels where there is none.")
  endif()
  message(WARNING
    "adalora-core: the CUDA compiler (${adalora_nvcc} $ENV{CUDACXX}) does not work here; building without "
    "CUDA kernels. CUDA tensors use the portable backend. ADALORA_CUDA=OFF silences this.")
  adalora_report_no_cuda("nvcc did not work")
  return()
endif()
include(${CMAKE_CURRENT_LIST_DIR}/architectures.cmake)
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  set(adalora_too_old "adalora-core: the CUDA kernels are C++20, which nvcc compiles from 12.0 on; this one is "
    "${CMAKE_CUDA_COMPILER_VERSION}.")
  if(ADALORA_CUDA STREQUAL ON)
    message(FATAL_ERROR ${adalora_too_old})
  endif()
  message(WARNING ${adalora_too_old} " Building without them.")
  adalora_report_no_cuda("nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.0")
  return()
endif()
target_compile_definitions(_cpu PRIVATE ADALORA_NO_CUDA_REASON="")

set(ADALORA_SECONDS_OF_A_GPU 25)
list(LENGTH CMAKE_CUDA_ARCHITECTURES adalora_gpus)
math(EXPR adalora_seconds "${adalora_gpus} * ${ADALORA_SECONDS_OF_A_GPU}")
message(STATUS "adalora-core: CUDA kernels for ${adalora_gpus} GPU architectures take about "
  "${adalora_seconds} s of one core; ADALORA_CUDA=OFF builds without them")

include(${CMAKE_CURRENT_LIST_DIR}/kernels.cmake)
adalora_add_cuda_library()

set(adalora_bindings ${CMAKE_CURRENT_LIST_DIR}/../bindings)
pybind11_add_module(_cuda MODULE NO_EXTRAS
  ${adalora_bindings}/cuda/bind_importance.cpp
  ${adalora_bindings}/cuda/bind_orthogonality.cpp
  ${adalora_bindings}/cuda/bind_selection.cpp
  ${adalora_bindings}/cuda/bind_svd_linear.cpp
  ${adalora_bindings}/cuda/call.cpp
  ${adalora_bindings}/cuda/module.cpp
  ${adalora_bindings}/importance_arguments.cpp
  ${adalora_bindings}/overlap.cpp
  ${adalora_bindings}/selection_arguments.cpp
  ${adalora_bindings}/svd_linear_arguments.cpp
  ${adalora_bindings}/tensor.cpp)
# As in _cpu.
set_target_properties(_cuda PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 5)
target_link_libraries(_cuda PRIVATE adalora_cuda)
target_compile_definitions(_cuda PRIVATE ADALORA_VERSION="${SKBUILD_PROJECT_VERSION_FULL}")
target_compile_options(_cuda PRIVATE -Wall -Wextra)
install(TARGETS _cuda LIBRARY DESTINATION adalora_core)
