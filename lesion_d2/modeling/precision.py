"""bfloat16 on processors that lack it."""

import logging

import torch
from detectron2.utils.logger import log_first_n


def warn_of_slow_bfloat16(instead: str) -> None:
    """Warn, once, where the CPU has no instructions for bfloat16 and computes it in software.

    The config is not changed: its figures must not depend on the machine.

    Args:
        instead: config key and value that avoid bfloat16.
    """
    capabilities = torch.cpu.get_capabilities()
    if not any("bf16" in name and has for name, has in capabilities.items()):
        log_first_n(
            logging.WARNING,
            "the config asks for bfloat16, which this processor has no instructions for: "
            f"{instead} is several times as fast here",
            key="message",
        )
