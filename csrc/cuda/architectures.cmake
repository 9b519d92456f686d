# Settings that must precede the CUDA language.

# Real code for the GPUs that people train on, as far as the toolkit knows them (CUDA 12.8 and newer know
# all): T4; A100 and, since they run its code, RTX 30 and 40; H100; B200; RTX 50. The newest is there as
# portable code too, which the driver compiles for later GPUs.
set(ADALORA_CUDA_GPUS 75 80 90 100 120)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+" known "${known}")
    foreach(gpu IN LISTS ADALORA_CUDA_GPUS)
      if(gpu IN_LIST known)
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${gpu}-real)
      endif()
    endforeach()
    if(CMAKE_CUDA_ARCHITECTURES)
      list(TRANSFORM CMAKE_CUDA_ARCHITECTURES REPLACE "-real" "" AT -1)
    endif()
  endif()
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
