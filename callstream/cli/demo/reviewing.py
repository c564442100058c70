"""A scripted reviewer: claims what is held, and approves it, as a person would over the API."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from urllib.parse import quote

from callstream.cli.client import Api, ApiError

REVIEWER = "demo-reviewer"
LOOK_SECONDS = 0.5
MOST_LISTED = 50


@dataclass
class Reviewer:
    """Its `reviewed` are the tasks that it has decided, with why they were held."""

    api: Api
    reviewed: dict[str, str] = field(default_factory=dict)

    async def stay(self) -> None:
        """Decide whatever is held, until cancelled."""
        while True:
            # A gateway that is busy, or a task that somebody else had first: the next look tells.
            with contextlib.suppress(ApiError):
                for row in (await self.api.review("GET", f"?limit={MOST_LISTED}"))["reviews"]:
                    if row["id"] not in self.reviewed:
                        await self.approve(row["id"], str(row["held"]))
            await asyncio.sleep(LOOK_SECONDS)

    async def approve(self, task: str, why: str) -> None:
        """Claim a held task and approve it. Raises ApiError when somebody else has it, or it is not held."""
        path = f"/{quote(task, safe='')}"
        await self.api.review("POST", f"{path}/claim", json={"reviewer": REVIEWER})
        verdict = {"reviewer": REVIEWER, "verdict": "approve"}
        await self.api.review("POST", path, json=verdict)
        self.reviewed[task] = why
