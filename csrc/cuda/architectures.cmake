# Settings that must precede the CUDA language.

# Two real architectures that most training runs on, and the newest as portable code, which the driver
# compiles for later ones.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
