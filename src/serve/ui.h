/* The page of `genarm serve`: the files of ui/, in the program itself. cmake/embed.cmake writes the arrays. */
#ifndef SERVE_UI_H
#define SERVE_UI_H

#include <stddef.h>

#include "serve/http.h"

struct ui_file {
    const char *path; /* as in the URL: "/" (index.html), "/style.css", ... */
    const char *type; /* Content-Type */
    const unsigned char *data;
    size_t n;
    const char *etag; /* quoted; of the content */
};

extern const struct ui_file ui_files[]; /* [n_ui_files] */
extern const size_t n_ui_files;

/* Handler of GET for every path of ui_files. `user` is not looked at. */
void api_ui(struct http_call *call, void *user);

#endif
