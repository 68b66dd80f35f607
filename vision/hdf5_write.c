/* SPDX-License-Identifier: Apache-2.0
 * Writing HDF5 to memory: tensors as data sets, attributes on the root.
 *
 * Equal content gives equal bytes: no times are stored, objects are made in order. */
#include "hdf5_write.h"

#include "error.h"
#include "hdf5_session.h"
#include "mem.h"

#include <string.h>

enum { MAX_COMPACT = 60000 }; /* an old-style attribute holds less than 64 KiB */

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
    th_hdf5_close_id(set, H5Dclose);
    th_hdf5_close_id(space, H5Sclose);
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
    th_hdf5_close_id(attribute, H5Aclose);
    th_hdf5_close_id(space, H5Sclose);
    th_hdf5_close_id(names, H5Pclose);
    th_hdf5_close_id(text, H5Tclose);
    return failed;
}

/* Where the library keeps a file that it builds in memory: the bytes outlive the file. */
struct image {
    unsigned char *bytes; /* for th_free */
    size_t capacity;
};

static void *image_grow(void *old, size_t size, H5FD_file_image_op_t op, void *udata)
{
    struct image *image = udata;
    (void)op;
    unsigned char *grown = th_realloc(old, image->capacity, size + TH_IMAGE_ROOM, 1);
    if (!grown)
        return NULL;
    image->capacity = size;
    return image->bytes = grown;
}

static void *image_new(size_t size, H5FD_file_image_op_t op, void *udata)
{
    return image_grow(NULL, size, op, udata);
}

/* An empty file in `image`. Long class lists do not fit the oldest attribute format; asking
 * for the order of attributes gives the root the newer one. Blocks of 0: closing would give
 * back what is left of them, and the file would end before its bytes do. */
static hid_t create_image(const struct th_weights *w, struct image *image)
{
    bool is_large = false;
    for (size_t i = 0; i < w->n_attributes; i++)
        is_large |=
            w->attribute[i].n * (w->attribute[i].strings ? 16 : 8) > MAX_COMPACT;
    H5FD_file_image_callbacks_t memory = th_hdf5_memory(image);
    memory.image_malloc = image_new;
    memory.image_realloc = image_grow;
    hid_t file = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), plist = H5Pcreate(H5P_FILE_CREATE);
    if (H5Pset_fapl_core(access, w->bytes + 1024 * w->n + (1 << 16), 0) >= 0 &&
        H5Pset_file_image_callbacks(access, &memory) >= 0 &&
        H5Pset_meta_block_size(access, 0) >= 0 &&
        H5Pset_small_data_block_size(access, 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_link_creation_order(
            plist, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0 &&
        H5Pset_obj_track_times(plist, false) >= 0 &&
        (!is_large || H5Pset_attr_creation_order(plist, H5P_CRT_ORDER_TRACKED) >= 0))
        file = H5Fcreate(th_hdf5_no_path, H5F_ACC_TRUNC, plist, access);
    th_hdf5_close_id(plist, H5Pclose);
    th_hdf5_close_id(access, H5Pclose);
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
            status = th_hdf5_failed(THAW_E_FAIL, name, "cannot be written");
    }
    for (size_t i = 0; status == THAW_OK && i < w->n_attributes; i++)
        if (write_attribute(file, &w->attribute[i]) < 0)
            status = th_hdf5_failed(
                THAW_E_FAIL, w->attribute[i].name, "the attribute cannot be written");
    th_hdf5_close_id(plist, H5Pclose);
    th_hdf5_close_id(names, H5Pclose);
    return status;
}

/* Bytes of the file, which are fewer than its image has; 0: it could not be finished. */
static size_t finish(hid_t file)
{
    ssize_t size =
        H5Fflush(file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(file, NULL, 0);
    return H5Fclose(file) >= 0 && size > 0 ? (size_t)size : 0;
}

thaw_status th_hdf5_image(const struct th_weights *w, unsigned char **bytes, size_t *n)
{
    struct th_hdf5_session s;
    struct image image = {0};
    th_hdf5_lock();
    th_hdf5_open(&s);
    hid_t file = create_image(w, &image);
    thaw_status status =
        file < 0 ? th_hdf5_failed(THAW_E_FAIL, "weights", "no file can be made")
                 : fill_image(file, w);
    *n = file < 0 ? 0 : finish(file);
    if (status == THAW_OK && (*n == 0 || *n > image.capacity))
        status = th_hdf5_failed(THAW_E_FAIL, "weights", "the file cannot be built");
    th_hdf5_close(&s);
    th_hdf5_unlock();
    if (status == THAW_OK)
        *bytes = image.bytes;
    else
        th_free(image.bytes);
    return status;
}
