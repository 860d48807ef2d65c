# The engine's own tests, which need neither Python nor torch.

enable_testing()

function(fastrnn_add_test name)
  add_executable(${name} csrc/testing/units/main.cpp ${ARGN})
  target_link_libraries(${name} PRIVATE fastrnn_engine Threads::Threads)
  target_compile_options(${name} PRIVATE ${FASTRNN_WARNINGS})
  add_test(NAME ${name} COMMAND ${name})
endfunction()

fastrnn_add_test(engine_units
  csrc/testing/units/call.cpp
  csrc/testing/units/placing.cpp
  csrc/testing/units/pool.cpp
  csrc/testing/units/team.cpp)
fastrnn_add_test(
  engine_kernels
  csrc/testing/kernels/extensions.cpp
  csrc/testing/kernels/formats.cpp
  csrc/testing/kernels/layers.cpp
  csrc/testing/kernels/operations.cpp
  csrc/testing/kernels/plain.cpp
  csrc/testing/kernels/products.cpp
  csrc/testing/kernels/trapped_tiles.cpp
  csrc/testing/probe.cpp)

# Extensions with their instructions in plain C++, for every instruction set
foreach(isa IN LISTS FASTRNN_ISAS)
  foreach(format Int8Dots Bfloat16Dots Int8Tiles Bfloat16Tiles)
    set(name ${isa}_plain_${format})
    fastrnn_add_kernels(${name} csrc/engine/kernels/isa/extension.cpp ${FASTRNN_ISA_${isa}})
    target_compile_definitions(fastrnn_isa_${name} PRIVATE FASTRNN_FORMAT=${format})
    target_link_libraries(engine_kernels PRIVATE fastrnn_isa_${name})
  endforeach()
endforeach()
list(TRANSFORM FASTRNN_ISAS REPLACE "(.+)" "OF(\\1)" OUTPUT_VARIABLE all)
list(JOIN all " " all)
target_compile_definitions(engine_kernels PRIVATE "FASTRNN_EACH_ISA=${all}")
