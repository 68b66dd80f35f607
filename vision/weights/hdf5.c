/* SPDX-License-Identifier: Apache-2.0
 * HDF5 weight files: the model file, and files of others with flat names or groups.
 * Owns every use of hdf5.h. Files are read from memory and written to memory (core
 * driver), so that HDF5 itself never touches the disk.
 *
 * H1 One call at a time: HDF5's state is global and its usual builds are not
 *    thread-safe, hence the lock, the only mutable thing here.
 * H2 Nothing outside the file is read: soft and external links, external storage, virtual
 *    data sets and filter plugins are refused (CVE-2025-9905, CVE-2026-1669).
 * H3 Equal content gives equal bytes: no times are stored, objects are made in order.
 * H4 HDF5's error printing and plugin loading are as they were when a call returns.
 *
 * libhdf5 1.10 can crash on files made to crash it, before any of these checks is
 * reached; such files need a process of their own. */
#include "error.h"
#include "mem.h"
#include "weights.h"

#include <hdf5.h>
#include <pthread.h>
#include <string.h>

enum {
    MAX_DEPTH = 32, /* groups in groups */
    MAX_OBJECTS =
        100000, /* links followed, so also the bound for cycles of hard links */
    MAX_NAME = 4096,
    MAX_COMPACT = 60000, /* an old-style attribute holds less than 64 KiB */
    NUMBER_BYTES = 16    /* the widest number read */
};

/* Such a path never exists: the core driver wants a name that does not. */
static const char no_path[] = "/dev/null/image";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What a call changes in HDF5 and puts back. */
struct session {
    H5E_auto2_t print;
    void *print_data;
    unsigned plugins;
};

static void session_open(struct session *s)
{
    *s = (struct session){0};
    pthread_mutex_lock(&lock);
    H5Eget_auto2(H5E_DEFAULT, &s->print, &s->print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLget_loading_state(&s->plugins);
    H5PLset_loading_state(0);
}

static void session_close(const struct session *s)
{
    H5PLset_loading_state(s->plugins);
    H5Eset_auto2(H5E_DEFAULT, s->print, s->print_data);
    pthread_mutex_unlock(&lock);
}

static void close_id(hid_t id, herr_t (*close)(hid_t))
{
    if (id >= 0)
        close(id);
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *text)
{
    if (n == 0 && error->desc)
        *(const char **)text = error->desc;
    return 0;
}

/* HDF5's own innermost complaint, as the end of our sentence. */
static thaw_status hdf5_failed(thaw_status status, const char *where, const char *what)
{
    const char *cause = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &cause);
    return th_fail(status, "%s: %s: HDF5 says \"%s\"", where, what, cause);
}

/* ---- reading ---- */

/* A walk through one file. */
struct reader {
    struct th_weights *out;
    const char *where;
    thaw_status status; /* of the innermost step, for HDF5's callbacks carry only -1 */
    int depth;
    int n_objects;
    size_t name_n;
    char name[MAX_NAME]; /* path of the object being visited: group/group/name */
};

static thaw_status damaged(const struct reader *r, const char *what)
{
    char text[MAX_NAME + 64];
    snprintf(text, sizeof text, "%.200s%s%s", r->name, r->name_n ? ": " : "", what);
    return hdf5_failed(THAW_E_DATA, r->where, text);
}

static thaw_status refused(const struct reader *r, const char *why)
{
    return th_fail(THAW_E_DATA,
        "%s: %.200s: %s: refused; make a plain copy with `h5repack -f NONE`, or save "
        "again",
        r->where, r->name, why);
}

/* H2, and a bound on what one chunk can cost. */
static thaw_status check_storage(const struct reader *r, hid_t plist, size_t item_bytes)
{
    H5D_layout_t layout = H5Pget_layout(plist);
    if (layout == H5D_VIRTUAL)
        return refused(r, "a virtual data set, its data may lie in other files");
    if (H5Pget_external_count(plist) != 0)
        return refused(r, "external storage, its data lie in another file");
    int n_filters = H5Pget_nfilters(plist);
    for (int i = 0; i < n_filters; i++) {
        unsigned flags = 0;
        size_t n_values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(plist, (unsigned)i, &flags, &n_values, NULL, 0, NULL, NULL);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return refused(r, "compressed by another filter than deflate");
    }
    if (layout != H5D_CHUNKED)
        return layout < 0 || n_filters < 0 ? damaged(r, "its storage") : THAW_OK;
    hsize_t chunk[H5S_MAX_RANK] = {0};
    int rank = H5Pget_chunk(plist, H5S_MAX_RANK, chunk);
    hsize_t bytes = item_bytes;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, chunk[i], &bytes) || bytes > r->out->limit)
            return refused(r, "its chunks are larger than the file could hold");
    return rank < 0 ? damaged(r, "its chunks") : THAW_OK;
}

