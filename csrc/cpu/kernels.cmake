# The core without Python: what is compiled once, and the kernels, compiled once per instruction set.
# tests/csrc builds the same targets with sanitizers.

include(CheckCXXCompilerFlag)

set(ADALORA_OPTIMIZE -O3 CACHE STRING "Level of optimisation of the core; sanitizers set a lower one")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(ADALORA_ISAS baseline v3)
  set(ADALORA_FLAGS_v3 -march=x86-64-v3)
  # A loop of a kernel runs long enough to pay for the widest vectors.
  set(ADALORA_FLAGS_v4 -march=x86-64-v4 -mprefer-vector-width=512)
  set(ADALORA_FLAGS_v4_bf16 ${ADALORA_FLAGS_v4} -mavx512bf16)
  # Compilers older than these sets build the core without them.
  foreach(isa IN ITEMS v4 v4_bf16)
    string(REPLACE ";" " " flags "${ADALORA_FLAGS_${isa}}")
    check_cxx_compiler_flag("${flags}" ADALORA_COMPILES_${isa})
    if(ADALORA_COMPILES_${isa})
      list(APPEND ADALORA_ISAS ${isa})
    endif()
  endforeach()
else()
  set(ADALORA_ISAS generic)
endif()

add_library(adalora_cpu STATIC
  ${CMAKE_CURRENT_LIST_DIR}/importance.cpp
  ${CMAKE_CURRENT_LIST_DIR}/isa.cpp
  ${CMAKE_CURRENT_LIST_DIR}/orthogonality.cpp
  ${CMAKE_CURRENT_LIST_DIR}/parallel.cpp
  ${CMAKE_CURRENT_LIST_DIR}/selection.cpp
  ${CMAKE_CURRENT_LIST_DIR}/svd_linear.cpp)
target_include_directories(adalora_cpu PUBLIC
  ${CMAKE_CURRENT_LIST_DIR}/../include ${CMAKE_CURRENT_LIST_DIR}/..)
target_compile_options(adalora_cpu PRIVATE ${ADALORA_OPTIMIZE} -Wall -Wextra)
target_link_libraries(adalora_cpu PUBLIC ${CMAKE_DL_LIBS})

foreach(isa IN LISTS ADALORA_ISAS)
  target_compile_definitions(adalora_cpu PRIVATE ADALORA_HAS_${isa})
  foreach(source IN ITEMS kernels_bfloat16.cpp kernels_importance.cpp kernels_product.cpp)
    get_filename_component(kernels ${source} NAME_WE)
    set(target adalora_${kernels}_${isa})
    add_library(${target} OBJECT ${CMAKE_CURRENT_LIST_DIR}/${source})
    target_include_directories(${target} PRIVATE
      ${CMAKE_CURRENT_LIST_DIR}/../include ${CMAKE_CURRENT_LIST_DIR}/..)
    target_compile_definitions(${target} PRIVATE ADALORA_ISA=${isa})
    if(kernels STREQUAL kernels_importance)
      # Rounding like torch: products and sums stay apart.
      target_compile_options(${target} PRIVATE -ffp-contract=off)
    else()
      # Here a fused multiply-add is welcome where the set has one.
      target_compile_options(${target} PRIVATE -ffp-contract=fast)
    endif()
    # No trap handler and no errno: comparisons may become selects. Values do not change.
    target_compile_options(${target} PRIVATE ${ADALORA_OPTIMIZE}
      -Wall -Wextra -fno-trapping-math -fno-math-errno ${ADALORA_FLAGS_${isa}})
    target_sources(adalora_cpu PRIVATE $<TARGET_OBJECTS:${target}>)
  endforeach()
endforeach()
