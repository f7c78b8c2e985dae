"""The learning rate of the published recipe, scaled to any number of epochs."""

WARMUP = 5 / 200
DECAYS = ((160 / 200, 0.01), (180 / 200, 0.0001))


def learning_rate(base: float, *, epoch: int, num_epochs: int) -> float:
    """Rate for an epoch counted from 0.

    Linear warm-up over 5 of 200 epochs (one at the least), then base, x 0.01 after 160, x 0.0001 after 180.
    """
    warmup_epochs = max(1, round(num_epochs * WARMUP))
    if epoch < warmup_epochs:
        return base * (epoch + 1) / warmup_epochs
    factor = 1.0
    for start, decay in DECAYS:
        if epoch >= round(num_epochs * start):
            factor = decay
    return base * factor
