"""One file for each model family; importing the package registers them all, in the files' order."""

import importlib
import pkgutil

from ..family import FAMILIES

__all__ = ["FAMILIES", "supported"]

for _name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_name}")


def supported() -> str:
    """For messages and help."""
    return ", ".join(f"{family.name} ({family.title})" for family in FAMILIES.values())
