# Source files whose name ends in an instruction set are compiled for it, and only on
# the architecture that has it; the code that calls them asks the processor first.
# Everything else is compiled for the architecture's baseline.
#
#   genarm_select_kernels(VARIABLE)   drops the files of other architectures from the
#                                     list in VARIABLE and sets the flags of the rest

set(GENARM_KERNEL_SUFFIXES avx2 avxvnni avx512 avx512vnni avx512bf16 amx neon dotprod)
set(GENARM_KERNEL_ARCH_neon "aarch64|arm64")
set(GENARM_KERNEL_ARCH_dotprod "${GENARM_KERNEL_ARCH_neon}")

# No more than src/ops/cpu.c asks the processor for: -march=haswell would let in lzcnt and movbe.
set(GENARM_KERNEL_FLAGS_avx2 -mavx2 -mfma -mbmi2 -mf16c -mtune=haswell)
set(GENARM_KERNEL_FLAGS_avxvnni ${GENARM_KERNEL_FLAGS_avx2} -mavxvnni)
set(GENARM_KERNEL_FLAGS_avx512 ${GENARM_KERNEL_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq
    -mavx512vl -mavx512cd -mtune=skylake-avx512 -mprefer-vector-width=512)
set(GENARM_KERNEL_FLAGS_avx512vnni ${GENARM_KERNEL_FLAGS_avx512} -mavx512vnni)
set(GENARM_KERNEL_FLAGS_avx512bf16 ${GENARM_KERNEL_FLAGS_avx512vnni} -mavx512bf16)
set(GENARM_KERNEL_FLAGS_amx
    ${GENARM_KERNEL_FLAGS_avx512bf16} -mamx-tile -mamx-int8 -mamx-bf16)
set(GENARM_KERNEL_FLAGS_neon "")
set(GENARM_KERNEL_FLAGS_dotprod -march=armv8.2-a+dotprod)

function(genarm_select_kernels variable)
    set(kept ${${variable}})
    foreach(suffix IN LISTS GENARM_KERNEL_SUFFIXES)
        set(files ${kept})
        list(FILTER files INCLUDE REGEX "_${suffix}\\.c$")
        set(arch "x86_64|AMD64")
        if(DEFINED GENARM_KERNEL_ARCH_${suffix})
            set(arch "${GENARM_KERNEL_ARCH_${suffix}}")
        endif()
        if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(${arch})$")
            list(REMOVE_ITEM kept ${files})
        elseif(files)
            set_property(SOURCE ${files} APPEND PROPERTY
                COMPILE_OPTIONS ${GENARM_KERNEL_FLAGS_${suffix}})
        endif()
    endforeach()
    set(${variable} ${kept} PARENT_SCOPE)
endfunction()
