/* SPDX-License-Identifier: Apache-2.0
 * Owns Philox4x32-10 and what is drawn from it. Holds no state. */
#include "rng.h"

#include <math.h>

uint64_t th_rng_mix(uint64_t key, uint64_t coordinate)
{
    uint64_t z = key ^ (coordinate + 0x9e3779b97f4a7c15u + (key << 6) + (key >> 2));
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t th_rng_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

uint64_t th_rng_mix_name(uint64_t key, const char *name)
{
    return th_rng_mix(key, th_rng_name(name));
}

void th_rng_block(uint64_t key, uint64_t counter, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t th_rng_u64(uint64_t key, uint64_t counter)
{
    uint32_t w[4];
    th_rng_block(key, counter, w);
    return (uint64_t)w[0] << 32 | w[1];
}

float th_rng_uniform(uint64_t key, uint64_t counter)
{
    uint32_t w[4];
    th_rng_block(key, counter / 4, w);
    return (float)(w[counter % 4] >> 8) * 0x1p-24f;
}

uint64_t th_rng_below(uint64_t key, uint64_t counter, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)th_rng_u64(key, counter) * n) >> 64);
}

float th_rng_normal(uint64_t key, uint64_t counter)
{
    uint32_t w[4];
    th_rng_block(key, counter, w);
    double u1 = ((double)w[0] + 1.0) * 0x1p-32; /* (0,1]: the logarithm is finite */
    double u2 = (double)w[1] * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u1)) * cos(6.283185307179586 * u2));
}

/* Uniform in (0,1], 53 bits. */
static double above_zero(uint64_t key, uint64_t counter)
{
    return (double)((th_rng_u64(key, counter) >> 11) + 1) * 0x1p-53;
}

/* Logarithm of a Gamma(shape) number: Marsaglia and Tsang, "A simple method for generating
 * gamma variables", 2000; for shapes below 1 by Gamma(a) = Gamma(a + 1) U^(1/a). Small
 * shapes give numbers that only their logarithm can hold. A try takes two blocks of the
 * stream; one in twenty is rejected, at most. */
static double log_gamma_number(uint64_t key, double shape)
{
    double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d),
           log_v = 0;
    for (uint64_t at = 1;; at += 2) {
        double x = (double)th_rng_normal(key, at), v = 1 + c * x;
        if (v <= 0)
            continue;
        log_v = 3 * log(v);
        if (log(above_zero(key, at + 1)) < x * x / 2 + d - d * exp(log_v) + d * log_v)
            break;
    }
    return log(d) + log_v + (shape < 1 ? log(above_zero(key, 0)) / shape : 0);
}

/* G(a) / (G(a) + G(b)). Where both underflow all the same (shapes below 1e-300): 1/2. */
double th_rng_beta(uint64_t key, double a, double b)
{
    double x = log_gamma_number(th_rng_mix_name(key, "a"), a);
    double y = log_gamma_number(th_rng_mix_name(key, "b"), b);
    return isfinite(y - x) ? 1 / (1 + exp(y - x)) : 0.5;
}

void th_rng_permutation(uint64_t key, int64_t n, int64_t *order)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)th_rng_below(key, (uint64_t)i, (uint64_t)i + 1);
        int64_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}
