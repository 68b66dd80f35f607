/* SPDX-License-Identifier: Apache-2.0
 * make_images DIR CLASSES PER_CLASS SIZE: small images that a network can tell apart, as
 * DIR/class_K/NNN.ppm. Class k has stripes of its own direction and colour, with noise. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static unsigned next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u; /* Numerical Recipes */
    return *state >> 24;
}

static int write_image(const char *path, int k, int size, unsigned seed)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return 1;
    unsigned state = seed * 2654435761u + 1;
    int shift = (int)next_random(&state) % 8;
    fprintf(f, "P6\n%d %d\n255\n", size, size);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            int along = k % 3 == 0 ? x : k % 3 == 1 ? y : x + y;
            int light = (along + shift) / 4 % 2 ? 160 : 40;
            for (int c = 0; c < 3; c++) {
                int tint = c == k % 3 ? 60 : 0;
                fputc(light + tint + (int)next_random(&state) % 32, f);
            }
        }
    return fclose(f) != 0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: make_images DIR CLASSES PER_CLASS SIZE\n", stderr);
        return 2;
    }
    int classes = atoi(argv[2]), per_class = atoi(argv[3]), size = atoi(argv[4]);
    char path[4096];
    mkdir(argv[1], 0777);
    for (int k = 0; k < classes; k++) {
        snprintf(path, sizeof path, "%s/class_%d", argv[1], k);
        mkdir(path, 0777);
        for (int i = 0; i < per_class; i++) {
            snprintf(path, sizeof path, "%s/class_%d/%03d.ppm", argv[1], k, i);
            if (write_image(path, k, size, (unsigned)(k * 1000 + i))) {
                perror(path);
                return 1;
            }
        }
    }
    return 0;
}
