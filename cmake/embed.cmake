# Writes files that the server has in itself as C arrays: src/serve/ui.h says what they are.
#
#   cmake -DOUT=ui.c "-DFILES=a/index.html;a/style.css" -P embed.cmake
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")
set(type_json "application/json; charset=utf-8")

set(arrays "")
set(table "")
set(i 0)
foreach(file IN LISTS FILES)
    cmake_path(GET file FILENAME name)
    cmake_path(GET file EXTENSION LAST_ONLY extension)
    string(SUBSTRING "${extension}" 1 -1 extension)
    set(type "${type_${extension}}")
    if(type STREQUAL "")
        message(FATAL_ERROR "${file}: no content type is known for .${extension}")
    endif()
    if(name STREQUAL "index.html")
        set(name "")
    endif()
    file(SHA256 "${file}" digest)
    string(SUBSTRING "${digest}" 0 32 digest)
    file(READ "${file}" bytes HEX)
    string(LENGTH "${bytes}" n)
    math(EXPR n "${n} / 2")
    if(n EQUAL 0)
        message(FATAL_ERROR "${file}: empty")
    endif()
    string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND arrays "static const unsigned char file_${i}[] = {\n${bytes}\n};\n\n")
    string(APPEND table "    {\"/${name}\", \"${type}\", file_${i}, ${n}, \"\\\"${digest}\\\"\"},\n")
    math(EXPR i "${i} + 1")
endforeach()

# Content goes to a file of its own first: a build that is interrupted leaves none that looks finished.
file(WRITE "${OUT}.tmp" "/* Made by cmake/embed.cmake. */
#include \"serve/ui.h\"

${arrays}const struct ui_file ui_files[] = {
${table}};
const size_t n_ui_files = ${i};
")
file(RENAME "${OUT}.tmp" "${OUT}")
