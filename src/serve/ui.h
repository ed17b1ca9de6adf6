/* The page of `genarm serve`, the files of ui/, and openapi.json, in the program itself. cmake/embed.cmake writes the arrays. */
#ifndef SERVE_UI_H
#define SERVE_UI_H

#include <stddef.h>


struct ui_file {
    const char *path; /* as in the URL: "/" (index.html), "/style.css", ... */
    const char *type; /* Content-Type */
    const unsigned char *data;
    size_t n;
    const char *etag; /* quoted; of the content */
};

extern const struct ui_file ui_files[]; /* [n_ui_files] */
extern const size_t n_ui_files;

#endif
