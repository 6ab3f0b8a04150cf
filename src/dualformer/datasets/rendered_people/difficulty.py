"""How hard rendered people are to see through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PeopleDifficulty:
    """How difficult a clip is. Lengths are fractions of the frame's side. The defaults are plainest."""

    background: float = 0.0
    """0 a flat colour, 1 strong pictures on wall and floor."""
    texture: float = 0.0
    """Strength of the patterns on clothes, 0 to 1."""
    colour: float = 0.0
    """Strength of random colours, 0 (grey) to 1."""
    contrast: float = 1.0
    """How far people and background are held apart in brightness: 1 wide, 0 not at all."""
    variety: float = 0.0
    """Of bodies, clothes, postures, speeds and styles: 0 one adult, 1 anybody."""
    around: float = 0.0
    """Share of clips seen from any side and height; the others are seen from before or from the side at eye level."""
    partner: float = 0.0
    """Share of clips in which the actor has a partner, to whom things are done."""
    bystanders: int = 0
    """Most people besides; the number is drawn from 0 to this, and with a partner there is one at most."""
    smallest: float = 0.8
    """Smallest side of what the actor and the partner take up."""
    largest: float = 0.95
    """Largest side of it; above 1 some of it is out of sight."""
    shake: float = 0.0
    """Largest displacement of the view, zoom and roll with it."""
    sway: float = 0.0
    """How much people who stand still sway, 0 to 1."""
    blur: float = 0.0
    """Longest part of a frame's time that the shutter is open, 0 to 1."""
    shadow: float = 0.0
    """Share of clips with light from one side and shadows on the floor."""
    dark: float = 0.0
    """Share of clips filmed in bad light; the brightness goes down to 5 %."""
    noise: float = 0.0
    """Largest standard deviation of the noise of every pixel and frame, in levels of 255."""
    flicker: float = 0.0
    """Standard deviation of the brightness of whole frames, relative."""
    soft: float = 0.0
    """Share of clips out of focus."""
    compression: float = 0.0
    """Share of clips with the blocks of a coarse codec."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("background", 0, 1), ("texture", 0, 1), ("colour", 0, 1), ("contrast", 0, 1), ("variety", 0, 1),
            ("around", 0, 1), ("partner", 0, 1), ("bystanders", 0, 2), ("smallest", 0.2, 1.3), ("largest", 0.2, 1.3),
            ("shake", 0, 0.1), ("sway", 0, 1), ("blur", 0, 1), ("shadow", 0, 1), ("dark", 0, 1), ("noise", 0, 64),
            ("flicker", 0, 0.3), ("soft", 0, 1), ("compression", 0, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"PeopleDifficulty.{name} is {value}; it must lie between {low} and {high}")
        if self.smallest > self.largest:
            raise ValueError(f"PeopleDifficulty.smallest is {self.smallest}, more than largest ({self.largest})")

    @classmethod
    def at(cls, level: float) -> PeopleDifficulty:
        """Sets all by one number: 0 is one grey person on a flat background, 1 up to three of every kind, anywhere."""
        if not 0 <= level <= 1:
            raise ValueError(f"the level of difficulty is {level}; it must lie between 0 and 1")
        return cls(
            background=level,
            texture=level,
            colour=level,
            contrast=max(0.0, 1 - 1.5 * level),
            variety=level,
            around=level,
            partner=0.45 * min(1.0, 2 * level),
            bystanders=round(2 * level),
            smallest=0.8 - 0.25 * level,
            largest=0.95 + 0.15 * level,
            shake=0.05 * level,
            sway=level,
            blur=0.5 * level,
            shadow=0.6 * level,
            dark=0.35 * level,
            noise=8.0 * level,
            flicker=0.05 * level,
            soft=0.3 * level,
            compression=0.4 * level,
        )
