"""How sure one can be of a share: of one that was counted, and of the difference of two."""

from __future__ import annotations

import math
from typing import Final

#: Standard deviations on either side that leave out one interval in twenty.
Z_95: Final = 1.96


def wilson(hits: int, of: int, z: float = Z_95) -> tuple[float, float]:
    """Return both ends of Wilson's score interval for a share of ``hits`` in ``of``; 0 and 1 for nothing.

    Wilson, E. B. (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if of <= 0:
        return 0.0, 1.0
    share, weight = hits / of, z * z / of
    middle = share + weight / 2
    spread = z * math.sqrt((share * (1 - share) + weight / 4) / of)
    return max(0.0, (middle - spread) / (1 + weight)), min(1.0, (middle + spread) / (1 + weight))


def difference(first: tuple[int, int], second: tuple[int, int], z: float = Z_95) -> tuple[float, float]:
    """Return both ends of the interval for the first share less the second, each as (hits, of).

    Newcombe, R. G. (1998), "Interval estimation for the difference between independent proportions", method 10.
    """
    (low1, high1), (low2, high2) = wilson(*first, z), wilson(*second, z)
    share1, share2 = (hits / of if of else 0.5 for hits, of in (first, second))
    middle = share1 - share2
    return (
        middle - math.hypot(share1 - low1, high2 - share2),
        middle + math.hypot(high1 - share1, share2 - low2),
    )
