# Which compilers can build fastrnn. This reads variables alone, so that `cmake -P` can ask it.

if(CMAKE_CXX_COMPILER_ID STREQUAL "MSVC")
  message(FATAL_ERROR "fastrnn's kernels use the vector extensions of GCC and Clang, which MSVC lacks. \
Install clang-cl and say -DCMAKE_CXX_COMPILER=clang-cl.")
endif()
if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 10)
   OR (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14))
  message(FATAL_ERROR "fastrnn needs GCC 10 or later, or Clang 14 or later, got ${CMAKE_CXX_COMPILER_ID} \
${CMAKE_CXX_COMPILER_VERSION}. CXX=... names another compiler.")
endif()
