/* SPDX-License-Identifier: Apache-2.0
 * Owns the walk over folders. Safe against loops of links and bottomless trees; follows
 * no name that starts with a dot. Reads no file. */
#include "files.h"

#include "error.h"
#include "image.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 32 };

thaw_status th_names_add(struct th_names *names, const char *name)
{
    if (names->n == names->capacity) {
        int64_t more = names->capacity ? names->capacity * 2 : 16;
        char **grown =
            th_realloc(names->name, (size_t)names->n, (size_t)more, sizeof *grown);
        if (!grown)
            return THAW_E_MEMORY;
        names->name = grown;
        names->capacity = more;
    }
    char *copy = th_strdup(name);
    if (!copy)
        return THAW_E_MEMORY;
    names->name[names->n++] = copy;
    return THAW_OK;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void th_names_sort(struct th_names *names)
{
    if (names->n)
        qsort(names->name, (size_t)names->n, sizeof *names->name, compare);
}

void th_names_release(struct th_names *names)
{
    for (int64_t i = 0; i < names->n; i++)
        th_free(names->name[i]);
    th_free(names->name);
    *names = (struct th_names){0};
}

bool th_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Whether `ending` is one of the words of `endings`. */
static bool is_listed(const char *endings, const char *ending)
{
    size_t n = strlen(ending);
    for (const char *word = endings; *word;) {
        size_t length = strcspn(word, " ");
        if (length == n && strncasecmp(word, ending, n) == 0)
            return true;
        word += length + (word[length] == ' ');
    }
    return false;
}

bool th_is_image_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    for (const struct th_decoder *const *d = th_decoder_list; dot && *d; d++)
        if (is_listed((*d)->endings, dot + 1))
            return true;
    return false;
}

/* A folder being listed, and those above it. */
struct level {
    const struct level *above;
    int depth;
    dev_t device;
    ino_t inode;
};

struct walk {
    struct th_names *out;
    bool folders;       /* list the folders of one level, not the images below */
    const char *ending; /* list files that end so; NULL: images */
    int64_t n_others;
};

static bool is_wanted(const struct walk *walk, const char *path)
{
    const char *dot = strrchr(path, '.');
    if (!walk->ending)
        return th_is_image_name(path);
    return dot && !strchr(dot, '/') && strcasecmp(dot + 1, walk->ending) == 0;
}

static bool is_above(const struct level *level, const struct stat *st)
{
    for (; level; level = level->above)
        if (level->device == st->st_dev && level->inode == st->st_ino)
            return true;
    return false;
}

static bool is_hidden(const char *name)
{
    return name[0] == '.' || strcmp(name, "__MACOSX") == 0;
}

static thaw_status walk_folder(
    struct walk *walk, const char *root, const char *below, const struct level *above);

/* One directory entry: `relative` to root, `path` in full. */
static thaw_status visit(struct walk *walk, const char *root, const char *relative,
    const char *path, const struct level *level)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        walk->n_others++; /* a dangling link, or gone meanwhile */
        return THAW_OK;
    }
    if (S_ISDIR(st.st_mode)) {
        if (walk->folders)
            return th_names_add(walk->out, relative);
        if (is_above(level, &st) || level->depth >= MAX_DEPTH)
            return THAW_OK;
        return walk_folder(walk, root, relative, level);
    }
    if (walk->folders)
        return THAW_OK;
    if (!S_ISREG(st.st_mode) || !is_wanted(walk, relative)) {
        walk->n_others++;
        return THAW_OK;
    }
    return th_names_add(walk->out, relative);
}

static thaw_status visit_entry(struct walk *walk, const char *root, const char *below,
    const char *name, const struct level *level)
{
    char *relative = *below ? th_format("%s/%s", below, name) : th_strdup(name);
    char *path = relative ? th_format("%s/%s", root, relative) : NULL;
    thaw_status status =
        path ? visit(walk, root, relative, path, level) : THAW_E_MEMORY;
    th_free(path);
    th_free(relative);
    return status;
}

static thaw_status walk_entries(struct walk *walk, DIR *dir, const char *root,
    const char *below, const struct level *level)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno)
            return th_fail_errno(
                THAW_E_IO, "%s/%s: cannot list the folder", root, below);
        if (!entry)
            return THAW_OK;
        if (!is_hidden(entry->d_name))
            TRY(visit_entry(walk, root, below, entry->d_name, level));
    }
}

static thaw_status walk_folder(
    struct walk *walk, const char *root, const char *below, const struct level *above)
{
    char *path = *below ? th_format("%s/%s", root, below) : th_strdup(root);
    if (!path)
        return THAW_E_MEMORY;
    struct stat st;
    DIR *dir = opendir(path);
    thaw_status status = THAW_OK;
    if (!dir || fstat(dirfd(dir), &st) != 0)
        status = th_fail_errno(THAW_E_IO, "%s: cannot list the folder", path);
    if (status == THAW_OK) {
        struct level level = {
            above, above ? above->depth + 1 : 0, st.st_dev, st.st_ino};
        status = walk_entries(walk, dir, root, below, &level);
    }
    if (dir)
        closedir(dir);
    th_free(path);
    return status;
}

thaw_status th_list_folders(const char *path, struct th_names *out)
{
    struct walk walk = {.out = out, .folders = true};
    TRY(walk_folder(&walk, path, "", NULL));
    th_names_sort(out);
    return THAW_OK;
}

thaw_status th_list_ending(const char *path, const char *ending, struct th_names *out)
{
    struct walk walk = {.out = out, .ending = ending};
    TRY(walk_folder(&walk, path, "", NULL));
    th_names_sort(out);
    return THAW_OK;
}

thaw_status th_list_images(const char *path, struct th_names *out, int64_t *n_others)
{
    struct walk walk = {.out = out};
    TRY(walk_folder(&walk, path, "", NULL));
    th_names_sort(out);
    if (n_others)
        *n_others = walk.n_others;
    return THAW_OK;
}
