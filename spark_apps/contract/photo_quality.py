"""What counts as a poor photo: limits of the columns sharpness, brightness, contrast and odd_shape."""

from __future__ import annotations

BLANK = 2.0
"""A photo with less contrast (of 127.5 at most) is blank: the noise of a covered lens stays below."""
DARK = 30.0
"""A photo with less brightness (of 255) is dark: about 1 % of the light of white in sRGB."""
BLURRED = 50.0
"""A photo that is not blank, with less sharpness, is blurred. docs/reading.md tells what it was judged on."""
ODD_SHAPE = 4.0
"""A photo more than so many times as long as wide has an odd shape; panoramas of telephones reach that."""

POOR = ("blank", "dark", "blurred")
"""What `validate` counts, as it is called in report and check."""
