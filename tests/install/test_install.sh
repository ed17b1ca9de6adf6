#!/usr/bin/env bash
# An installed genarm serves a C program of ten lines, found by pkg-config and by
# find_package, also after the installation was moved; it shows its own names only.
#
#   test_install.sh BUILD CC
set -euo pipefail

build=$1 cc=$2
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/genarm install.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
# Runs a consumer on the installed model.
expect_model() { "$@" "$model" | grep -qx 'architecture llama, 49152 tokens' || fail "$*"; }

# CMake notes what it installs in the build folder; what is noted of another installation stays.
manifest=$build/install_manifest.txt
if [ -e "$manifest" ]; then
    mv "$manifest" "$work/manifest"
    trap 'mv -f "$work/manifest" "$manifest"; rm -rf "$work"' EXIT
else
    trap 'rm -rf "$manifest" "$work"' EXIT
fi
# There are no scripts beside this Makefile: what was built for the prefix is installed as it is, other things are built first.
mkdir "$work/checkout" "$work/checkout/built"
cp "$source/../../Makefile" "$work/checkout"
ln -s "$build/cmake_install.cmake" "$work/checkout/built"
echo "-DCMAKE_INSTALL_PREFIX=/opt/genarm" >"$work/checkout/built/configured"
install_to() { env -u MAKEFLAGS make -C "$work/checkout" "$@" BUILD=built DESTDIR="$work/stage" install; }
install_to PREFIX=/opt/genarm >/dev/null || fail "make install of what was built"
install_to -n PREFIX=/opt/other 2>&1 | grep scripts/deps.sh >/dev/null || fail "make install does not build what it needs"
prefix="$work/moved here"
mv "$work/stage/opt/genarm" "$prefix"
libdir=$(dirname "$(find "$prefix" -name libgenarm.so)")
model="$prefix/share/genarm/SmolLM2-135M-Instruct-Q4_1.gguf"

export PKG_CONFIG_PATH="$libdir/pkgconfig"
eval "flags=($(pkg-config --cflags --libs genarm))"
"$cc" -std=c17 -Wall -Wextra -Werror "$source/consumer.c" "${flags[@]}" -o "$work/by-pkg-config"
LD_LIBRARY_PATH="$libdir" expect_model "$work/by-pkg-config"

# The example guides as the program does.
"$cc" -std=c17 -Wall -Wextra -Werror "$prefix/share/genarm/examples/guide.c" "${flags[@]}" -o "$work/guide"
"$build/tests/write_adapter" "$model" "$work/arm.gguf" 1
for arm in "" "$work/arm.gguf"; do
    LD_LIBRARY_PATH="$libdir" "$work/guide" "$model" "Name three birds." ${arm:+"$arm" 0.5} >"$work/answer" || fail "guide.c"
    "$prefix/bin/genarm" generate -m "$model" -p "Name three birds." --temp 0 -n 256 ${arm:+--arm "$arm:0.5"} \
        2>/dev/null >"$work/same"
    cmp "$work/answer" "$work/same" || fail "guide.c does not say what genarm generate says"
done

cmake -S "$source" -B "$work/by-cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
    >"$work/log" 2>&1 && cmake --build "$work/by-cmake" >>"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "find_package"; }
expect_model "$work/by-cmake/consumer"

# genarm.pc finds folders that were given as absolute paths too.
cmake -S "$source/../.." -B "$work/absolute" -DCMAKE_C_COMPILER="$cc" -DBUILD_TESTING=OFF -DCMAKE_INSTALL_PREFIX=/opt/genarm \
    -DCMAKE_INSTALL_LIBDIR=/opt/genarm/lib64 -DCMAKE_INSTALL_INCLUDEDIR=/opt/genarm/headers >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "absolute folders"; }
mkdir -p "$work/absolute/moved/lib64/pkgconfig"
cp "$work/absolute/genarm.pc" "$work/absolute/moved/lib64/pkgconfig"
for folder in libdir=lib64 includedir=headers; do
    found=$(PKG_CONFIG_PATH="$work/absolute/moved/lib64/pkgconfig" pkg-config --variable="${folder%=*}" genarm)
    [ "$(realpath -m "${found//\\/}")" = "$work/absolute/moved/${folder#*=}" ] || fail "genarm.pc: $folder is $found"
done

# Every header compiles by itself.
for header in "$prefix"/include/genarm/*.h; do
    echo "#include <genarm/$(basename "$header")>" |
        "$cc" -std=c17 -Wall -Wextra -Wstrict-prototypes -Werror -fsyntax-only \
            -I"$prefix/include" -x c - || fail "$header does not compile by itself"
done

foreign=$(nm -D --defined-only "$libdir/libgenarm.so" | awk '$3 !~ /^genarm_/ && $2 != "A"')
[ -z "$foreign" ] || fail "names shown that are not genarm's: $foreign"

examples=$prefix/share/genarm/examples
for file in guide.c nginx.conf genarm.default genarm.service; do
    [ -s "$examples/$file" ] || fail "no example $file"
done
# What the program's texts name as docs/NAME.md is there.
named=$("$prefix/bin/genarm" --man | grep -o 'docs/[a-z-]*\.md' | sort -u)
[ -n "$named" ] || fail "no text names a page"
for page in README.md $named; do
    [ -s "$prefix/share/doc/genarm/$page" ] || fail "no page $page"
done
! grep -q @CMAKE "$examples/genarm.service" || fail "the unit is not filled in"
if command -v systemd-analyze >/dev/null; then
    mkdir "$work/unit"
    sed 's#^ExecStart=.*/genarm serve#ExecStart=/bin/true serve#' "$examples/genarm.service" >"$work/unit/genarm.service"
    systemd-analyze verify --man=no "$work/unit/genarm.service" 2>"$work/log" && [ ! -s "$work/log" ] ||
        { cat "$work/log" >&2; fail "the unit is not as systemd wants it"; }
fi

"$prefix/bin/genarm" info -m "$model" >/dev/null || fail "the installed program does not run"
echo "1 passed, 0 failed"
