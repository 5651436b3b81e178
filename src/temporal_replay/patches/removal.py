"""Decides whether a patch may be removed from workflow code: `Patch.verdict`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Patch(BaseModel):
    """A patch, the histories that need it, and the verdict.

    Attributes:
        in_code: `patched` or `deprecate_patch`; "" if no call of the patch was found in the code.
        old: Recordings that take the old branch.
        markers: Recordings with a marker of the patch.
        open_old, open_markers: The same counts of open workflows; None if no namespace was given.
        unknown_because: Why another history may need the patch; "" if all histories were examined.
        unresolved_calls: Number of patch calls in the code whose patch id could not be read from the source.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    in_code: str
    old: tuple[str, ...]
    markers: tuple[str, ...]
    open_old: int | None = None
    open_markers: int | None = None
    unknown_because: str = ""
    unresolved_calls: int = 0

    @property
    def verdict(self) -> str:
        """What to do with the patch. Removal is only recommended if every history was examined and none needs it."""
        if self.old or self.open_old:
            return "keep both branches"
        needs_marker = bool(self.markers or self.open_markers)
        if self.in_code == "deprecate_patch" and needs_marker:
            return "keep deprecate_patch"
        if not self.in_code and self.unresolved_calls:
            return f"unknown: {self.unresolved_calls} patch calls in the code have an id that can't be read"
        if not self.in_code and needs_marker:
            return "restore deprecate_patch: a history has its marker"
        if self.unknown_because:
            return f"unknown: {self.unknown_because}"
        unless = "" if self.open_old is not None else ". Check open workflows too: --address"
        if self.in_code == "patched":
            return f"the old branch can be removed (keep deprecate_patch): no history needs it{unless}"
        return f"can be removed: no history needs it{unless}" if self.in_code else "removed"
