"""Random requests to every route: no internal error, and each answer is one that the API describes."""

import json
import subprocess
import sys
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import process, save_adapter, save_clip, service

TOKEN = "a-token-of-the-tests-0123"
# What the generated requests name, so that they get beyond 404. "below" is loaded and unloaded.
CONFIG = """
[parameters]
"path.name" = "one"
"query.model" = "one"

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429]

[[operations]]
include-name = "DELETE /v1/adapters/{name}"
parameters = { "path.name" = "below" }
"""
EXCLUDED = (
    # By the schema any bytes are a video: the API has to refuse most of them.
    "positive_data_acceptance",
    # Starlette names the methods of the first of two routes of a path only.
    "allow_header_conformance",
    # DELETE cancels a job, whose segments stay.
    "use_after_free",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    save_adapter(folder / "one")
    save_adapter(folder / "more/below", seed=1)
    save_clip(folder / "clip.mp4")
    (folder / "token").write_text(f"{TOKEN}\n")
    return folder


@pytest.mark.parametrize("examples, least", [(4, 500), (200, 2000)], ids=["few", "many"])
def test_generated_requests_get_answers_that_the_api_describes(root, tmp_path, examples, least):
    pytest.importorskip("schemathesis", reason="make test-web installs it")
    (tmp_path / "config.toml").write_text(CONFIG)
    arguments = [root / "one", "--adapters", root / "more", "--label-studio", root, "--workers", 1]
    arguments += ["--token-file", root / "token", "--temporary", tmp_path, "--max-job-seconds", 60]
    with process(*arguments) as client:
        # A process of its own: its plugin for pytest warns, and here warnings are errors.
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", tmp_path / "config.toml", "run"]
        command += [f"{client.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"]
        command += ["--checks", "all", "--exclude-checks", ",".join(EXCLUDED), "--request-timeout", 60]
        command += ["--no-color", "--warnings", "off"]
        command += ["--max-examples", examples, "--seed", "1", "--generation-database", "none"]
        command += ["--report", "json", "--report-json-path", tmp_path / "report.json"]
        command += [] if examples > 10 else ["--phases", "examples,coverage,fuzzing"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads((tmp_path / "report.json").read_text())
        cases, operations = report["test_cases"], report["operations"]
        print(cases, report["running_time"])
        assert operations["tested"] == operations["total"] >= 24
        assert cases["generated"] >= least and cases["errored"] == cases["with_failures"] == 0
        client.token = TOKEN
        assert client.post("/v1/models/one/predict", root / "clip.mp4").status == 200
        client.process.terminate()
        assert "Traceback" not in client.process.communicate()[1]


NAMES = st.sampled_from(["one", "below", "two", "..", ""]) | st.text(max_size=20)
ROUTES = (
    "/v1/models",
    "/v1/models/{}",
    "/v1/models/{}/predict",
    "/v1/predict",
    "/v1/embed",
    "/v1/explain",
    "/v1/jobs",
    "/v1/jobs/{}",
    "/v1/adapters",
    "/v1/adapters/{}",
    "/v1/{}",
    "/v2",
    "/v2/models/{}",
    "/v2/models/{}/infer",
    "/label-studio/{}/setup",
    "/label-studio/{}/predict",
    "/page/{}",
    "/docs/{}",
    "/metrics",
    "/health/live",
    "/{}",
)
VALUES = st.sampled_from(["one", "cls", "1", "0", "-1", "1e999", "nan", "9" * 400, ""]) | st.text(max_size=20)
KEYS = st.sampled_from(["model", "top_k", "class", "method", "steps", "features", "window", "hop"])
HEADERS = st.sampled_from(
    [
        "Content-Type",
        "Accept",
        "Range",
        "Origin",
        "Sec-Fetch-Site",
        "Cookie",
        "If-None-Match",
        "X-Forwarded-For",
    ]
    + ["Content-Encoding", "Authorization", "Accept-Encoding", "If-Modified-Since", "X-HTTP-Method-Override"]
)
KINDS = [
    "application/json",
    "multipart/form-data; boundary=a",
    "text/html",
    "video/mp4",
    "bytes=0-,-1",
    "gzip",
]
PRINTED = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
FIELDS = st.sampled_from(["folder", "name", "tasks", "label_config", "schema", "inputs", "data", "id"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=5), x, max_size=4),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def client(root):
    with service([root / "one"], below=root / "more", label_studio=root, temporary=root) as found:
        yield found


@settings(
    max_examples=500, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck]
)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]),
    route=st.sampled_from(ROUTES),
    name=NAMES,
    query=st.lists(st.tuples(KEYS | st.text(max_size=5), VALUES), max_size=4),
    headers=st.dictionaries(HEADERS, st.sampled_from(KINDS) | PRINTED, max_size=3),
    body=st.none() | st.binary(max_size=200) | JSON,
    safe=st.sampled_from(["", "/", "/.;:@&=+$,~*'()!"]),
)
def test_random_requests_never_are_an_internal_error(client, method, route, name, query, headers, body, safe):
    path = route.format(quote(name, safe=safe, errors="surrogatepass"))
    if query:
        pairs = [[quote(x, safe=safe, errors="surrogatepass") for x in pair] for pair in query]
        path += "?" + "&".join("=".join(pair) for pair in pairs)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    answer = client(method, path, data, headers=headers)
    assert answer.status < 500, (answer.status, answer.body)
    if answer.status >= 400 and route.startswith("/v1") and method != "HEAD":
        (text,) = answer.json.values()
        assert [*answer.json] == ["detail"] and text and text.isprintable()
    assert answer.headers["x-content-type-options"] == "nosniff"
