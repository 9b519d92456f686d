# The CUDA kernels, by name. The extension module compiles them with nvcc, tests/csrc as C++ too.

set(ADALORA_CUDA_KERNELS
  ${CMAKE_CURRENT_LIST_DIR}/importance.cu
  ${CMAKE_CURRENT_LIST_DIR}/orthogonality.cu
  ${CMAKE_CURRENT_LIST_DIR}/selection.cu
  ${CMAKE_CURRENT_LIST_DIR}/svd_linear.cu)
