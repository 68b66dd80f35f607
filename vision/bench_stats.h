/* SPDX-License-Identifier: Apache-2.0
 * What a few trainings on the same validation images allow to say: intervals of an
 * accuracy, and of the difference of two. All intervals are of 95 %. */
#ifndef TH_BENCH_STATS_H
#define TH_BENCH_STATS_H

#include "thaw.h"

/* Which images a training got right: '1', '0', or '-' for one that could not be read, in
 * the order of the listing; the same images for every training. */
typedef const char *th_marks;

/* Share of '1' among '1' and '0'; NaN without any. */
double th_bench_accuracy(th_marks marks);

/* 0.975 quantile of Student's t, df > 0 not necessarily whole. */
double th_student(double df);

/* Wilson 1927: of a share p seen in n images. */
thaw_interval th_wilson(double p, double n);

/* Half the t interval of the mean of k values; NaN for k < 2. */
double th_spread(const double *values, int k);

/* Mean of a - b over images and seeds: a[s] and b[s] had the same seed. */
struct th_difference {
    double mean;
    thaw_interval interval;
};

/* Images and seeds are two crossed samples: the variance of the mean is that of the
 * images' means over n, plus that of the seeds' means over k, which counts what belongs to
 * neither alone twice: on the safe side. As Agresti and Min (2005) do for matched pairs, two
 * images are added that stand for half a win and half a loss each and for a tie. The quantile is
 * Student's with Welch and Satterthwaite's degrees of freedom. */
struct th_difference th_paired(const th_marks *a, const th_marks *b, int k);

/* Of scores that are no share of images, as average precision is none: seeds alone, Student's
 * interval of the k differences; it is NaN for k < 2. */
struct th_difference th_paired_scores(const double *a, const double *b, int k);

#endif
