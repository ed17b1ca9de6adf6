/* See page.h. */
#include "plot/page.h"


#include "plot/plot.h"

void page_put(struct page *p, const char *html) { p->code = p->code ? p->code : buf_puts(p->b, html, p->err); }

void page_text(struct page *p, const char *s) { p->code = p->code ? p->code : plot_escape(p->b, s, p->err); }

void page_lines(struct page *p, const char *s) { p->code = p->code ? p->code : plot_escape_lines(p->b, s, p->err); }

void page_element(struct page *p, const char *open, const char *s, const char *close) {
    page_put(p, open);
    page_text(p, s);
    page_put(p, close);
}

static const char style[] =
    ":root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--ink:#16191d;--soft:#555c66;--edge:#e3e6ea;--mark:#fff4d6}\n"
    "@media (prefers-color-scheme:dark){:root{--page:#0e1114;--card:#171b20;--ink:#f1f4f7;--soft:#a4adb8;--edge:#2f363f;"
    "--mark:#3a3116}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:24px 16px 48px}h1{font-size:26px;line-height:1.2;margin:8px 0 4px;"
    "overflow-wrap:anywhere}h2{font-size:18px;margin:32px 0 12px}\n"
    ".sub{color:var(--soft);margin:0 0 4px;overflow-wrap:anywhere}.note{background:var(--mark);border-radius:8px;"
    "padding:8px 12px;overflow-wrap:anywhere}\n"
    ".tiles{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));margin:20px 0 0;padding:0}\n"
    ".tile,.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:12px 14px;min-width:0}\n"
    ".tile dt{color:var(--soft);font-size:13px}.tile dd{margin:2px 0 0;font-size:22px;font-weight:600;"
    "font-variant-numeric:tabular-nums}.tile dd.was{font-size:13px;font-weight:400;color:var(--soft);margin:0}\n"
    ".charts,.facts{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}\n"
    ".facts{align-items:start;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}\n"
    "figure{margin:0}figure>.plot{display:block;width:100%;height:auto}summary{cursor:pointer;color:var(--soft);"
    "font-size:13px;padding:6px 2px}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13.5px;"
    "font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--edge);vertical-align:top}"
    "tr:last-child>*{border-bottom:0}th{font-weight:500;color:var(--soft)}\n"
    ".facts td{overflow-wrap:anywhere}.facts th{width:45%}.curve td,.curve th{text-align:right}"
    ".curve th:first-child{text-align:left}\n"
    ".runs td,.runs th{min-width:110px;overflow-wrap:anywhere}caption{text-align:left;font-weight:600;font-size:15px;"
    "padding-bottom:6px}\n"
    "h3{font-size:15px;margin:0 0 6px}.key{display:inline-block;width:14px;height:14px;border-radius:4px;"
    "margin-right:6px;vertical-align:-2px}footer{color:var(--soft);font-size:13px;margin-top:32px}\n"
    "@media (max-width:480px){main{padding:16px 10px 32px}figure.card{padding:8px 4px}figure.card>details{padding:0 8px}}\n"
    "@media print{.card,.tile{break-inside:avoid}}\n";

void page_open(struct page *p, const char *title, const char *more_style) {
    page_put(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">\n");
    page_element(p, "<title>", title, "</title>\n<style>\n");
    page_put(p, style);
    page_put(p, more_style ? more_style : "");
    p->code = p->code ? p->code : plot_style(p->b, p->err);
    page_put(p, "</style>\n</head>\n<body>\n<main>\n");
    page_element(p, "<h1>", title, "</h1>\n");
}

void page_close(struct page *p) { page_put(p, "</main>\n</body>\n</html>\n"); }
