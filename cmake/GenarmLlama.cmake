# Finds ggml and libllama: those that scripts/deps.sh built into deps/, else the
# installed ones it decided for (GENARM_LLAMA_PREFIX, or anywhere CMake looks).
# Sets nothing; defines the targets llama, ggml::ggml and ggml::ggml-cpu.

set(GENARM_LLAMA_PREFIX "" CACHE PATH "where libllama is installed, instead of deps/")

set(genarm_deps "${CMAKE_CURRENT_LIST_DIR}/../deps")
cmake_path(NORMAL_PATH genarm_deps)

# The interface of libllama changes from release to release: only this one is known to fit.
set(genarm_llama_series 0.5)

# find_library keeps what it found; a rebuilt deps/ may hold another kind of library.
unset(llama_LIBRARY CACHE)

set(genarm_llama_prefix "${GENARM_LLAMA_PREFIX}")
if(NOT genarm_probe AND NOT genarm_llama_prefix AND EXISTS "${genarm_deps}/stamp")
    file(STRINGS "${genarm_deps}/stamp" genarm_stamp LIMIT_COUNT 1)
    if(genarm_stamp MATCHES "^installed: (/.*)$")
        set(genarm_llama_prefix "${CMAKE_MATCH_1}")
    endif()
endif()

if(NOT genarm_probe AND NOT genarm_llama_prefix AND EXISTS "${genarm_deps}/lib/cmake/llama")
    set(genarm_llama_prefix "${genarm_deps}")
endif()

if(genarm_llama_prefix)
    list(PREPEND CMAKE_PREFIX_PATH "${genarm_llama_prefix}")
    find_package(Llama CONFIG REQUIRED PATHS "${genarm_llama_prefix}" NO_DEFAULT_PATH)
else()
    find_package(Llama CONFIG REQUIRED)
endif()

string(REPLACE "." "\\." genarm_series_regex "${genarm_llama_series}")
if(NOT LLAMA_VERSION MATCHES "^${genarm_series_regex}([.-]|$)")
    message(FATAL_ERROR "libllama ${LLAMA_VERSION} found, ${genarm_llama_series} needed: "
        "run scripts/deps.sh with GENARM_LLAMA=build")
endif()
message(STATUS "libllama ${LLAMA_VERSION}: ${llama_LIBRARY}")
