# What Python imports: the extension, and the tests' module of the engine's insides.

set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 CONFIG REQUIRED)

# pybind11's headers are most of the work of each file that includes them. All files as one translation unit take a third
# of the time, and the compiler sees as much as it would at an optimization across files when they are linked, which costs
# as long again. Builds for development keep them apart, so that each includes what it needs and is compiled by itself.
if(NOT DEFINED CMAKE_INTERPROCEDURAL_OPTIMIZATION)
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)
endif()
pybind11_add_module(
  _core
  csrc/python/bindings.cpp
  csrc/python/calls.cpp
  csrc/python/frozen.cpp
  csrc/python/plans.cpp
  csrc/python/scratch.cpp
  csrc/python/torch/centred.cpp
  csrc/python/torch/direct.cpp
  csrc/python/torch/drawn.cpp
  csrc/python/torch/openmp.cpp
  csrc/python/torch/plain_call.cpp
  csrc/python/torch/recorded.cpp
  csrc/python/torch/saved_call.cpp
  csrc/python/torch/sums.cpp
  csrc/python/torch/tensors.cpp)
if(NOT FASTRNN_TESTING)
  set_target_properties(_core PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
endif()
target_link_libraries(_core PRIVATE fastrnn_engine ${CMAKE_DL_LIBS})
target_compile_options(_core PRIVATE ${FASTRNN_WARNINGS})
target_compile_definitions(
  _core PRIVATE FASTRNN_COMPILER="${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")

# What only tests need; the tests build it by themselves as well.
if(FASTRNN_TESTING)
  pybind11_add_module(_testing csrc/testing/bindings.cpp csrc/testing/probe.cpp)
  target_include_directories(_testing PRIVATE csrc)
  target_compile_features(_testing PRIVATE cxx_std_17)
  target_compile_options(_testing PRIVATE ${FASTRNN_WARNINGS})
endif()

install(TARGETS _core LIBRARY DESTINATION fastrnn)
