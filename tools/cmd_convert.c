/* SPDX-License-Identifier: Apache-2.0
 * thaw convert: weights to weights or ONNX, idx: images to a folder of PNGs. */
#include "command.h"
#include "terminal.h"

static int run(struct th_call *call)
{
    struct th_terminal terminal;
    th_terminal_init(&terminal, call->options);
    thaw_events events = th_terminal_events(&terminal);
    thaw_status status =
        thaw_convert(call->args[0], call->args[1], call->options, &events);
    th_terminal_clear(&terminal);
    return th_report(status);
}

const struct th_command th_command_convert = {
    .name = "convert",
    .usage = "IN OUT [options]",
    .about = "weights to .h5, .safetensors or .onnx, or idx:DIR to a folder of PNGs",
    .details =
        "thaw convert resnet18.pth resnet18.h5\n"
        "thaw convert run/best.h5 mine.safetensors     # PyTorch loads it strictly\n"
        "thaw convert run mine.onnx                    # for onnxruntime, OpenCV\n"
        "thaw convert idx:/usr/share/datasets/fashion-mnist clothes --per-class 300\n",
    .bit = THAW_CMD_CONVERT,
    .least = 2,
    .most = 2,
    .run = run,
};
