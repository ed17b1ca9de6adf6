/* See report.h: reads the results and writes all that is made of them. */
#include "eval/report.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "eval/report_page.h"

enum { MAX_FILE = 512 << 20, MAX_PATH = 4096 };

static int path_of(char *path, const char *folder, const char *a, const char *b, struct genarm_error *err) {
    const int n = snprintf(path, MAX_PATH, "%s/%s%s", folder, a, b);
    return n > 0 && n < MAX_PATH ? GENARM_OK : error_set(err, GENARM_EINVAL, "the name of the folder is too long");
}

static int write_under(const char *folder, const char *a, const char *b, const struct buf *text, struct genarm_error *err) {
    char path[MAX_PATH];
    const int rc = path_of(path, folder, a, b, err);
    return rc ? rc : file_write(path, text->data, text->len, err);
}

/* ---- figures ---- */

/* A figure's file of an earlier report: those names are ours. */
static bool is_figure(const char *name) {
    static const char *const kinds[] = {"front-", "judge-", "kl-", "cost-", "time-", "sweep-", "calibration."};
    const char *end = strrchr(name, '.');
    bool ours = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        ours = ours || strncmp(name, kinds[i], strlen(kinds[i])) == 0;
    }
    return ours && end && (strcmp(end, ".svg") == 0 || strcmp(end, ".png") == 0);
}

static bool is_wanted(const struct figures *f, const char *name) {
    const size_t n = strlen(name) - strlen(".svg");
    for (size_t i = 0; i < f->n; i++) {
        if (strlen(f->items[i].name) == n && strncmp(f->items[i].name, name, n) == 0) {
            return true;
        }
    }
    return false;
}

/* What no figure has any more, and all PNGs: they are of the pictures before. */
static void remove_old(const char *folder, const struct figures *f) {
    DIR *dir = opendir(folder);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        const char *end = strrchr(e->d_name, '.');
        if (is_figure(e->d_name) && (strcmp(end, ".png") == 0 || !is_wanted(f, e->d_name))) {
            (void)unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static int write_figures(const char *folder, const struct figures *f, struct genarm_error *err) {
    char path[MAX_PATH];
    int rc = path_of(path, folder, "figures", "", err);
    rc = rc ? rc : file_make_folder(path, err);
    for (size_t i = 0; i < f->n && rc == GENARM_OK; i++) {
        struct buf picture;
        buf_init(&picture, MAX_FILE);
        rc = figure_picture(&picture, &f->items[i], err);
        rc = rc ? rc : write_under(path, f->items[i].name, ".svg", &picture, err);
        buf_deinit(&picture);
    }
    if (rc == GENARM_OK) {
        remove_old(path, f);
    }
    return rc;
}

/* ---- tables and page ---- */

static int write_tables(const char *folder, const struct numbers *n, const struct tables *t, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, MAX_FILE);
    int rc = buf_puts(&text, "# ", err);
    rc = rc ? rc : sheet_markdown_text(&text, n->results->title, err);
    rc = rc ? rc : buf_printf(&text, err, "\n\n%s\n", tables_legend);
    for (size_t i = 0; i < n->n_notes && rc == GENARM_OK; i++) {
        rc = buf_puts(&text, "\nNote: ", err);
        rc = rc ? rc : sheet_markdown_text(&text, n->notes[i], err);
        rc = rc ? rc : buf_puts(&text, "\n", err);
    }
    for (size_t i = 0; i < t->n && rc == GENARM_OK; i++) {
        rc = sheet_markdown(&text, &t->sheets[i], err);
    }
    rc = rc ? rc : write_under(folder, "tables.md", "", &text, err);
    buf_deinit(&text);
    return rc;
}

static int write_page(const char *folder, const struct numbers *n, const struct tables *t, const struct figures *f,
                      struct genarm_error *err) {
    struct buf page;
    buf_init(&page, MAX_FILE);
    int rc = eval_report_page(&page, n, t, f, err);
    rc = rc ? rc : write_under(folder, "report.html", "", &page, err);
    buf_deinit(&page);
    return rc;
}

static int write_all(const char *folder, const struct results *r, struct pool *pool, struct genarm_error *err) {
    struct numbers n;
    struct tables t = {0};
    struct figures f = {0};
    int rc = numbers_make(&n, r, pool, err);
    rc = rc ? rc : tables_make(&t, &n, err);
    rc = rc ? rc : figures_make(&f, &n, err);
    rc = rc ? rc : write_figures(folder, &f, err);
    rc = rc ? rc : write_tables(folder, &n, &t, err);
    rc = rc ? rc : write_page(folder, &n, &t, &f, err);
    figures_deinit(&f);
    return rc;
}

int eval_report_write(const char *folder, struct genarm_error *err) {
    char path[MAX_PATH];
    struct results r;
    struct pool pool = {0};
    int rc = path_of(path, folder, "results.jsonl", "", err);
    rc = rc ? rc : results_read(&r, path, err);
    if (rc == GENARM_OK) {
        rc = write_all(folder, &r, &pool, err);
        pool_deinit(&pool);
        results_deinit(&r);
    }
    return rc;
}
