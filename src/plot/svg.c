/* What is common to all charts: text made harmless, and the style sheet. */
#include "base/utf8.h"
#include "plot/plot.h"

/* Eight colours that stay apart for people who see few, on light and on dark paper. */
static const char *const light[PLOT_COLORS] = {"#1f6feb", "#d9480f", "#0b8a6a", "#9333b8",
                                               "#a37200", "#c2255c", "#4b5fd0", "#5b6470"};
static const char *const dark[PLOT_COLORS] = {"#6cb2ff", "#ff9a62", "#45d0a8", "#d796f0",
                                              "#e3bd4a", "#ff8fb3", "#a3b0ff", "#c3cad3"};

static int escape(struct buf *b, const char *text, bool lines, struct genarm_error *err) {
    size_t left = 0;
    while (text[left]) {
        left++;
    }
    int rc = buf_append(b, "", 0, err);
    while (left > 0 && rc == GENARM_OK) {
        const size_t n = utf8_char(text, left), step = n ? n : 1;
        const unsigned char c = (unsigned char)*text;
        const char *entity = !n                        ? "\xEF\xBF\xBD"
                             : c == '<'                ? "&lt;"
                             : c == '>'                ? "&gt;"
                             : c == '&'                ? "&amp;"
                             : c == '"'                ? "&quot;"
                             : c == '\''               ? "&#39;"
                             : c == '\n' && lines      ? "\n"
                             : c < 0x20 || c == 0x7F   ? " "
                                                       : NULL;
        rc = entity ? buf_puts(b, entity, err) : buf_append(b, text, step, err);
        text += step;
        left -= step;
    }
    return rc;
}

int plot_escape(struct buf *b, const char *text, struct genarm_error *err) { return escape(b, text, false, err); }

int plot_escape_lines(struct buf *b, const char *text, struct genarm_error *err) { return escape(b, text, true, err); }

static int colors(struct buf *b, const char *const palette[PLOT_COLORS], struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int i = 0; i < PLOT_COLORS && rc == GENARM_OK; i++) {
        rc = buf_printf(b, err, ".plot .s%d{stroke:%s}.plot .f%d{fill:%s}\n", i, palette[i], i, palette[i]);
    }
    return rc;
}

int plot_style(struct buf *b, struct genarm_error *err) {
    int rc = buf_puts(b,
                      ".plot text{font:13px system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif;fill:#555c66}\n"
                      ".plot .head{font-size:16px;font-weight:600;fill:#16191d}.plot .name{fill:#2b3036}\n"
                      ".plot .grid{stroke:#e3e6ea;stroke-width:1}.plot .mark{stroke:#8a929c;stroke-dasharray:2 4}\n"
                      ".plot .paper{fill:#fff}.plot path{fill:none;stroke-linejoin:round;stroke-linecap:round}\n"
                      ".plot .line{stroke-width:2.4}.plot .faint{stroke-width:1;opacity:.3}\n"
                      ".plot .whisker{stroke-width:1.4}.plot .dot{stroke:#fff;stroke-width:1.2}\n"
                      ".plot .at{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\n"
                      ".plot .inside{fill:#fff;font-weight:600}\n",
                      err);
    if (rc == GENARM_OK) {
        rc = colors(b, light, err);
    }
    if (rc == GENARM_OK) {
        rc = buf_puts(b,
                      "@media (prefers-color-scheme:dark){\n"
                      ".plot text{fill:#a4adb8}.plot .head{fill:#f1f4f7}.plot .name{fill:#d8dee5}\n"
                      ".plot .grid{stroke:#2f363f}.plot .mark{stroke:#7b8590}.plot .paper{fill:#171b20}\n"
                      ".plot .dot,.plot .at{stroke:#171b20}.plot .inside{fill:#0e1114}\n",
                      err);
    }
    if (rc == GENARM_OK) {
        rc = colors(b, dark, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "}\n", err) : rc;
}