/* Shape of a data space; *is_null for one without elements at all. */
static thaw_status space_shape(
    const struct reader *r, hid_t space, struct th_shape *shape, bool *is_null)
{
    H5S_class_t kind = H5Sget_simple_extent_type(space);
    int rank = H5Sget_simple_extent_ndims(space);
    *is_null = kind == H5S_NULL;
    if (kind == H5S_NO_CLASS || rank < 0)
        return damaged(r, "its shape");
    if (rank > TH_MAX_RANK)
        return refused(r, "more than 6 dimensions");
    hsize_t dims[H5S_MAX_RANK];
    H5Sget_simple_extent_dims(space, dims, NULL);
    *shape = (struct th_shape){.rank = rank};
    for (int i = 0; i < rank; i++) {
        if (dims[i] > INT64_MAX)
            return refused(r, "an impossible shape");
        shape->dim[i] = (int64_t)dims[i];
    }
    return THAW_OK;
}

/* Numbers of any width and byte order become fp32; other data sets are passed over. */
static thaw_status read_dataset(struct reader *r, hid_t set)
{
    thaw_status status = THAW_OK;
    struct th_shape shape;
    bool is_null = false;
    float *data = NULL;
    hid_t plist = H5Dget_create_plist(set), type = H5Dget_type(set);
    hid_t space = plist < 0 ? -1 : H5Dget_space(set);
    H5T_class_t kind = H5Tget_class(type);
    size_t item_bytes = H5Tget_size(type);
    if (plist < 0 || type < 0 || space < 0)
        status = damaged(r, "cannot be opened");
    else if ((kind != H5T_FLOAT && kind != H5T_INTEGER) || item_bytes > NUMBER_BYTES)
        goto out;
    else if ((status = check_storage(r, plist, item_bytes)) == THAW_OK)
        status = space_shape(r, space, &shape, &is_null);
    if (status != THAW_OK || is_null)
        goto out;
    status = th_weights_add(r->out, r->name, shape, NULL, &data);
    if (status == THAW_OK && th_shape_count(&shape) > 0 &&
        H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = damaged(r, "cannot be read");
out:
    close_id(space, H5Sclose);
    close_id(type, H5Tclose);
    close_id(plist, H5Pclose);
    return status;
}

static thaw_status walk(struct reader *r, hid_t group);

static thaw_status visit(struct reader *r, hid_t group, const char *name)
{
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0)
        return damaged(r, "cannot be opened");
    thaw_status status = THAW_OK;
    H5I_type_t kind = H5Iget_type(object);
    if (kind == H5I_DATASET)
        status = read_dataset(r, object);
    else if (kind == H5I_GROUP && r->depth == MAX_DEPTH)
        status = refused(r, "groups nested deeper than 32");
    else if (kind == H5I_GROUP)
        status = walk(r, object);
    H5Oclose(object);
    return status;
}

/* One link: the name grows by it while it is visited. */
static thaw_status follow(
    struct reader *r, hid_t group, const char *name, H5L_type_t kind)
{
    size_t n = strlen(name), before = r->name_n;
    size_t slash = before ? 1 : 0;
    if (++r->n_objects > MAX_OBJECTS)
        return refused(r, "more than 100000 objects");
    if (before + slash + n + 1 > sizeof r->name)
        return refused(r, "a name of more than 4096 bytes");
    if (slash)
        r->name[before] = '/';
    memcpy(r->name + before + slash, name, n + 1);
    r->name_n = before + slash + n;
    thaw_status status;
    if (kind == H5L_TYPE_HARD)
        status = visit(r, group, name);
    else
        status = refused(r, kind == H5L_TYPE_SOFT       ? "a soft link"
                            : kind == H5L_TYPE_EXTERNAL ? "a link to another file"
                                                        : "a link of unknown kind");
    r->name_n = before;
    r->name[before] = 0;
    return status;
}

static herr_t on_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    struct reader *r = data;
    r->status = follow(r, group, name, info->type);
    return r->status == THAW_OK ? 0 : -1;
}

