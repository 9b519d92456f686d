# The extension module _cuda, where a CUDA compiler is found and works.
#   ADALORA_CUDA=AUTO  a missing nvcc is accepted, a failing one is a warning (the default)
#   ADALORA_CUDA=ON    either is an error
#   ADALORA_CUDA=OFF   nvcc is not looked for
# The environment variable of the same name is the default of the option.

set(adalora_cuda_default AUTO)
if(DEFINED ENV{ADALORA_CUDA} AND NOT "$ENV{ADALORA_CUDA}" STREQUAL "")
  set(adalora_cuda_default $ENV{ADALORA_CUDA})
endif()
# Not in the cache: a build folder that is used again follows the environment of each build.
if(NOT DEFINED ADALORA_CUDA)
  set(ADALORA_CUDA ${adalora_cuda_default})
endif()
set(adalora_cuda_given ${ADALORA_CUDA})
string(TOUPPER "${ADALORA_CUDA}" ADALORA_CUDA)
if(NOT ADALORA_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "adalora-core: ADALORA_CUDA must be AUTO, ON or OFF, got '${adalora_cuda_given}'.")
endif()
if(ADALORA_CUDA STREQUAL OFF)
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
  find_program(adalora_nvcc nvcc NO_CACHE)
  if(adalora_nvcc OR NOT "$ENV{CUDACXX}" STREQUAL "")
    message(WARNING
      "adalora-core: the CUDA compiler (${adalora_nvcc} $ENV{CUDACXX}) does not work here; building without "
      "CUDA kernels. CUDA tensors will use the reference in torch. ADALORA_CUDA=OFF silences this.")
  else()
    message(STATUS "adalora-core: no CUDA compiler; building without CUDA kernels")
  endif()
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
  return()
endif()

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
target_link_libraries(_cuda PRIVATE adalora_cuda)
target_compile_definitions(_cuda PRIVATE ADALORA_VERSION="${SKBUILD_PROJECT_VERSION_FULL}")
target_compile_options(_cuda PRIVATE -Wall -Wextra)
install(TARGETS _cuda LIBRARY DESTINATION adalora_core)
