"""`Jobs`: whenever a job is cancelled, its place and its video are free, and its status says so."""

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest

from conftest import SMALL
from videossp.classifier import Classifier
from videossp.serving.jobs import Jobs
from videossp.serving.settings import ServeSettings


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("ended_by", ["cancel", "close"])
def test_a_job_that_waits_is_cancelled_at_any_moment(turns, ended_by, tmp_path):
    """`turns` of the event loop after its start. The thread is held, so that it cannot begin."""
    classifier = Classifier.create(SMALL, num_classes=2, method="linear")
    removed, statuses, go_on = [], [], threading.Event()
    (tmp_path / "video").touch()

    async def main():
        jobs = Jobs(ServeSettings(), lambda job: statuses.append(job.status))
        jobs._thread.submit(go_on.wait)
        started = []
        for number in range(2):
            async with AsyncExitStack() as stack:
                stack.enter_context(jobs.gate.enter())
                stack.callback(removed.append, number)
                started.append(jobs.start("a", classifier, tmp_path / "video", stack, window=1.0))
        assert jobs.gate.inside == 2 and not removed
        for _ in range(turns):
            await asyncio.sleep(0)
        if ended_by == "cancel":
            jobs.cancel(started[1].id)
            await asyncio.wait_for(started[1].finished.wait(), 60)
            assert removed == [1] and jobs.gate.inside == 1 and started[1].status == "cancelled"
            jobs.cancel(started[0].id)
        go_on.set()
        await jobs.close()
        assert jobs.gate.inside == 0 and jobs.running() == 0

    try:
        asyncio.run(main())
    finally:
        go_on.set()
    assert sorted(removed) == [0, 1] and statuses == ["cancelled"] * 2
