"""A tail-biting convolutional code with soft decoding: 64 bits become 64 x rate values that tolerate many errors.

Source: the 64-state codes of Larsen, "Short convolutional codes with maximal free distance" (IEEE Trans. IT, 1973),
used tail-biting (start state = end state, so no bit is spent on an end): Ma & Wolf, "On tail biting convolutional
codes" (1986). Decoding is Viterbi's on the circularly extended word, which is how those codes are decoded in
practice.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

MEMORY = 6  # bits a state remembers
STATES = 1 << MEMORY
GENERATORS = {2: (0o133, 0o171), 3: (0o133, 0o145, 0o175), 4: (0o135, 0o135, 0o147, 0o163)}
"""Taps by number of coded values a bit, newest bit first, octal as in Larsen's tables."""
OVERLAP = 40  # steps decoded twice at each end; decisions settle within five times the memory


def encode(bits: npt.NDArray[np.uint8], rate: int) -> npt.NDArray[np.uint8]:
    """Return [N, K * rate] coded bits of [N, K] bits."""
    register = [np.roll(bits, lag, axis=1) for lag in range(MEMORY + 1)]
    coded = np.zeros((*bits.shape, rate), dtype=np.uint8)
    for output, taps in enumerate(GENERATORS[rate]):
        for lag in range(MEMORY + 1):
            if taps >> (MEMORY - lag) & 1:
                coded[:, :, output] ^= register[lag]
    return coded.reshape(len(bits), -1)


def decode(soft: torch.Tensor, rate: int) -> npt.NDArray[np.uint8]:
    """Return the [N, K] bits whose code word agrees best with `soft`.

    Args:
        soft: [N, K * rate], in [-1, 1]: +1 a certain 0, -1 a certain 1, 0 unknown.
    """
    count, steps = len(soft), soft.shape[1] // rate
    before, signs = (table.to(soft.device) for table in _tables(rate))
    gains = soft.reshape(count, steps, rate).to(torch.float32) @ signs  # [N, K, 2 * STATES]
    order = [step % steps for step in range(-OVERLAP, steps + OVERLAP)]
    metric = torch.zeros(count, STATES, device=soft.device)
    choices = []
    for step in order:
        options = metric[:, before].reshape(count, 2, STATES) + gains[:, step].reshape(count, 2, STATES)
        metric, choice = options.max(dim=1)
        choices.append(choice)
    state = metric.argmax(dim=1, keepdim=True)
    bits = torch.empty(count, len(order), dtype=torch.uint8, device=soft.device)
    for step in range(len(order) - 1, -1, -1):
        bits[:, step] = (state >> (MEMORY - 1)).squeeze(1).to(torch.uint8)
        state = ((state & (STATES // 2 - 1)) << 1) | choices[step].gather(1, state)
    return bits[:, OVERLAP : OVERLAP + steps].cpu().numpy()


@lru_cache(maxsize=4)
def _tables(rate: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for both ways into each state, the state before [2 * STATES] and the signs sent [rate, 2 * STATES]."""
    after = np.arange(STATES)
    before = np.stack([((after & (STATES // 2 - 1)) << 1) | oldest for oldest in (0, 1)])  # [2, STATES]
    register = (after >> (MEMORY - 1) << MEMORY)[None] | before  # newest bit on top
    sums = [[(int(value) & taps).bit_count() for value in register.reshape(-1)] for taps in GENERATORS[rate]]
    signs = 1.0 - 2.0 * (np.array(sums) % 2)
    return torch.from_numpy(before.reshape(-1)), torch.from_numpy(signs.astype(np.float32))
