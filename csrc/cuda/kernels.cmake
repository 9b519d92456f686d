# The CUDA kernels, by name, and their library. tests/csrc compiles the same files as plain C++ too.

set(ADALORA_CUDA_KERNELS
  ${CMAKE_CURRENT_LIST_DIR}/importance.cu
  ${CMAKE_CURRENT_LIST_DIR}/orthogonality.cu
  ${CMAKE_CURRENT_LIST_DIR}/selection.cu
  ${CMAKE_CURRENT_LIST_DIR}/svd_linear.cu)
set(ADALORA_CUDA_HOST ${CMAKE_CURRENT_LIST_DIR}/current_device.cpp)
set(ADALORA_CUDA_SOURCES ${ADALORA_CUDA_KERNELS} ${ADALORA_CUDA_HOST} ${CMAKE_CURRENT_LIST_DIR}/driver.cpp)
set(ADALORA_CUDA_INCLUDES ${CMAKE_CURRENT_LIST_DIR}/../include ${CMAKE_CURRENT_LIST_DIR}/..)

# Adds the library adalora_cuda; the CUDA language is enabled.
function(adalora_add_cuda_library)
  set(ADALORA_CUDA_FLAGS "" CACHE STRING "Further options for nvcc, for example -Xptxas=-v")
  separate_arguments(flags NATIVE_COMMAND "${ADALORA_CUDA_FLAGS}")
  list(JOIN CMAKE_CUDA_ARCHITECTURES ", " architectures)
  add_library(adalora_cuda STATIC ${ADALORA_CUDA_SOURCES})
  target_include_directories(adalora_cuda PUBLIC ${ADALORA_CUDA_INCLUDES})
  target_include_directories(adalora_cuda SYSTEM PUBLIC ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_compile_definitions(adalora_cuda PUBLIC ADALORA_CUDA_ARCHITECTURES="${architectures}")
  target_compile_options(adalora_cuda PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-O3;-Xcompiler=-Wall,-Wextra;${flags}>" $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra>)
  # Rounding like torch: products and sums stay apart, as on the CPU.
  set(importance ${ADALORA_CUDA_KERNELS})
  list(FILTER importance INCLUDE REGEX "/importance[.]cu$")
  set_source_files_properties(${importance} PROPERTIES COMPILE_OPTIONS --fmad=false)
  set_target_properties(adalora_cuda PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
endfunction()
