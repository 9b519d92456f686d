# The core without Python: what is compiled once, and the kernels, compiled once per instruction set.
# csrc/tests builds the same targets with sanitizers.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(ADALORA_ISAS baseline v3)
  set(ADALORA_FLAGS_v3 -march=x86-64-v3)
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
target_compile_options(adalora_cpu PRIVATE -O3 -Wall -Wextra)
target_link_libraries(adalora_cpu PUBLIC ${CMAKE_DL_LIBS})

foreach(isa IN LISTS ADALORA_ISAS)
  # Rounding like torch: products and sums stay apart.
  add_library(adalora_importance_${isa} OBJECT ${CMAKE_CURRENT_LIST_DIR}/kernels_importance.cpp)
  target_compile_options(adalora_importance_${isa} PRIVATE -ffp-contract=off)
  # Here a fused multiply-add is welcome where the set has one.
  add_library(adalora_product_${isa} OBJECT ${CMAKE_CURRENT_LIST_DIR}/kernels_product.cpp)
  target_compile_options(adalora_product_${isa} PRIVATE -ffp-contract=fast)
  foreach(kernels IN ITEMS importance product)
    set(target adalora_${kernels}_${isa})
    target_include_directories(${target} PRIVATE
      ${CMAKE_CURRENT_LIST_DIR}/../include ${CMAKE_CURRENT_LIST_DIR}/..)
    target_compile_definitions(${target} PRIVATE ADALORA_ISA=${isa})
    # No trap handler and no errno: comparisons may become selects. Values do not change.
    target_compile_options(${target} PRIVATE
      -O3 -Wall -Wextra -fno-trapping-math -fno-math-errno ${ADALORA_FLAGS_${isa}})
    target_sources(adalora_cpu PRIVATE $<TARGET_OBJECTS:${target}>)
  endforeach()
endforeach()
