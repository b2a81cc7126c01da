/* markup.h - HTML and SVG in memory.  Whatever a row says passes through markup_text; only our own words are added as they are. */
#ifndef RADAR_LAUNCH_REPORT_MARKUP_H
#define RADAR_LAUNCH_REPORT_MARKUP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct markup {
    char *data; /* [used], NULL when empty */
    size_t used, room;
    bool failed; /* no memory, or larger than MARKUP_MOST: what was added later is missing */
} markup;

#define MARKUP_MOST ((size_t)256 << 20) /* bytes */

/* As it is: our own words, numbers. */
void markup_add(markup *m, const char *text);
void markup_append(markup *m, const markup *other);
void markup_format(markup *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text of others, made harmless in HTML and XML, in elements and in quoted attributes: & < > " ' are written as entities; what
 * XML forbids, broken UTF-8 and marks that change the direction of writing become U+FFFD. */
void markup_text(markup *m, const char *text);
void markup_close(markup *m);

#endif
