/* SPDX-License-Identifier: Apache-2.0
 * Owns RandAugment's table: which operations there are, and how strong each is. What they
 * do to pixels is colour.c's and affine.c's. */
#include "randaugment.h"

#include "affine.h"
#include "colour.h"
#include "rng.h"

static void identity(struct th_image *image, double magnitude, uint8_t *copy)
{
    (void)image;
    (void)magnitude;
    (void)copy;
}

static void translate_x(struct th_image *image, double by, uint8_t *copy)
{
    th_translate(image, (int)by, 0, copy);
}

static void translate_y(struct th_image *image, double by, uint8_t *copy)
{
    th_translate(image, 0, (int)by, copy);
}

static void brightness(struct th_image *image, double magnitude, uint8_t *copy)
{
    (void)copy;
    th_adjust_brightness(image, 1 + magnitude);
}

static void saturation(struct th_image *image, double magnitude, uint8_t *copy)
{
    (void)copy;
    th_adjust_saturation(image, 1 + magnitude);
}

static void contrast(struct th_image *image, double magnitude, uint8_t *copy)
{
    (void)copy;
    th_adjust_contrast(image, 1 + magnitude);
}

static void sharpness(struct th_image *image, double magnitude, uint8_t *copy)
{
    th_adjust_sharpness(image, 1 + magnitude, copy);
}

/* 8 - round(bin / 7.5): no bin is half way. */
static void posterize(struct th_image *image, double bits, uint8_t *copy)
{
    (void)copy;
    th_posterize(image, (int)(bits + 0.5));
}

static void solarize(struct th_image *image, double threshold, uint8_t *copy)
{
    (void)copy;
    th_solarize(image, threshold);
}

static void autocontrast(struct th_image *image, double magnitude, uint8_t *copy)
{
    (void)magnitude;
    (void)copy;
    th_autocontrast(image);
}

static void equalize(struct th_image *image, double magnitude, uint8_t *copy)
{
    (void)magnitude;
    (void)copy;
    th_equalize(image);
}

#define SHIFT (150.0 / 331.0)

const struct th_randaugment_op th_randaugment_ops[TH_RANDAUGMENT_OPS] = {
    {"Identity", 0, 0, false, 0, identity},
    {"ShearX", 0, 0.3, true, 0, th_shear_x},
    {"ShearY", 0, 0.3, true, 0, th_shear_y},
    {"TranslateX", 0, SHIFT, true, 'w', translate_x},
    {"TranslateY", 0, SHIFT, true, 'h', translate_y},
    {"Rotate", 0, 30, true, 0, th_rotate},
    {"Brightness", 0, 0.9, true, 0, brightness},
    {"Color", 0, 0.9, true, 0, saturation},
    {"Contrast", 0, 0.9, true, 0, contrast},
    {"Sharpness", 0, 0.9, true, 0, sharpness},
    {"Posterize", 8, 4, false, 0, posterize},
    {"Solarize", 255, 0, false, 0, solarize},
    {"AutoContrast", 0, 0, false, 0, autocontrast},
    {"Equalize", 0, 0, false, 0, equalize},
};

/* torch.linspace in fp32, from both ends to the middle. */
double th_randaugment_magnitude(
    const struct th_randaugment_op *op, int bin, int w, int h)
{
    double side = op->per == 'w' ? w : op->per == 'h' ? h : 1;
    float from = (float)op->from, to = (float)(op->to * side);
    float step = (to - from) / (TH_RANDAUGMENT_BINS - 1);
    if (bin < TH_RANDAUGMENT_BINS / 2)
        return (double)(from + step * (float)bin);
    return (double)(to - step * (float)(TH_RANDAUGMENT_BINS - 1 - bin));
}

void th_randaugment(
    struct th_image *image, uint64_t key, int n_ops, int bin, uint8_t *copy)
{
    for (uint64_t i = 0; i < (uint64_t)n_ops; i++) {
        const struct th_randaugment_op *op =
            &th_randaugment_ops[th_rng_below(key, 2 * i, TH_RANDAUGMENT_OPS)];
        double m = th_randaugment_magnitude(op, bin, image->w, image->h);
        bool minus = op->is_signed && th_rng_below(key, 2 * i + 1, 2);
        op->apply(image, minus ? -m : m, copy);
    }
}
