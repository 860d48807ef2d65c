# The instruction sets, and the only place where machine flags appear. Each gets one object library:
# csrc/engine/kernels/isa/kernels.cpp compiled into a namespace that bears its name.

# Additions may fuse with multiplications (every peer's library does so); nothing else of -ffast-math is used.
set(FASTRNN_KERNEL_FLAGS -O3 -ffp-contract=fast -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND FASTRNN_KERNEL_FLAGS -Wno-psabi)
endif()

function(fastrnn_add_isa name vector_bytes vector_registers)
  set(target fastrnn_isa_${name})
  add_library(${target} OBJECT csrc/engine/kernels/isa/kernels.cpp)
  target_compile_features(${target} PRIVATE cxx_std_17)
  target_include_directories(${target} PRIVATE csrc)
  target_compile_definitions(
    ${target}
    PRIVATE FASTRNN_ISA=${name}
            FASTRNN_VECTOR_BYTES=${vector_bytes}
            FASTRNN_VECTOR_REGISTERS=${vector_registers})
  target_compile_options(${target} PRIVATE ${FASTRNN_KERNEL_FLAGS} ${FASTRNN_WARNINGS} ${ARGN})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  target_link_libraries(fastrnn_engine PRIVATE ${target})
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  target_compile_definitions(fastrnn_engine PRIVATE FASTRNN_HAVE_X86)
  fastrnn_add_isa(sse2 16 16)
  fastrnn_add_isa(avx2 32 16 -mavx2 -mfma)
  fastrnn_add_isa(avx512 64 32 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  target_compile_definitions(fastrnn_engine PRIVATE FASTRNN_HAVE_NEON)
  fastrnn_add_isa(neon 16 32) # every such processor has it, fused multiplications too
else()
  fastrnn_add_isa(generic 16 32)
endif()
