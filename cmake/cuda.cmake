# The CUDA path, a module of its own: FASTRNN_CUDA says whether (the variable of CMake, else that of the environment).
#   OFF   not (the default, until a GPU has seen it)
#   ON    or fail
#   AUTO  where nvcc is
set(FASTRNN_CUDA_DEFAULT OFF)
if(DEFINED ENV{FASTRNN_CUDA})
  set(FASTRNN_CUDA_DEFAULT "$ENV{FASTRNN_CUDA}")
endif()
set(FASTRNN_CUDA "${FASTRNN_CUDA_DEFAULT}" CACHE STRING "Build the CUDA path: AUTO, ON or OFF")
set_property(CACHE FASTRNN_CUDA PROPERTY STRINGS AUTO ON OFF)

# As CMake's CUDA_ARCHITECTURES: -real is machine code, -virtual PTX, from which a driver makes code for GPUs that come later.
set(FASTRNN_CUDA_ARCHITECTURES_DEFAULT "80-real;90a-real;90-virtual")
if(DEFINED ENV{FASTRNN_CUDA_ARCHITECTURES})
  set(FASTRNN_CUDA_ARCHITECTURES_DEFAULT "$ENV{FASTRNN_CUDA_ARCHITECTURES}")
endif()
set(FASTRNN_CUDA_ARCHITECTURES "${FASTRNN_CUDA_ARCHITECTURES_DEFAULT}" CACHE STRING "GPUs that the CUDA path is compiled for")

string(TOUPPER "${FASTRNN_CUDA}" FASTRNN_CUDA_CHOICE)
if(NOT FASTRNN_CUDA_CHOICE MATCHES "^(AUTO|ON|OFF|1|0|TRUE|FALSE|YES|NO)$")
  message(FATAL_ERROR "FASTRNN_CUDA: expected AUTO, ON or OFF, got ${FASTRNN_CUDA}")
endif()
if(FASTRNN_CUDA_CHOICE STREQUAL "AUTO")
  include(CheckLanguage)
  check_language(CUDA)
  set(FASTRNN_CUDA_CHOICE OFF)
  if(CMAKE_CUDA_COMPILER)
    set(FASTRNN_CUDA_CHOICE ON)
  endif()
endif()
if(NOT FASTRNN_CUDA_CHOICE)
  return()
endif()

string(REPLACE ";" " " FASTRNN_CUDA_ARCHITECTURES_TEXT "${FASTRNN_CUDA_ARCHITECTURES}")
set(CMAKE_CUDA_ARCHITECTURES "${FASTRNN_CUDA_ARCHITECTURES}")
enable_language(CUDA)

set(of_device
    csrc/cuda/nvidia/device.cu
    csrc/cuda/precisions/bfloat16.cu
    csrc/cuda/precisions/float16.cu
    csrc/cuda/precisions/float32.cu
    csrc/cuda/precisions/float64.cu
    csrc/cuda/precisions/tf32.cu)
pybind11_add_module(
  _cuda
  ${of_device}
  csrc/cuda/bindings.cpp
  csrc/cuda/cell_layout.cpp
  csrc/cuda/layer.cpp
  csrc/cuda/torch/bindings.cpp
  csrc/cuda/torch/direct.cpp
  csrc/cuda/torch/operations.cpp
  csrc/cuda/torch/recorded.cpp
  csrc/python/torch/plain_call.cpp
  csrc/python/torch/saved_call.cpp
  csrc/python/torch/tensors.cpp)
target_include_directories(_cuda PRIVATE csrc csrc/cuda/nvidia)
target_compile_features(_cuda PRIVATE cxx_std_17 cuda_std_17)
target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${FASTRNN_WARNINGS}>)
target_compile_definitions(
  _cuda
  PRIVATE FASTRNN_CUDA_MODULE=_cuda FASTRNN_CUDA_ARCHITECTURES="${FASTRNN_CUDA_ARCHITECTURES_TEXT}"
          FASTRNN_CUDA_COMPILER="${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}")
# A sixth of the size; every driver for CUDA 13 can read it.
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>)
endif()
# The headers of the rest take longer than what they are for.
set_source_files_properties(${of_device} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
set_target_properties(
  _cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden UNITY_BUILD ON
                   UNITY_BUILD_BATCH_SIZE 0)

install(TARGETS _cuda LIBRARY DESTINATION fastrnn)
