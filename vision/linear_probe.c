/* SPDX-License-Identifier: Apache-2.0
 * Owns the linear probe: multinomial logistic regression by L-BFGS (Liu and Nocedal 1989,
 * Mathematical Programming 45) and the folds in which it judges.
 *
 * Five folds, stratified. Each is judged by a fit to the four others, whose l2 was chosen
 * before by fits to three of them and the log loss of the fourth: no image has a say in
 * what judges it, but that the features' mean and deviation (no labels) are of all. */
#include "linear_probe.h"

#include "error.h"
#include "mem.h"

#include <math.h>
#include <string.h>

enum { FOLDS = 5, HISTORY = 10, MOST_STEPS = 200, COLUMNS = 64 };

static const double l2_grid[] = {
    1, 1e-1, 1e-2, 1e-3, 1e-4}; /* each begins at the last */
enum { N_L2 = sizeof l2_grid / sizeof l2_grid[0] };

static const double enough_gradient = 1e-5; /* largest entry, loss being about 1 */
static const double enough_progress = 1e-9; /* of the loss in a step, relative */

/* ---- Loss and gradient ---- */

struct problem {
    const struct th_labelled *x;
    const bool *use;
    double n_use, l2;
    double *residual; /* [n][classes]: probabilities less indicators, by n_use */
    double *losses;   /* [n], of each row */
    int64_t size;     /* of w: classes (values + 1) */
};

/* logits of row i into p, then softmax(p) in place; returns -log p[label]. */
static double predict(
    const struct th_labelled *x, const double *w, int64_t i, double *p)
{
    int64_t width = x->values + 1;
    double most = -INFINITY, sum = 0;
    for (int c = 0; c < x->n_classes; c++) {
        p[c] = w[c * width + x->values] +
               th_dot(w + c * width, x->x + i * x->values, x->values);
        most = fmax(most, p[c]);
    }
    double own = p[x->label[i]];
    for (int c = 0; c < x->n_classes; c++)
        sum += p[c] = exp(p[c] - most);
    for (int c = 0; c < x->n_classes; c++)
        p[c] /= sum;
    return log(sum) + most - own;
}

/* g[c][from ... to) = sum_i residual[i][c] x[i][j] + l2 w, in order of i. */
static void gradient_columns(
    const struct problem *p, const double *w, double *g, int64_t from, int64_t to)
{
    const struct th_labelled *x = p->x;
    int64_t width = x->values + 1;
    for (int c = 0; c < x->n_classes; c++)
        for (int64_t j = from; j < to; j++)
            g[c * width + j] = p->l2 * w[c * width + j];
    for (int64_t i = 0; i < x->n; i++) {
        if (!p->use[i])
            continue;
        for (int c = 0; c < x->n_classes; c++) {
            double r = p->residual[i * x->n_classes + c];
            for (int64_t j = from; j < to; j++)
                g[c * width + j] += r * x->x[i * x->values + j];
        }
    }
}

static double evaluate(const struct problem *p, const double *w, double *g)
{
    const struct th_labelled *x = p->x;
    int64_t width = x->values + 1;
    double loss = 0;
#pragma omp parallel for num_threads(th_threads_for(x->threads, x->n * p->size))
    for (int64_t i = 0; i < x->n; i++) {
        double *r = p->residual + i * x->n_classes;
        if (!p->use[i])
            continue;
        p->losses[i] = predict(x, w, i, r);
        r[x->label[i]] -= 1;
        for (int c = 0; c < x->n_classes; c++)
            r[c] /= p->n_use;
    }
#pragma omp parallel for num_threads(th_threads_for(x->threads, x->n * p->size))
    for (int64_t from = 0; from < x->values; from += COLUMNS)
        gradient_columns(
            p, w, g, from, from + COLUMNS < x->values ? from + COLUMNS : x->values);
    for (int c = 0; c < x->n_classes; c++) {
        const double *row = w + c * width;
        loss += p->l2 / 2 * th_dot(row, row, x->values);
        g[c * width + x->values] = 0;
    }
    for (int64_t i = 0; i < x->n; i++) {
        if (!p->use[i])
            continue;
        loss += p->losses[i] / p->n_use;
        for (int c = 0; c < x->n_classes; c++)
            g[c * width + x->values] += p->residual[i * x->n_classes + c];
    }
    return loss;
}

/* ---- L-BFGS ---- */

struct lbfgs {
    int64_t size;
    int n, next;                               /* pairs kept; where the next one goes */
    double *s[HISTORY], *y[HISTORY];           /* steps, changes of the gradient */
    double rho[HISTORY], alpha[HISTORY];       /* 1 / s'y; room */
    double *w, *g, *direction, *new_g, *old_w; /* w is the caller's */
    double *memory;
};

