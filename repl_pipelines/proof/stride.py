"""How much one statement of a proof is asked to do: about as much as takes a second."""

SECONDS = 1.0
_STEP = 2.0  # the most by which one statement changes the next


class Stride:
    """A number of rows, or of pages; `size` is for the next statement."""

    def __init__(self, size: int) -> None:
        self.size = size

    def took(self, seconds: float) -> None:
        """The last statement did all it was asked to, in so many seconds."""
        factor = min(_STEP, max(1 / _STEP, SECONDS / max(seconds, 1e-3)))
        self.size = max(1, int(self.size * factor))

    def too_long(self) -> bool:
        """The last statement was cancelled: ask for half; False if that is nothing."""
        self.size //= 2
        return self.size > 0
