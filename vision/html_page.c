/* SPDX-License-Identifier: Apache-2.0
 * Owns what all pages share: head with the policy that lets nothing in, style sheet, names
 * from outside, numbers that do not depend on the locale. */
#include "html.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "img-src "
    "data:; style-src 'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<style>\n";

static const char style_colours[] =
    ":root{--bg:#fff;--fg:#1b1f24;--dim:#57606a;--rule:#d0d7de;--c0:#0550ae;--c1:#"
    "b35900;"
    "--c2:#1a7f37;--c3:#8250df;--hit:9,105,218;--miss:207,34,46}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e6edf3;--dim:#9aa4af;"
    "--rule:#363d46;--c0:#6cb6ff;--c1:#f0a35e;--c2:#57c77a;--c3:#c4a1ff;"
    "--hit:64,130,220;--miss:200,60,60}}\n";

static const char style_rules[] =
    "body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;"
    "max-width:60rem;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px "
    "solid "
    "var(--rule)}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid var(--rule)}"
    "th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid "
    "var(--rule)}caption{text-align:left;color:var(--dim)}\n"
    ".wide{overflow-x:auto}.matrix td{text-align:center;min-width:2.2rem}"
    ".dim{color:var(--dim)}.big{font-size:1.6rem}code{font-family:ui-monospace,"
    "monospace;"
    "font-size:.9em;overflow-wrap:anywhere}\n"
    "figure{margin:1rem 0}figcaption{color:var(--dim)}svg{width:100%;height:auto}"
    "svg text{fill:var(--dim);font-size:11px}.grid{stroke:var(--rule);fill:none}"
    ".mark{stroke:var(--dim);stroke-dasharray:3 3;fill:none}.line{fill:none;"
    "stroke-width:1.8}.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}"
    ".c3{stroke:var(--c3)}\n"
    ".key{display:inline-block;width:1.2em;height:.25em;vertical-align:middle}"
    ".k0{background:var(--c0)}.k1{background:var(--c1)}.k2{background:var(--c2)}"
    ".k3{background:var(--c3)}.km{border-top:2px dashed var(--dim);height:0}\n"
    ".cards{display:flex;flex-wrap:wrap;gap:1rem}.card{width:11rem;font-size:.85rem;"
    "overflow-wrap:anywhere}.card img{display:block;image-rendering:auto;"
    "max-width:100%}\n"
    "@media print{body{max-width:none;margin:0}details{display:block}h2{break-after:"
    "avoid}figure,.card,tr{break-inside:avoid}}\n";

void th_html_begin(struct th_html *h, const char *title)
{
    th_html_put(h, "%s", head);
    th_html_put(h, "%s", style_colours);
    th_html_put(h, "%s", style_rules);
    th_html_put(h, "</style><title>thaw: ");
    th_html_text(h, title);
    th_html_put(h, "</title></head>\n<body><main>\n");
}

void th_html_end(struct th_html *h)
{
    th_html_put(h, "</main></body></html>\n");
}

/* A name from outside, kept from turning the direction of what stands around it. */
void th_html_name(struct th_html *h, const char *name)
{
    th_html_put(h, "<bdi>");
    th_html_text(h, name);
    th_html_put(h, "</bdi>");
}

/* Coordinates need points for decimals: this thread's locale alone, for a moment. */
locale_t th_html_plain(struct th_html *h)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    h->failed = h->failed || !plain;
    return plain ? uselocale(plain) : (locale_t)0;
}

void th_html_restore(locale_t before)
{
    locale_t plain = uselocale(before);
    freelocale(plain);
}
