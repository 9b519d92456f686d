# Decides whether the CUDA kernels are built, before nvcc compiles anything.
#   ADALORA_CUDA=AUTO  if nvcc and an NVIDIA driver are found; a failing nvcc is a warning (the default)
#   ADALORA_CUDA=ON    always; a missing or failing nvcc is an error
#   ADALORA_CUDA=OFF   never; nvcc is not looked for
# The environment variable of the same name is the default of the option.
# Sets ADALORA_CUDA, and adalora_no_cuda: why there will be no kernels, empty if they are built.

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

# What an NVIDIA driver installs: its kernel module, its library (Debian, Red Hat, Jetson, WSL, NixOS, Windows),
# and nvidia-smi in PATH.
if(NOT DEFINED ADALORA_DRIVER_FILES)
  set(ADALORA_DRIVER_FILES
    /proc/driver/nvidia/version
    /usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/libcuda.so.1
    /usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/nvidia/libcuda.so.1
    /usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/tegra/libcuda.so.1
    /usr/lib64/libcuda.so.1
    /usr/lib/libcuda.so.1
    /usr/lib/wsl/lib/libcuda.so.1
    /run/opengl-driver/lib/libcuda.so.1
    "$ENV{SystemRoot}/System32/nvcuda.dll")
endif()

function(adalora_find_driver result)
  find_program(smi nvidia-smi NO_CACHE NO_DEFAULT_PATH PATHS ENV PATH)
  set(found ${smi})
  foreach(file IN LISTS ADALORA_DRIVER_FILES)
    if(EXISTS "${file}")
      set(found ${file})
    endif()
  endforeach()
  set(${result} "${found}" PARENT_SCOPE)
endfunction()

set(adalora_no_cuda "")
if(ADALORA_CUDA STREQUAL OFF)
  set(adalora_no_cuda "ADALORA_CUDA was OFF")
elseif(ADALORA_CUDA STREQUAL AUTO)
  find_program(adalora_nvcc nvcc NO_CACHE)
  adalora_find_driver(adalora_driver)
  if(NOT adalora_nvcc AND NOT CMAKE_CUDA_COMPILER AND "$ENV{CUDACXX}" STREQUAL "")
    set(adalora_no_cuda "no nvcc was found")
  elseif(NOT adalora_driver)
    set(adalora_no_cuda "nvcc was found, but no NVIDIA driver (set ADALORA_CUDA=ON to build them)")
  endif()
endif()