static thaw_status lbfgs_init(struct lbfgs *b, int64_t size, double *w)
{
    *b = (struct lbfgs){.size = size, .w = w};
    b->memory = th_alloc((size_t)size, (2 * HISTORY + 4) * sizeof *b->memory);
    if (!b->memory)
        return THAW_E_MEMORY;
    double *at = b->memory;
    for (int i = 0; i < HISTORY; i++, at += 2 * size) {
        b->s[i] = at;
        b->y[i] = at + size;
    }
    b->g = at;
    b->direction = at + size;
    b->new_g = at + 2 * size;
    b->old_w = at + 3 * size;
    return THAW_OK;
}

static void add(double *to, double factor, const double *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += factor * from[i];
}

/* direction = -H g by the two loops (Nocedal and Wright, algorithm 7.4). */
static void choose_direction(struct lbfgs *b)
{
    int64_t n = b->size;
    double scale = 1 / sqrt(th_dot(b->g, b->g, n)); /* the first step is one long */
    for (int64_t i = 0; i < n; i++)
        b->direction[i] = -b->g[i];
    for (int back = 1; back <= b->n; back++) {
        int k = (b->next - back + HISTORY) % HISTORY;
        b->alpha[k] = b->rho[k] * th_dot(b->s[k], b->direction, n);
        add(b->direction, -b->alpha[k], b->y[k], n);
        if (back == 1)
            scale = 1 / (b->rho[k] * th_dot(b->y[k], b->y[k], n));
    }
    for (int64_t i = 0; i < n; i++)
        b->direction[i] *= b->n ? scale : fmin(1, scale);
    for (int back = b->n; back >= 1; back--) {
        int k = (b->next - back + HISTORY) % HISTORY;
        double beta = b->rho[k] * th_dot(b->y[k], b->direction, n);
        add(b->direction, b->alpha[k] - beta, b->s[k], n);
    }
}

/* Halve the step until the loss falls by 1e-4 of what the slope promises (Armijo). The
 * loss is convex, so that s'y > 0 but for rounding. False: no step helps any more. */
static bool search(struct lbfgs *b, const struct problem *p, double *loss)
{
    enum { MOST_HALVINGS = 30 };
    double slope = th_dot(b->g, b->direction, b->size), step = 1;
    memcpy(b->old_w, b->w, (size_t)b->size * sizeof *b->w);
    for (int i = 0; i < MOST_HALVINGS; i++, step /= 2) {
        memcpy(b->w, b->old_w, (size_t)b->size * sizeof *b->w);
        add(b->w, step, b->direction, b->size);
        double now = evaluate(p, b->w, b->new_g);
        if (now <= *loss + 1e-4 * step * slope) {
            *loss = now;
            return true;
        }
    }
    memcpy(b->w, b->old_w, (size_t)b->size * sizeof *b->w);
    return false;
}

static void remember(struct lbfgs *b)
{
    double *s = b->s[b->next], *y = b->y[b->next], *swap = b->g;
    for (int64_t i = 0; i < b->size; i++) {
        s[i] = b->w[i] - b->old_w[i];
        y[i] = b->new_g[i] - b->g[i];
    }
    b->g = b->new_g;
    b->new_g = swap;
    double along = th_dot(s, y, b->size);
    if (!(along > 1e-10 * th_dot(y, y, b->size)))
        return;
    b->rho[b->next] = 1 / along;
    b->next = (b->next + 1) % HISTORY;
    b->n += b->n < HISTORY;
}

