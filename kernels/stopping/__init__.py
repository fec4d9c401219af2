"""Where a generation ends: stop sequences of tokens on the device, stop strings in the text."""

from kernels.stopping.strings import Shown, StopStream, StopStrings
from kernels.stopping.tokens import Stopped, StopTokens, advance

__all__ = ["Shown", "StopStream", "StopStrings", "StopTokens", "Stopped", "advance"]
