/* SPDX-License-Identifier: Apache-2.0
 * Owns the look of the output. Results of a run (frozen, best, test, next) go to stdout,
 * every other line to stderr; both are flushed line by line, so that they stay in order
 * where both end up in one file. */
#include "terminal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const double redraw_seconds = 0.1;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool flag(const thaw_options *o, const char *name)
{
    const char *value = thaw_options_get(o, name);
    return value && !strcmp(value, "1");
}

void th_terminal_init(struct th_terminal *t, const thaw_options *o)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    *t = (struct th_terminal){.quiet = flag(o, "quiet"), .json = flag(o, "json")};
    bool terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    t->redraws = terminal && !t->quiet;
    t->colours = terminal && (!no_color || !*no_color); /* no-color.org */
}

void th_terminal_clear(struct th_terminal *t)
{
    if (t->drawn)
        fputs("\r\033[K", stderr);
    t->drawn = false;
}

static bool is_result(const char *topic)
{
    static const char *const results[] = {"frozen", "best", "test", "next"};
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
        if (!strcmp(topic, results[i]))
            return true;
    return false;
}

void th_print_text(FILE *f, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        bool c1 = s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0; /* U+0080 to U+009F */
        bool steers = c1 || s[0] == 0x7f || (s[0] < ' ' && s[0] != '\n');
        putc(steers ? '?' : s[0], f);
        s += c1;
    }
}

static void on_line(void *context, const char *topic, const char *text)
{
    struct th_terminal *t = context;
    bool warning = !strcmp(topic, "warning"), result = is_result(topic);
    if (t->quiet && !warning && !result)
        return;
    th_terminal_clear(t);
    FILE *f = result && !t->json ? stdout : stderr;
    bool colours = t->colours && (f == stderr || isatty(STDOUT_FILENO));
    const char *colour = warning ? "\033[33m" : "\033[36m";
    fprintf(f, "%s%-9s%s ", colours ? colour : "", topic, colours ? "\033[0m" : "");
    th_print_text(f, text);
    putc('\n', f);
    fflush(f);
}

static void format_duration(char text[32], double seconds)
{
    int64_t s = seconds > 0 && seconds < 1e9 ? (int64_t)(seconds + 0.5) : 0;
    if (s < 3600)
        snprintf(text, 32, "%" PRId64 ":%02" PRId64, s / 60, s % 60);
    else
        snprintf(text, 32, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600,
            s / 60 % 60, s % 60);
}

static int columns(void)
{
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20)
        return 80;
    return size.ws_col;
}

static void on_progress(void *context, const thaw_progress *p)
{
    struct th_terminal *t = context;
    if (!t->redraws || (t->drawn && now() - t->drawn_at < redraw_seconds))
        return;
    char line[160], left[32];
    format_duration(left, p->seconds_left);
    int n = snprintf(line, sizeof line,
        "epoch %d/%d  step %" PRId64 "/%" PRId64 "  loss %.4f  %.0f images/s  %s left",
        p->epoch + 1, p->epochs, p->step, p->steps, p->loss, p->images_per_s, left);
    if (n >= columns())
        line[columns() - 1] = 0;
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    t->drawn = true;
    t->drawn_at = now();
}

thaw_events th_terminal_events(struct th_terminal *t)
{
    return (thaw_events){.context = t, .line = on_line, .progress = on_progress};
}

/* Length of the UTF-8 sequence at s (Unicode 15, table 3-7), 0 if malformed. */
static int utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 0;
    if (s[0] >= 0xf0 && s[0] < 0xf5)
        n = 4;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90);
    if (overlong || outside)
        return 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void th_json_string(FILE *f, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', f);
    while (*s) {
        int n = utf8_length(s);
        if (*s < 0x20)
            fprintf(f, "\\u%04x", *s);
        else if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if (n == 0)
            fputs("\\ufffd", f);
        else
            fwrite(s, 1, (size_t)n, f);
        s += n ? n : 1;
    }
    fputc('"', f);
}

void th_json_real(FILE *f, double x)
{
    if (x - x == 0)
        fprintf(f, "%.9g", x);
    else
        fputs("null", f);
}

const char *th_thousands(int64_t n, char text[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRId64, n), to = 0;
    for (int i = 0; i < length; i++) {
        text[to++] = digits[i];
        if ((length - i) % 3 == 1 && i + 1 < length && digits[i] != '-')
            text[to++] = ',';
    }
    text[to] = 0;
    return text;
}