static double largest(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

static void minimise(struct lbfgs *b, const struct problem *p, double *loss)
{
    *loss = evaluate(p, b->w, b->g);
    for (int step = 0; step < MOST_STEPS; step++) {
        double before = *loss;
        if (largest(b->g, b->size) <= enough_gradient)
            return;
        choose_direction(b);
        if (!search(b, p, loss))
            return;
        remember(b);
        if (before - *loss <= enough_progress * fabs(before))
            return;
    }
}

thaw_status th_logistic_fit(
    const struct th_labelled *x, const bool *use, double l2, double *w, double *loss)
{
    struct problem p = {.x = x, .use = use, .l2 = l2};
    struct lbfgs b;
    p.size = x->n_classes * (x->values + 1);
    for (int64_t i = 0; i < x->n; i++)
        p.n_use += use[i];
    p.residual = th_alloc((size_t)x->n, (size_t)x->n_classes * sizeof *p.residual);
    p.losses = th_alloc((size_t)x->n, sizeof *p.losses);
    thaw_status status = lbfgs_init(&b, p.size, w);
    if (!p.residual || !p.losses)
        status = THAW_E_MEMORY;
    if (status == THAW_OK)
        minimise(&b, &p, loss);
    th_free(b.memory);
    th_free(p.residual);
    th_free(p.losses);
    return status;
}

/* ---- Folds ---- */

struct folds {
    const struct th_labelled *x;
    int *fold; /* [n] */
    bool *use; /* [n], room */
    double *w; /* [classes][values + 1], room */
    double *p; /* [classes], room */
};

/* Rows dealt out class by class: folds are as even as can be, in each class too. */
static thaw_status deal(const struct th_labelled *x, int *fold)
{
    int64_t *next = th_alloc((size_t)x->n_classes, sizeof *next);
    if (!next)
        return THAW_E_MEMORY;
    for (int c = 1; c < x->n_classes; c++)
        next[c] = next[c - 1] + x->count[c - 1];
    for (int64_t i = 0; i < x->n; i++)
        fold[i] = (int)(next[x->label[i]]++ % FOLDS);
    th_free(next);
    return THAW_OK;
}

/* Fit to all folds but these two. */
static thaw_status fit_without(struct folds *f, int a, int b, double l2)
{
    double loss = 0;
    for (int64_t i = 0; i < f->x->n; i++)
        f->use[i] = f->fold[i] != a && f->fold[i] != b;
    return th_logistic_fit(f->x, f->use, l2, f->w, &loss);
}

/* Mean log loss of a fold, and how many of it are right. */
static double judge(const struct folds *f, int fold, int64_t *right)
{
    double loss = 0, n = 0;
    *right = 0;
    for (int64_t i = 0; i < f->x->n; i++) {
        if (f->fold[i] != fold)
            continue;
        int best = 0;
        loss += predict(f->x, f->w, i, f->p);
        n++;
        for (int c = 1; c < f->x->n_classes; c++)
            best = f->p[c] > f->p[best] ? c : best;
        *right += best == f->x->label[i];
    }
    return n > 0 ? loss / n : 0;
}

static thaw_status judge_fold(struct folds *f, int fold, int64_t *right)
{
    int inner = (fold + 1) % FOLDS;
    double best_l2 = l2_grid[0], least = INFINITY;
    size_t bytes = (size_t)(f->x->n_classes * (f->x->values + 1)) * sizeof *f->w;
    memset(f->w, 0, bytes);
    for (int i = 0; i < N_L2; i++) {
        TRY(fit_without(f, fold, inner, l2_grid[i]));
        double loss = judge(f, inner, right);
        best_l2 = loss < least ? l2_grid[i] : best_l2;
        least = fmin(loss, least);
    }
    TRY(fit_without(f, fold, fold, best_l2));
    judge(f, fold, right);
    return THAW_OK;
}

/* Mean 0 and variance 1 (by n); a value that never changes becomes 0. */
static void standardise(struct th_labelled *x)
{
    for (int64_t j = 0; j < x->values; j++) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < x->n; i++)
            mean += x->x[i * x->values + j];
        mean /= (double)x->n;
        for (int64_t i = 0; i < x->n; i++) {
            x->x[i * x->values + j] -= mean;
            square += x->x[i * x->values + j] * x->x[i * x->values + j];
        }
        double deviation = sqrt(square / (double)x->n);
        for (int64_t i = 0; deviation > 0 && i < x->n; i++)
            x->x[i * x->values + j] /= deviation;
    }
}

thaw_status th_linear_probe(struct th_labelled *x, struct th_linear_probe *out)
{
    struct folds f = {.x = x};
    int64_t right = 0, all = 0;
    *out = (struct th_linear_probe){0};
    standardise(x);
    f.fold = th_alloc((size_t)x->n, sizeof *f.fold);
    f.use = th_alloc((size_t)x->n, sizeof *f.use);
    f.w = th_alloc((size_t)x->n_classes, (size_t)(x->values + 1) * sizeof *f.w);
    f.p = th_alloc((size_t)x->n_classes, sizeof *f.p);
    thaw_status status = f.fold && f.use && f.w && f.p ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = deal(x, f.fold);
    for (int i = 0; i < FOLDS && status == THAW_OK; i++) {
        status = judge_fold(&f, i, &right);
        all += right;
    }
    double p = (double)all / (double)x->n;
    *out = (struct th_linear_probe){p, sqrt(p * (1 - p) / (double)x->n)};
    th_free(f.fold);
    th_free(f.use);
    th_free(f.w);
    th_free(f.p);
    return status;
}
