/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: names and shapes of others, through the dialects and to the question of
 * which network it is. A line an input tensor, "NAME EXTENT EXTENT ..."; the first line names
 * the file format. */
#include "dialect.h"
#include "fuzz.h"
#include "model.h"

enum { MOST = 400 /* tensors */, LARGEST = 1 << 12 /* numbers in one */ };

static const char *const formats[] = {"hdf5", "npz", "pth", "safetensors"};

/* One line, terminated; false where the list does not want it. */
static bool add(struct th_weights *w, char *line)
{
    struct th_shape s = {0};
    float *data = NULL;
    char *at = strchr(line, ' ');
    int64_t count = 1;
    if (at)
        *at++ = 0;
    while (at && *at && s.rank < TH_MAX_RANK) {
        char *end = at;
        long extent = strtol(at, &end, 10);
        if (end == at || extent < 0 || extent > LARGEST)
            break;
        s.dim[s.rank++] = extent;
        count *= extent;
        if (count > LARGEST)
            return false;
        at = end;
    }
    if (th_weights_add(w, line, s, NULL, &data) != THAW_OK)
        return false;
    for (int64_t i = 0; i < count; i++)
        data[i] = (float)i;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct th_weights w;
    const struct th_backbone *backbone = NULL;
    char *text = malloc(n + 1);
    ALWAYS(text != NULL);
    memcpy(text, bytes, n);
    text[n] = 0;
    th_weights_init(&w);
    w.format = formats[n ? bytes[0] % 4 : 0];
    size_t first = strcspn(text, "\n");
    for (char *line = text + first; *line == '\n' && w.n < MOST;) {
        char *next = line + 1 + strcspn(line + 1, "\n");
        char end = *next;
        *next = 0;
        add(&w, line + 1);
        *next = end;
        line = next;
    }
    thaw_status status = th_dialect_apply(&w, "fuzz");
    check_answer(status);
    for (size_t i = 0; i < w.n; i++)
        look_at(w.weight[i].tensor.data,
            th_dtype_bytes(TH_F32, th_shape_count(&w.weight[i].tensor.shape)));
    if (status == THAW_OK)
        (void)th_variant_recognise(&w, &backbone);
    th_weights_release(&w);
    free(text);
    return 0;
}
