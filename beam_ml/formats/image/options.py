"""How images become rows of numbers, as settings."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from beam_ml.core.spec import Settings

__all__ = ["DEFAULT", "Options", "Pixels"]


class Pixels(Settings):
    """How the pixels of an image become features: height · width · channels of them, row by row, channels innermost.

    >>> Pixels(height=28, width=28, color="grey").features
    784
    """

    called: ClassVar[str] = "image.Options"

    height: Annotated[int, Field(ge=1, le=4096, description="pixels of a column, to which images are resized")] = 32
    width: Annotated[int, Field(ge=1, le=4096, description="pixels of a row, to which images are resized")] = 32
    color: Annotated[Literal["rgb", "grey"], Field(description="three channels, or one: the luma of ITU-R 601-2")] = (
        "rgb"
    )
    fit: Annotated[
        Literal["stretch", "crop", "pad"],
        Field(
            description="what an image of another shape goes through: it is stretched, cropped around its middle, or padded "
            "with the background"
        ),
    ] = "stretch"
    resample: Annotated[
        Literal["nearest", "bilinear", "bicubic", "lanczos"], Field(description="the filter that resizes")
    ] = "bilinear"
    scale: Annotated[
        Literal["unit", "byte"], Field(description="pixels from 0 (black) to 1, or from 0 to 255 (white)")
    ] = "unit"
    background: Annotated[
        int, Field(ge=0, le=255, description="the grey under what is transparent and beside what is padded")
    ] = 255
    max_pixels: Annotated[
        int, Field(ge=1, le=1 << 28, description="pixels of an image; one that claims more is rejected unread")
    ] = 1 << 25
    max_bytes: Annotated[
        int, Field(ge=1, le=1 << 30, description="bytes of an image; one that has more is rejected unread")
    ] = 64 << 20

    @property
    def channels(self) -> int:
        """Numbers per pixel."""
        return 3 if self.color == "rgb" else 1

    @property
    def features(self) -> int:
        """Numbers per image."""
        return self.height * self.width * self.channels

    @property
    def matrix_width(self) -> int:
        """What `features.matrix.width` must be."""
        return self.features


class Options(Pixels):
    """How files of images become rows.

    >>> Options(label="none").features
    3072
    """

    called: ClassVar[str] = "image.Options"

    label: Annotated[
        Literal["folder", "none"], Field(description="whether the folder that an image lies in is its label")
    ] = "folder"


DEFAULT = Options()
