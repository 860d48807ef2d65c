# The engine's own tests, which need neither Python nor torch.

enable_testing()

function(fastrnn_add_test name)
  add_executable(${name} csrc/testing/units/main.cpp ${ARGN})
  target_link_libraries(${name} PRIVATE fastrnn_engine Threads::Threads)
  target_compile_options(${name} PRIVATE ${FASTRNN_WARNINGS})
  add_test(NAME ${name} COMMAND ${name})
endfunction()

fastrnn_add_test(engine_units csrc/testing/units/call.cpp csrc/testing/units/pool.cpp csrc/testing/units/team.cpp)
fastrnn_add_test(
  engine_kernels
  csrc/testing/kernels/formats.cpp
  csrc/testing/kernels/layers.cpp
  csrc/testing/kernels/operations.cpp
  csrc/testing/kernels/plain.cpp
  csrc/testing/kernels/products.cpp
  csrc/testing/probe.cpp)
