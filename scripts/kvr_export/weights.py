"""The tensors of a model, handed out by name."""

from typing import Optional

from torch import Tensor


class Weights:
    """Remembers what was taken, so that a tensor which a network forgets is found (`left`)."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = state
        self.left = set(self.state)
        self.prefix = ""

    def below(self, prefix: str) -> "Weights":
        """The same tensors, named from `prefix` on."""
        part = object.__new__(Weights)
        part.state, part.left, part.prefix = self.state, self.left, f"{self.prefix}{prefix}."
        return part

    def get(self, name: str) -> Optional[Tensor]:
        self.left.discard(self.prefix + name)
        return self.state.get(self.prefix + name)

    def __getitem__(self, name: str) -> Tensor:
        if (tensor := self.get(name)) is None:
            raise ValueError(f"the model has no tensor {self.prefix}{name}")
        return tensor

    def pair(self, name: str) -> tuple[Tensor, Optional[Tensor]]:
        """The weight of a layer, and its bias where it has one."""
        return self[f"{name}.weight"], self.get(f"{name}.bias")
