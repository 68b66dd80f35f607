/* SPDX-License-Identifier: Apache-2.0
 * What this machine can do at all, for the limit column of the tables: multiply-adds on
 * registers, and a triad over arrays that no cache holds. Compiled by machine.py with
 * -DWIDTH=bytes of a vector; prints flop/s and bytes/s (write-allocation not counted). */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

typedef float lanes __attribute__((vector_size(WIDTH)));

/* Short turns, many times: one of them meets no other program. */
enum { CHAINS = 12, TURNS = 1 << 18, ROUNDS = 300, VALUES = 1 << 24, PASSES = 20 };

/* Enough independent chains to hide the latency of a multiply-add. */
static float turn(lanes factor)
{
    lanes sum[CHAINS];
    float all = 0;
    for (int k = 0; k < CHAINS; k++)
        sum[k] = factor * (float)k;
    for (int i = 0; i < TURNS; i++)
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++)
            sum[k] = sum[k] * factor + factor;
    for (int k = 0; k < CHAINS; k++)
        all += sum[k][0];
    return all;
}

static double flops(float seed)
{
    lanes factor = {0};
    float all = 0;
    factor += seed;
    double began = omp_get_wtime();
#pragma omp parallel reduction(+ : all)
    all += turn(factor);
    double took = omp_get_wtime() - began;
    double work = 2.0 * CHAINS * TURNS * (WIDTH / 4) * omp_get_max_threads();
    return all == all ? work / took : 0;
}

static double triad(float *a, const float *b, const float *c, float seed)
{
    double began = omp_get_wtime();
#pragma omp parallel for simd
    for (int i = 0; i < VALUES; i++)
        a[i] = b[i] + seed * c[i];
    return 3.0 * VALUES * sizeof *a / (omp_get_wtime() - began);
}

int main(int argc, char **argv)
{
    float seed = argc > 1 ? (float)atof(argv[1]) : 0.5F;
    float *a = malloc(3 * sizeof *a * VALUES);
    double best = 0, widest = 0;
    if (!a)
        return 1;
#pragma omp parallel for
    for (int i = 0; i < 3 * VALUES; i++)
        a[i] = seed;
    for (int i = 0; i < ROUNDS; i++) {
        double f = flops(seed);
        best = f > best ? f : best;
    }
    for (int i = 0; i < PASSES; i++) {
        double b = triad(a, a + VALUES, a + 2 * VALUES, seed);
        widest = b > widest ? b : widest;
    }
    printf("%.6g %.6g\n", best, widest);
    free(a);
    return 0;
}
