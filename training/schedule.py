"""Learning rate schedules of the published recipes, scaled to any number of epochs."""

import math

WARMUP = 5 / 200
DECAYS = ((160 / 200, 0.01), (180 / 200, 0.0001))


def learning_rate(lr_schedule: str, base: float, *, epoch: int, share: float = 0.0, num_epochs: int) -> float:
    """Learning rate in an epoch (counted from 0); share: fraction of its steps that are done, used by cosine_7_16 only.

    cosine: half a cosine, from base in epoch 0 to 0 after the last epoch.
    cosine_7_16: base cos(7 pi t / 16) after fraction t of all steps (Sohn et al. 2020, section 2.3).
    constant: base.
    steps: linear warm-up over 5 of 200 epochs (at least one), then base, x 0.01 after 160, x 0.0001 after 180.
    """
    if lr_schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * epoch / num_epochs))
    if lr_schedule == "cosine_7_16":
        return base * math.cos(7 * math.pi * (epoch + share) / (16 * num_epochs))
    if lr_schedule == "constant":
        return base
    warmup_epochs = max(1, round(num_epochs * WARMUP))
    if epoch < warmup_epochs:
        return base * (epoch + 1) / warmup_epochs
    factor = 1.0
    for start, decay in DECAYS:
        if epoch >= round(num_epochs * start):
            factor = decay
    return base * factor
