"""What a conversion did, in a few lines, and what it has to ask."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lesion_d2.convert.output import AUDIT
from lesion_d2.convert.pairs import AuditRow
from lesion_d2.data.converted import SPLITS
from lesion_d2.images.masks import BORDER_SHARE


@dataclass(frozen=True)
class Summary:
    """What a conversion to ``output`` did.

    ``splits`` has numbers of pairs, ``lacking`` those that groups were too large to give a split,
    ``groups`` is the number of groups of images of one lesion, and ``rows`` are the audit, sorted.
    """

    output: Path
    splits: dict[str, int]
    lacking: dict[str, int]
    groups: int
    rows: list[AuditRow]
    foreground: int

    def count(self, action: str) -> int:
        """Return the number of audit rows with this action."""
        return sum(row.action == action for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0, or 2 when something was excluded."""
        return 2 if self.count("excluded") else 0

    def __str__(self) -> str:
        sizes = ", ".join(f"{split} {self.splits[split]}" for split in SPLITS)
        counts = (
            f"{sum(self.splits.values())} pairs ({sizes}), {self.count('excluded')} excluded, "
            f"{self.count('accepted')} notes, {self.count('ignored')} ignored, "
            f"{self.groups} groups: {self.output}"
        )
        reasons = Counter(row.reason for row in self.rows)
        between, inverted = reasons["mask_values_between"], reasons["mask_maybe_inverted"]
        lines = []
        if between and self.foreground == 255:
            lines.append(
                f"question: {between} masks have more than two values (mask_values_between in "
                f"{AUDIT}); were they saved as JPEG, or resized? --foreground 128 takes all above "
                "128 as lesion, as the official scoring does"
            )
        if inverted:
            lines.append(
                f"question: {inverted} masks are lesion on more than {BORDER_SHARE:.0%} of their "
                f"border (mask_maybe_inverted in {AUDIT}); are lesion and skin swapped?"
            )
        if unlisted := reasons["not_in_groups_file"]:
            lines.append(
                f"question: {unlisted} images are not in the table of --groups "
                f"(not_in_groups_file in {AUDIT}) and count as alone; does it write their names "
                "otherwise?"
            )
        lines += [
            f"question: {split} lacks {count} of {count + self.splits[split]} images, as groups "
            "must stay together; are the groups in split.json right?"
            for split, count in self.lacking.items()
        ]
        return "\n".join([*lines, counts])