/* All links of a group: in the order of making where the file keeps it, else by name. */
static thaw_status walk(struct reader *r, hid_t group)
{
    unsigned order = 0;
    hid_t plist = H5Gget_create_plist(group);
    if (plist < 0 || H5Pget_link_creation_order(plist, &order) < 0)
        order = 0;
    close_id(plist, H5Pclose);
    r->depth++;
    r->status = THAW_OK;
    herr_t failed = H5Literate(group,
        order & H5P_CRT_ORDER_INDEXED ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME, H5_ITER_INC,
        NULL, on_link, r);
    r->depth--;
    if (r->status != THAW_OK)
        return r->status;
    return failed < 0 ? damaged(r, "the list of its members") : THAW_OK;
}

/* n texts of variable or fixed length; `type` is the file's. */
static thaw_status read_texts(struct reader *r, hid_t attribute, hid_t type,
    hid_t space, const char *name, size_t n)
{
    bool is_vlen = H5Tis_variable_str(type) > 0, filled = false;
    size_t bytes = is_vlen ? sizeof(char *) : H5Tget_size(type) + 1;
    thaw_status status = THAW_E_MEMORY;
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, is_vlen ? H5T_VARIABLE : bytes);
    H5Tset_cset(text, H5Tget_cset(type));
    char *buffer = th_alloc(n, bytes);
    const char **item = th_alloc(n, sizeof *item);
    if (!buffer || !item)
        goto out;
    if (H5Aread(attribute, text, buffer) < 0) {
        status = damaged(r, "an attribute cannot be read");
        goto out;
    }
    filled = true;
    for (size_t i = 0; i < n; i++) {
        item[i] = is_vlen ? ((char **)(void *)buffer)[i] : buffer + i * bytes;
        item[i] = item[i] ? item[i] : "";
    }
    if (H5Sget_simple_extent_type(space) == H5S_SCALAR)
        status = th_weights_set_string(r->out, name, item[0]);
    else
        status = th_weights_set_strings(r->out, name, item, n);
out:
    if (filled && is_vlen)
        H5Dvlen_reclaim(text, space, H5P_DEFAULT, buffer);
    th_free(item);
    th_free(buffer);
    close_id(text, H5Tclose);
    return status;
}

/* n numbers, kept as integers where the file has integers. */
static thaw_status read_numbers(
    struct reader *r, hid_t attribute, bool is_float, const char *name, size_t n)
{
    thaw_status status = THAW_E_MEMORY;
    void *values = th_alloc(n, 8); /* double or int64 */
    if (!values)
        return status;
    if (n &&
        H5Aread(attribute, is_float ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, values) < 0)
        status = damaged(r, "an attribute cannot be read");
    else if (is_float)
        status = th_weights_set_floats(r->out, name, values, n);
    else
        status = th_weights_set_ints(r->out, name, values, n);
    th_free(values);
    return status;
}

static thaw_status read_attribute(struct reader *r, hid_t attribute, const char *name)
{
    thaw_status status = THAW_OK;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    H5T_class_t kind = H5Tget_class(type);
    size_t bytes = H5Tget_size(type);
    hssize_t n = H5Sget_simple_extent_npoints(space);
    if (type < 0 || space < 0 || n < 0 || bytes == 0)
        status = damaged(r, "an attribute cannot be opened");
    else if ((size_t)n > r->out->limit / (bytes + 16))
        status = refused(r, "an attribute larger than the file could hold");
    else if (H5Sget_simple_extent_type(space) == H5S_NULL)
        status = THAW_OK; /* says nothing */
    else if (kind == H5T_STRING)
        status = read_texts(r, attribute, type, space, name, (size_t)n);
    else if (kind == H5T_FLOAT || kind == H5T_INTEGER)
        status = read_numbers(r, attribute, kind == H5T_FLOAT, name, (size_t)n);
    close_id(space, H5Sclose);
    close_id(type, H5Tclose);
    return status;
}

static herr_t on_attribute(
    hid_t object, const char *name, const H5A_info_t *info, void *data)
{
    struct reader *r = data;
    (void)info;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    r->status = attribute < 0 ? damaged(r, "an attribute cannot be opened")
                              : read_attribute(r, attribute, name);
    close_id(attribute, H5Aclose);
    return r->status == THAW_OK ? 0 : -1;
}

static thaw_status read_file(struct reader *r, hid_t file)
{
    if (H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, on_attribute, r) < 0)
        return r->status != THAW_OK ? r->status : damaged(r, "the list of attributes");
    hid_t root = H5Gopen2(file, "/", H5P_DEFAULT);
    thaw_status status =
        root < 0 ? damaged(r, "its root cannot be opened") : walk(r, root);
    close_id(root, H5Gclose);
    return status;
}

