"""`ServeSettings`: limits of the service, and the sizes of its passes and pools."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServeSettings:
    """Limits for requests, and how long the service waits.

    Attributes:
        max_bytes: bytes of a video.
        max_seconds: duration of a video.
        max_pixels: pixels of a frame.
        max_job_bytes: bytes of a video of a job.
        max_job_seconds: duration of a video of a job.
        queue: predictions and embeddings that wait or are computed; more are answered 429.
        explain_queue: explanations that wait or are computed.
        job_queue: jobs that are received, wait or run.
        batch_size: views per pass.
        batch_wait: seconds to wait for requests that are being decoded, to compute them in one pass.
        workers: processes that decode.
        timeout: seconds to decode a video; of a job, to decode its next window.
        explain_timeout: seconds to compute an explanation.
        job_timeout: seconds to compute a job.
        upload_timeout: seconds to receive a video.
        grace: seconds that jobs get to finish after SIGTERM, and then requests.
        keep_jobs: seconds that the result of a job is kept.

    Raises:
        ValueError: a value is not positive.
    """

    max_bytes: int = 50_000_000
    max_seconds: float = 600.0
    max_pixels: int = 4096 * 2304
    max_job_bytes: int = 2_000_000_000
    max_job_seconds: float = 4 * 3600.0
    queue: int = 32
    explain_queue: int = 4
    job_queue: int = 8
    batch_size: int = 8
    batch_wait: float = 0.005
    workers: int = 2
    timeout: float = 30.0
    explain_timeout: float = 300.0
    job_timeout: float = 4 * 3600.0
    upload_timeout: float = 300.0
    grace: float = 30.0
    keep_jobs: float = 3600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "batch_wait"):
                raise ValueError(f"{name} must be positive, got {value}")
