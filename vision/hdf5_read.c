/* SPDX-License-Identifier: Apache-2.0
 * Reading HDF5: every number of a file as a record, names as paths (group/group/name), and
 * the attributes of its root. Runs in a sandbox: libhdf5 1.10 can crash on files made to
 * crash it before any check here is reached.
 *
 * Nothing outside the file is read: soft and external links, external storage, virtual
 * data sets and filter plugins are refused (CVE-2025-9905, CVE-2026-1669). */
#include "hdf5_read.h"

#include "error.h"
#include "hdf5_session.h"
#include "mem.h"

#include <string.h>

enum {
    MAX_DEPTH = 32, /* groups in groups */
    MAX_OBJECTS =
        100000, /* links followed, so also the bound for cycles of hard links */
    MAX_NAME = 4096,
    NUMBER_BYTES = 16 /* the widest number read */
};

/* A walk through one file. */
struct reader {
    struct th_stream *out;
    size_t limit; /* of bytes that one thing in the file may take */
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
    return th_hdf5_failed(THAW_E_DATA, r->where, text);
}

static thaw_status refused(const struct reader *r, const char *why)
{
    return th_fail(THAW_E_DATA,
        "%s: %.200s: %s: refused; make a plain copy with `h5repack -f NONE`, or save "
        "again",
        r->where, r->name, why);
}

/* H2, and a bound on what one chunk can cost. */
static thaw_status check_storage(
    const struct reader *r, hid_t plist, hid_t space, size_t item_bytes)
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
        if (__builtin_mul_overflow(bytes, chunk[i], &bytes) || bytes > r->limit)
            return refused(r, "its chunks are larger than the file could hold");
    /* libhdf5 1.10 would use coordinates that nobody set. */
    if (rank != H5Sget_simple_extent_ndims(space))
        return refused(r, "chunks of another rank than its shape");
    return THAW_OK;
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
    else if ((status = check_storage(r, plist, space, item_bytes)) == THAW_OK)
        status = space_shape(r, space, &shape, &is_null);
    if (status != THAW_OK || is_null)
        goto out;
    status = th_stream_tensor(r->out, r->name, &shape, &data);
    if (status == THAW_OK && th_shape_count(&shape) > 0 &&
        H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = damaged(r, "cannot be read");
out:
    th_hdf5_close_id(space, H5Sclose);
    th_hdf5_close_id(type, H5Tclose);
    th_hdf5_close_id(plist, H5Pclose);
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
    th_hdf5_close_id(plist, H5Pclose);
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
    status = th_stream_texts(r->out, name,
        H5Sget_simple_extent_type(space) == H5S_SCALAR ? TH_ATTRIBUTE_STRING
                                                       : TH_ATTRIBUTE_STRINGS,
        item, n);
out:
    if (filled && is_vlen)
        H5Dvlen_reclaim(text, space, H5P_DEFAULT, buffer);
    th_free(item);
    th_free(buffer);
    th_hdf5_close_id(text, H5Tclose);
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
    else
        status = th_stream_numbers(r->out, name,
            is_float ? TH_ATTRIBUTE_FLOATS : TH_ATTRIBUTE_INTS, values, n);
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
    else if ((size_t)n > r->limit / (bytes + 16))
        status = refused(r, "an attribute larger than the file could hold");
    else if (H5Sget_simple_extent_type(space) == H5S_NULL)
        status = THAW_OK; /* says nothing */
    else if (kind == H5T_STRING)
        status = read_texts(r, attribute, type, space, name, (size_t)n);
    else if (kind == H5T_FLOAT || kind == H5T_INTEGER)
        status = read_numbers(r, attribute, kind == H5T_FLOAT, name, (size_t)n);
    th_hdf5_close_id(space, H5Sclose);
    th_hdf5_close_id(type, H5Tclose);
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
    th_hdf5_close_id(attribute, H5Aclose);
    return r->status == THAW_OK ? 0 : -1;
}

static thaw_status read_file(struct reader *r, hid_t file)
{
    if (H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, on_attribute, r) < 0)
        return r->status != THAW_OK ? r->status : damaged(r, "the list of attributes");
    hid_t root = H5Gopen2(file, "/", H5P_DEFAULT);
    thaw_status status =
        root < 0 ? damaged(r, "its root cannot be opened") : walk(r, root);
    th_hdf5_close_id(root, H5Gclose);
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

static hid_t open_image(const unsigned char *bytes, size_t n)
{
    void *image = (void *)(uintptr_t)bytes;
    H5FD_file_image_callbacks_t calls = th_hdf5_memory(image);
    calls.image_malloc = image_malloc;
    calls.image_memcpy = image_copy;
    hid_t file = -1, access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_file_image_callbacks(access, &calls) >= 0 &&
        H5Pset_file_image(access, image, n) >= 0)
        file = H5Fopen(th_hdf5_no_path, H5F_ACC_RDONLY, access);
    th_hdf5_close_id(access, H5Pclose);
    return file;
}

thaw_status th_hdf5_read(
    const unsigned char *bytes, size_t n, size_t limit, struct th_stream *out)
{
    struct th_hdf5_session s;
    struct reader *r = th_alloc(1, sizeof *r);
    if (!r)
        return THAW_E_MEMORY;
    *r = (struct reader){.out = out, .where = out->where, .limit = limit};
    th_hdf5_open(&s);
    hid_t file = open_image(bytes, n);
    thaw_status status =
        file < 0 ? damaged(r, "damaged or cut short") : read_file(r, file);
    th_hdf5_close_id(file, H5Fclose);
    th_hdf5_close(&s);
    th_free(r);
    return status;
}