/* The core driver's ways with memory, made to use our bytes in place: it would copy the
 * whole file three times otherwise. It opens read-only, so it never writes to them. */
static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *image)
{
    (void)size;
    (void)op;
    return image;
}

static void *image_copy(
    void *to, const void *from, size_t size, H5FD_file_image_op_t op, void *image)
{
    (void)from;
    (void)size;
    (void)op;
    (void)image;
    return to;
}

static herr_t image_free(void *p, H5FD_file_image_op_t op, void *image)
{
    (void)p;
    (void)op;
    (void)image;
    return 0;
}

static void *udata_copy(void *image)
{
    return image;
}

static herr_t udata_free(void *image)
{
    (void)image;
    return 0;
}

static hid_t open_image(const unsigned char *bytes, size_t n)
{
    void *image = (void *)(uintptr_t)bytes;
    H5FD_file_image_callbacks_t calls = {.image_malloc = image_malloc,
        .image_memcpy = image_copy,
        .image_free = image_free,
        .udata_copy = udata_copy,
        .udata_free = udata_free,
        .udata = image};
    hid_t file = -1, access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_file_image_callbacks(access, &calls) >= 0 &&
        H5Pset_file_image(access, image, n) >= 0)
        file = H5Fopen(no_path, H5F_ACC_RDONLY, access);
    close_id(access, H5Pclose);
    return file;
}

static thaw_status hdf5_read(
    const unsigned char *bytes, size_t n, const char *where, struct th_weights *out)
{
    struct session s;
    struct reader *r = th_alloc(1, sizeof *r);
    if (!r)
        return THAW_E_MEMORY;
    *r = (struct reader){.out = out, .where = where};
    session_open(&s);
    hid_t file = open_image(bytes, n);
    thaw_status status =
        file < 0 ? damaged(r, "damaged or cut short") : read_file(r, file);
    close_id(file, H5Fclose);
    session_close(&s);
    th_free(r);
    return status;
}

/* The signature stands at 0 or, after a user block, at 512, 1024, 2048, ... */
static bool hdf5_sniff(const unsigned char *bytes, size_t n)
{
    static const unsigned char signature[8] = "\x89HDF\r\n\x1a\n";
    for (size_t at = 0; n >= 8 && at <= n - 8 && at <= 1 << 20; at = at ? 2 * at : 512)
        if (memcmp(bytes + at, signature, 8) == 0)
            return true;
    return false;
}

/* ---- writing ---- */

/* May it be a path in the file: "name" or "group/name", each part a plain name? */
static bool is_path(const char *name)
{
    for (const char *at = name;; at++) {
        size_t n = strcspn(at, "/");
        if (n == 0 || (n == 1 && *at == '.'))
            return false;
        at += n;
        if (!*at)
            return true;
    }
}

static herr_t write_tensor(
    hid_t file, hid_t names, hid_t plist, const struct th_weight *w)
{
    hsize_t dims[TH_MAX_RANK];
    const struct th_shape *shape = &w->tensor.shape;
    for (int i = 0; i < shape->rank; i++)
        dims[i] = (hsize_t)shape->dim[i];
    hid_t set = -1, space = shape->rank ? H5Screate_simple(shape->rank, dims, NULL)
                                        : H5Screate(H5S_SCALAR);
    herr_t failed = -1;
    if (space >= 0)
        set =
            H5Dcreate2(file, w->name, H5T_IEEE_F32LE, space, names, plist, H5P_DEFAULT);
    if (set >= 0)
        failed = th_shape_count(shape) == 0 ? 0
                                            : H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL,
                                                  H5S_ALL, H5P_DEFAULT, w->tensor.data);
    close_id(set, H5Dclose);
    close_id(space, H5Sclose);
    return failed;
}

