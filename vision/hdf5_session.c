/* SPDX-License-Identifier: Apache-2.0
 * Owns the lock around libhdf5, the only mutable thing here, and what is changed in it
 * while it is held. */
#include "hdf5_session.h"

#include "error.h"

#include <pthread.h>

const char th_hdf5_no_path[] = "/dev/null/image";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void th_hdf5_lock(void)
{
    pthread_mutex_lock(&lock);
}

void th_hdf5_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void th_hdf5_open(struct th_hdf5_session *s)
{
    *s = (struct th_hdf5_session){0};
    H5Eget_auto2(H5E_DEFAULT, &s->print, &s->print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLget_loading_state(&s->plugins);
    H5PLset_loading_state(0);
}

void th_hdf5_close(const struct th_hdf5_session *s)
{
    H5PLset_loading_state(s->plugins);
    H5Eset_auto2(H5E_DEFAULT, s->print, s->print_data);
}

void th_hdf5_close_id(hid_t id, herr_t (*close)(hid_t))
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

thaw_status th_hdf5_failed(thaw_status status, const char *where, const char *what)
{
    const char *cause = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &cause);
    return th_fail(status, "%s: %s: HDF5 says \"%s\"", where, what, cause);
}

static herr_t image_free(void *bytes, H5FD_file_image_op_t op, void *image)
{
    (void)bytes, (void)op, (void)image;
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

H5FD_file_image_callbacks_t th_hdf5_memory(void *image)
{
    return (H5FD_file_image_callbacks_t){.image_free = image_free,
        .udata_copy = udata_copy,
        .udata_free = udata_free,
        .udata = image};
}
