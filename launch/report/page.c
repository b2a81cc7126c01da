#include "launch/report/page.h"

#include <string.h>

#include "runtime/radar.h"

static const char page_rules[] =
    ":root{color-scheme:light dark}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;padding:12px;max-width:76rem;font:16px/1.5 system-ui,sans-serif;"
    "color:#1a1a1a;background:#fff;overflow-wrap:anywhere}"
    "h1{font-size:1.5rem;line-height:1.2;margin:.4rem "
    "0}h2{font-size:1.1rem;line-height:1.3;margin:0 0 .3rem}"
    "p{margin:.3rem 0}main{display:grid;gap:2rem 2rem;margin-top:1.5rem;"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,32rem),1fr));align-items:start;grid-"
    "auto-flow:dense}"
    "section{min-width:0}.wide{grid-column:1/-1}svg{display:block;height:auto;max-width:30rem}"
    ".see,.absent{font-size:.875rem;color:#595959}"
    ".scroll{overflow-x:auto;border:1px solid #d9d9d9;max-height:40rem;overflow-y:auto}"
    "table{border-collapse:collapse;font-size:.8125rem;white-space:nowrap}"
    "th,td{padding:.25rem .5rem;text-align:left;border-bottom:1px solid #d9d9d9}"
    "th{position:sticky;top:0;background:#f2f2f2}.n{text-align:right;font-variant-numeric:tabular-"
    "nums}"
    "code{font:.8125rem/1.5 ui-monospace,monospace}.commands{padding-left:1.2rem}"
    "ul{margin:.3rem 0}main>.absent{margin:-1.3rem 0 0}"
    "@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#14171a}"
    ".see,.absent{color:#a8adb3}.scroll,th,td{border-color:#3a4046}th{background:#23282d}}"
    "@media print{.scroll{max-height:none}}";

/* ---- what the page is about ---- */

/* The different values of a text over all rows, in the order they are met. */
static void add_values(markup *m, const eval_rows *rows, const char *what, const char *key) {
    enum { VALUES = 8 };
    const char *seen[VALUES];
    int n = 0;
    bool more = false;
    for (int k = 0; k < ROW_KINDS; k++)
        for (int i = 0; i < rows->of[k].n; i++) {
            const char *text = row_text(&rows->of[k].row[i], key);
            int at = 0;
            if (text == NULL || text[0] == 0) continue;
            while (at < n && strcmp(seen[at], text) != 0) at++;
            more = more || (at == n && n == VALUES);
            if (at < n || n == VALUES) continue;
            seen[n++] = text;
            markup_add(m, n == 1 ? "<p>" : ", ");
            markup_add(m, n == 1 ? what : "");
            markup_text(m, text);
        }
    if (n > 0) markup_add(m, more ? " and others</p>\n" : "</p>\n");
}

static void add_head(markup *m, const eval_rows *rows, const char *folder) {
    markup_add(m, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n<title>radar report: ");
    markup_text(m, folder);
    markup_add(m, "</title>\n<style>\n");
    markup_add(m, page_rules);
    markup_add(m, "\n");
    svg_style(m, false);
    markup_add(m, "\n</style>\n</head>\n<body>\n<header>\n<h1>Radar: what selection costs</h1>\n");
    add_values(m, rows, "Model: ", "model");
    add_values(m, rows, "Text: ", "text");
    markup_format(m, "<p class=\"see\">%d rows", rows_count(rows));
    if (rows->skipped > 0)
        markup_format(m, "; %lld lines were no rows and are left out", (long long)rows->skipped);
    markup_add(m, ". Page by radar " RADAR_VERSION ".</p>\n</header>\n<main>\n");
}

/* ---- one section ---- */

static void add_absent(markup *m, const report_figure *f) {
    markup_add(m, "<p class=\"absent wide\">Not here: ");
    markup_text(m, f->title);
    markup_add(m, ". <code>");
    markup_text(m, f->made_by);
    markup_add(m, "</code> makes it.</p>\n");
}

static void add_section(markup *m, const eval_rows *rows, const report_figure *f) {
    markup body = {0};
    char note[FIGURE_NOTE] = "";
    const double height = f->draw != NULL ? f->draw(&body, rows, note) : 0;
    const bool there = f->draw != NULL ? height > 0 : f->table(&body, rows);
    if (!there)
        add_absent(m, f);
    else {
        markup_add(m, f->draw != NULL ? "<section><h2>" : "<section class=\"wide\"><h2>");
        markup_text(m, f->title);
        markup_add(m, "</h2>\n<p class=\"see\">");
        markup_text(m, f->see);
        markup_add(m, " ");
        markup_text(m, note);
        markup_add(m, "</p>\n");
        if (f->draw != NULL)
            report_picture(m, f, &body, height, note, false);
        else
            markup_append(m, &body);
        markup_add(m, "</section>\n");
    }
    m->failed |= body.failed;
    markup_close(&body);
}

static radar_status checked(const markup *m, radar_error *err) {
    if (!m->failed) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY, "no memory for the report (%zu bytes so far)",
                      m->used);
}

radar_status report_page(markup *m, const eval_rows *rows, const char *folder, radar_error *err) {
    add_head(m, rows, folder);
    for (int i = 0; i < report_figure_count; i++) add_section(m, rows, &report_figure_list[i]);
    markup_add(m, "</main>\n</body>\n</html>\n");
    return checked(m, err);
}

radar_status report_svg(markup *m, const eval_rows *rows, const char *name, radar_error *err) {
    const report_figure *f = report_figure_named(name);
    markup body = {0};
    char note[FIGURE_NOTE] = "";
    const double height = f != NULL ? f->draw(&body, rows, note) : 0;
    if (height > 0) report_picture(m, f, &body, height, note, true);
    m->failed |= body.failed;
    markup_close(&body);
    if (checked(m, err) != RADAR_OK) return err->status;
    if (height > 0) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_NO_INPUT, "--svg %s: no rows for it; make some: %s", name,
                      f != NULL ? f->made_by : "radar eval");
}
