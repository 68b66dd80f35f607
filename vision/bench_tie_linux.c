/* SPDX-License-Identifier: Apache-2.0
 * Owns what keeps a training from outliving the bench that began it, on Linux. */
#include "bench.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

void th_bench_tie(long parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((long)getppid() != parent) /* it died before */
        _exit(1);
}
