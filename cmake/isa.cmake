# The instruction sets, and the only place where machine flags appear. Each gets one object library:
# csrc/engine/kernels/isa/kernels.cpp compiled into a namespace that bears its name. An extension of one is another, of
# isa/extension.cpp.

include(CheckCXXSourceCompiles)

# Additions may fuse with multiplications (every peer's library does so); nothing else of -ffast-math is used.
set(FASTRNN_KERNEL_FLAGS -O3 -ffp-contract=fast -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND FASTRNN_KERNEL_FLAGS -Wno-psabi)
endif()

# An object library of kernels under a name of their own; ARGN: compiler flags.
function(fastrnn_add_kernels name source vector_bytes vector_registers)
  set(target fastrnn_isa_${name})
  add_library(${target} OBJECT ${source})
  target_compile_features(${target} PRIVATE cxx_std_17)
  target_include_directories(${target} PRIVATE csrc)
  target_compile_definitions(
    ${target}
    PRIVATE FASTRNN_ISA=${name}
            FASTRNN_VECTOR_BYTES=${vector_bytes}
            FASTRNN_VECTOR_REGISTERS=${vector_registers})
  target_compile_options(${target} PRIVATE ${FASTRNN_KERNEL_FLAGS} ${FASTRNN_WARNINGS} ${ARGN})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
endfunction()

function(fastrnn_add_isa name)
  fastrnn_add_kernels(${name} csrc/engine/kernels/isa/kernels.cpp ${ARGN})
  target_link_libraries(fastrnn_engine PRIVATE fastrnn_isa_${name})
  set(FASTRNN_ISA_${name} ${ARGN} PARENT_SCOPE)
  set(FASTRNN_ISAS ${FASTRNN_ISAS} ${name} PARENT_SCOPE)
endfunction()

# An instruction that some processors with an instruction set have, for one format of weights (isa/dot-formats-inl.h,
# isa/tile-formats-inl.h). It is left out where the compiler does not know the flags or its assembler not the instruction.
function(fastrnn_add_extension isa extension format instruction)
  set(name ${isa}_${extension})
  set(CMAKE_REQUIRED_FLAGS ${FASTRNN_ISA_${isa}} ${ARGN})
  list(REMOVE_AT CMAKE_REQUIRED_FLAGS 0 1) # vectors
  list(JOIN CMAKE_REQUIRED_FLAGS " " CMAKE_REQUIRED_FLAGS)
  check_cxx_source_compiles("int main() { asm(\"${instruction}\"); }" FASTRNN_HAVE_${name})
  if(NOT FASTRNN_HAVE_${name})
    return()
  endif()
  fastrnn_add_kernels(${name} csrc/engine/kernels/isa/extension.cpp ${FASTRNN_ISA_${isa}} ${ARGN})
  target_compile_definitions(fastrnn_isa_${name} PRIVATE FASTRNN_FORMAT=${format})
  target_link_libraries(fastrnn_engine PRIVATE fastrnn_isa_${name})
  target_compile_definitions(fastrnn_engine PRIVATE FASTRNN_HAVE_${name})
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  target_compile_definitions(fastrnn_engine PRIVATE FASTRNN_HAVE_X86)
  fastrnn_add_isa(sse2 16 16)
  fastrnn_add_isa(avx2 32 16 -mavx2 -mfma)
  fastrnn_add_isa(avx512 64 32 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma)
  fastrnn_add_extension(avx2 vnni Int8Dots "{vex} vpdpbusd %ymm0, %ymm0, %ymm0" -mavxvnni)
  fastrnn_add_extension(avx512 vnni Int8Dots "vpdpbusd %zmm0, %zmm0, %zmm0" -mavx512vnni)
  fastrnn_add_extension(avx512 bf16 Bfloat16Dots "vdpbf16ps %zmm0, %zmm0, %zmm0" -mavx512bf16)
  fastrnn_add_extension(avx512 amx_int8 Int8Tiles "tdpbusd %tmm2, %tmm1, %tmm0" -mamx-tile -mamx-int8)
  fastrnn_add_extension(avx512 amx_bf16 Bfloat16Tiles "tdpbf16ps %tmm2, %tmm1, %tmm0" -mamx-tile -mamx-bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  target_compile_definitions(fastrnn_engine PRIVATE FASTRNN_HAVE_NEON)
  fastrnn_add_isa(neon 16 32) # every such processor has it, fused multiplications too
else()
  fastrnn_add_isa(generic 16 32)
endif()
