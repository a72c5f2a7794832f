"""`videossp serve`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_device, chosen, device_of
from videossp.cli.options import add_option, add_options, group_of
from videossp.cli.output import print_message

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

LIMITS = {
    "max_bytes": "bytes of a video",
    "max_seconds": "duration of a video",
    "max_pixels": "pixels of a frame",
    "max_job_bytes": "bytes of a long video, which is a job",
    "max_job_seconds": "duration of a long video",
    "queue": "predictions at once; more are answered 429",
    "explain_queue": "explanations at once",
    "job_queue": "jobs at once",
    "timeout": "seconds to decode a video",
    "explain_timeout": "seconds to compute an explanation",
    "job_timeout": "seconds to compute a job",
    "upload_timeout": "seconds to receive a video",
    "grace": "seconds to finish jobs after SIGTERM, and then requests",
    "keep_jobs": "seconds that results of jobs are kept",
}
SPEED = {
    "batch_size": "views per pass",
    "batch_wait": "seconds to wait for other requests",
    "workers": "processes that decode",
}


def serve(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Answer requests over HTTP with one adapter or many: a web page and a REST API."""
    from videossp.model.precision import Precision
    from videossp.serving.settings import ServeSettings

    group = group_of(parser, "adapters")
    text = "adapter folders, run folders or exported .onnx models, loaded at the start"
    group.add_argument("folders", type=str, nargs="*", metavar="ADAPTER", help=text)
    add_option(group, "adapters", str, "folder whose adapters requests may load and unload")
    add_option(group, "load_all", bool, "load all adapters of that folder at the start", default=False)
    add_option(group, "backbone", str, "weights of the backbone, if they have moved")
    add_option(group, "precision", Precision | None, "of matrix products", shown="that of the training")
    add_device(group)
    group = group_of(parser, "network")
    add_option(group, "host", str, "name or address to listen on", default="127.0.0.1")
    add_option(group, "port", int, "0: a free one", default=8000)
    add_option(group, "token_file", str, "file whose first line requests must carry as bearer token")
    text = "no token where other machines reach it, directly or by a proxy"
    group.add_argument("--insecure", action="store_true", help=text)
    add_option(group, "label_studio", str, "folder whose files tasks of Label Studio may name")
    add_options(group_of(parser, "limits"), ServeSettings, LIMITS, names=LIMITS)
    add_options(group_of(parser, "speed"), ServeSettings, SPEED, names=SPEED)
    group = group_of(parser, "output")
    add_option(group, "temporary", str, "where videos are kept while they are computed", shown="the system's")
    add_option(group, "log_requests", bool, "write a line per request to stderr", default=False)

    def run(args: "Namespace") -> int:
        settings = ServeSettings(**chosen(args, [*LIMITS, *SPEED]))
        if not args.folders and args.adapters is None:
            raise ValueError("name at least one ADAPTER, or a folder of adapters with --adapters")
        if args.load_all and args.adapters is None:
            raise ValueError("--load-all true needs a folder, --adapters FOLDER")
        if not 0 <= args.port <= 65535:
            raise ValueError(f"--port must be 0 to 65535, got {args.port}")
        for name in ("adapters", "label_studio", "temporary"):
            if args[name] is not None and not os.path.isdir(args[name]):
                raise ValueError(f"--{name.replace('_', '-')} {args[name]}: no such folder")
        try:
            from videossp.serving.serve import is_loopback, listening, read_token
        except ImportError as error:
            raise ValueError(
                f"videossp serve needs its extra: pip install 'videossp[serve]' ({error})"
            ) from None
        token = None if args.token_file is None else read_token(Path(args.token_file))
        local = is_loopback(args.host)
        if token is None and not local and not args.insecure:
            raise ValueError(
                f"--host {args.host} is reached from other machines: give --token-file FILE, or --insecure"
            )
        from videossp.serving.decoders import MODULES
        from videossp.system.worker_pool import start_server

        sock = listening(args.host, args.port)  # before the adapters are loaded, which takes seconds
        with sock:
            start_server(MODULES)
            from videossp.serving.adapters import Adapters
            from videossp.serving.api import make_app
            from videossp.serving.label_studio import LabelStudioFiles
            from videossp.serving.serve import LOCAL_NAMES, log_to_stderr, new_server
            from videossp.serving.service import Service

            adapters = Adapters(
                device_of(args),
                precision=args.precision,
                backbone=args.backbone,
                below=None if args.adapters is None else Path(args.adapters),
                report=print_message,
            )
            for folder in args.folders:
                adapters.add(Path(folder))
            if args.load_all:
                adapters.load_all()
            service = Service(adapters, settings, args.temporary and Path(args.temporary))
            # With a token, pages of other sites can do nothing under another name of this machine.
            only_local = local and token is None and not args.insecure
            app = make_app(
                service,
                token=token,
                hosts=LOCAL_NAMES | {args.host.lower()} if only_local else None,
                label_studio=args.label_studio and LabelStudioFiles(Path(args.label_studio)),
            )

            def started(url: str) -> None:
                names = [x.name for x in adapters.all()]
                if args.json:
                    line = json.dumps({"url": url, "models": names}, ensure_ascii=False)
                else:
                    counts = f"adapters: {', '.join(names) or 'none'}; backbones: {adapters.backbones()}"
                    line = f"{url} (page), {url}/docs (API); {counts}"
                print(line, flush=True)

            log_to_stderr(args.log_requests)
            try:
                service.uploads.open()
            except OSError as error:
                text = f"videos cannot be kept in {service.uploads.parent}: {error.strerror}"
                raise OSError(f"{text}; choose another folder with --temporary") from error
            try:
                new_server(sock, app, service, started).run(sockets=[sock])
            finally:
                service.uploads.close()
            print_message("stopped")
        return 0

    return run