/* Texts have variable length and are UTF-8: h5py gives them back as str. */
static herr_t write_attribute(hid_t file, const struct th_attribute *a)
{
    hsize_t n = a->n;
    bool is_scalar = a->kind == TH_ATTRIBUTE_STRING || (!a->strings && n == 1);
    const void *values = a->strings ? (void *)a->strings
                         : a->ints  ? (void *)a->ints
                                    : (void *)a->floats;
    herr_t failed = -1;
    hid_t attribute = -1, text = H5Tcopy(H5T_C_S1),
          names = H5Pcreate(H5P_ATTRIBUTE_CREATE);
    hid_t space = is_scalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL);
    H5Tset_size(text, H5T_VARIABLE);
    H5Tset_cset(text, H5T_CSET_UTF8);
    H5Pset_char_encoding(names, H5T_CSET_UTF8);
    hid_t stored = a->strings ? text : a->ints ? H5T_STD_I64LE : H5T_IEEE_F64LE;
    hid_t held = a->strings ? text : a->ints ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE;
    if (space >= 0)
        attribute = H5Acreate2(file, a->name, stored, space, names, H5P_DEFAULT);
    if (attribute >= 0)
        failed = n == 0 ? 0 : H5Awrite(attribute, held, values);
    close_id(attribute, H5Aclose);
    close_id(space, H5Sclose);
    close_id(names, H5Pclose);
    close_id(text, H5Tclose);
    return failed;
}

/* An empty file in memory. Long class lists do not fit the oldest attribute format; asking
 * for the order of attributes gives the root the newer one. (Newer bounds on the whole
 * file would too, but H5Fget_file_image of 1.10 leaves a wrong checksum there.) */
static hid_t create_image(const struct th_weights *w)
{
    bool is_large = false;
    for (size_t i = 0; i < w->n_attributes; i++)
        is_large |=
            w->attribute[i].n * (w->attribute[i].strings ? 16 : 8) > MAX_COMPACT;
    hid_t file = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), plist = H5Pcreate(H5P_FILE_CREATE);
    if (H5Pset_fapl_core(access, w->bytes + 1024 * w->n + (1 << 16), 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_link_creation_order(
            plist, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0 &&
        H5Pset_obj_track_times(plist, false) >= 0 &&
        (!is_large || H5Pset_attr_creation_order(plist, H5P_CRT_ORDER_TRACKED) >= 0))
        file = H5Fcreate(no_path, H5F_ACC_TRUNC, plist, access);
    close_id(plist, H5Pclose);
    close_id(access, H5Pclose);
    return file;
}

static thaw_status fill_image(hid_t file, const struct th_weights *w)
{
    thaw_status status = THAW_OK;
    hid_t names = H5Pcreate(H5P_LINK_CREATE), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_char_encoding(names, H5T_CSET_UTF8);
    H5Pset_create_intermediate_group(names, 1);
    H5Pset_obj_track_times(plist, false);
    for (size_t i = 0; status == THAW_OK && i < w->n; i++) {
        const char *name = w->weight[i].name;
        if (!is_path(name))
            status =
                th_fail(THAW_E_USAGE, "%s: cannot be a tensor's name in HDF5", name);
        else if (write_tensor(file, names, plist, &w->weight[i]) < 0)
            status = hdf5_failed(THAW_E_FAIL, name, "cannot be written");
    }
    for (size_t i = 0; status == THAW_OK && i < w->n_attributes; i++)
        if (write_attribute(file, &w->attribute[i]) < 0)
            status = hdf5_failed(
                THAW_E_FAIL, w->attribute[i].name, "the attribute cannot be written");
    close_id(plist, H5Pclose);
    close_id(names, H5Pclose);
    return status;
}

/* The finished file's bytes, into memory of ours. */
static thaw_status copy_image(hid_t file, unsigned char **bytes, size_t *n)
{
    ssize_t size =
        H5Fflush(file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(file, NULL, 0);
    if (size <= 0)
        return hdf5_failed(THAW_E_FAIL, "weights", "the file cannot be built");
    unsigned char *image = th_alloc((size_t)size, 1);
    if (!image)
        return THAW_E_MEMORY;
    if (H5Fget_file_image(file, image, (size_t)size) != size) {
        th_free(image);
        return hdf5_failed(THAW_E_FAIL, "weights", "the file cannot be built");
    }
    *bytes = image;
    *n = (size_t)size;
    return THAW_OK;
}

static thaw_status hdf5_image(
    const struct th_weights *w, unsigned char **bytes, size_t *n)
{
    struct session s;
    session_open(&s);
    hid_t file = create_image(w);
    thaw_status status =
        file < 0 ? hdf5_failed(THAW_E_FAIL, "weights", "no file can be made")
                 : fill_image(file, w);
    if (status == THAW_OK)
        status = copy_image(file, bytes, n);
    close_id(file, H5Fclose);
    session_close(&s);
    return status;
}

const struct th_weight_format th_weight_format_hdf5 = {
    .name = "hdf5",
    .sniff = hdf5_sniff,
    .read = hdf5_read,
    .image = hdf5_image,
};
