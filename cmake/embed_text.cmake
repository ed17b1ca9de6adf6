# Writes texts that the program has in itself as C strings: src/reward/chat_prompt.h says what they are.
#
#   cmake -DOUT=judge_texts.c "-DFILES=a/score.txt;a/pairwise.txt" -P embed_text.cmake
set(arrays "")
foreach(file IN LISTS FILES)
    cmake_path(GET file STEM name)
    file(READ "${file}" bytes HEX)
    string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${bytes}")
    string(APPEND arrays "const char judge_text_${name}[] = {\n${bytes}'\\0'\n};\n\n")
endforeach()

# Content goes to a file of its own first: a build that is interrupted leaves none that looks finished.
file(WRITE "${OUT}.tmp" "/* Made by cmake/embed_text.cmake. */
#include \"reward/chat_prompt.h\"

${arrays}")
file(RENAME "${OUT}.tmp" "${OUT}")
