"""Requests to the v2 API: endpoints tried one after the other, errors as etcd's client words them.

Standard library only. Exceptions carry the exit status of etcdctl.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, responses
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corum.cli.flags import Values

EXIT_BAD_ARGUMENTS = 1
EXIT_BAD_CONNECTION = 2
EXIT_SERVER = 4
EXIT_UNHEALTHY = 5
EXIT_MISSING_ARGUMENT = 128

NS_PER_S = 1_000_000_000
REDIRECTS_MAX = 10
FORM = "application/x-www-form-urlencoded"
DEFAULT_ENDPOINTS = "http://127.0.0.1:2379,http://127.0.0.1:4001"


NO_JSON = (
    "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint"
)


class Failure(Exception):
    """End the program with `code`; `text` goes to stderr as it is, with a line end."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def error(code: int, text: str) -> Failure:
    """In the form of key commands: "Error:  <text>"."""
    return Failure(code, f"Error:  {text}")


class ApiError(Exception):
    """An answer that is a refusal: `status` and the JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    def key_text(self) -> str:
        """ "100: Key not found (/a) [7]"."""
        body = self.body
        if "errorCode" not in body:
            return NO_JSON
        return (
            f"{body.get('errorCode', 0)}: {body.get('message', '')} "
            f"({body.get('cause', '')}) [{body.get('index', 0)}]"
        )


class Answer:
    """A good answer."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data

    def json(self) -> dict[str, Any]:
        """The body; every answer of the v2 API is an object."""
        body: Any = json.loads(self.data)
        return body if isinstance(body, dict) else {}  # pyright: ignore[reportUnknownVariableType]

    @property
    def index(self) -> int:
        """X-Etcd-Index."""
        return int(self.headers.get("X-Etcd-Index", "0"))


class Unavailable(Exception):
    """No endpoint could answer; one text for each. `served` when one did, with a 5xx."""

    def __init__(self, texts: Sequence[str], *, served: bool = False) -> None:
        self.texts = texts
        self.served = served
        first = "; ".join(f"error #{n}: {text}\n" for n, text in enumerate(texts))
        super().__init__(f"client: etcd cluster is unavailable or misconfigured; {first}")

    def failure(self, code: int = EXIT_SERVER) -> Failure:
        details = "".join(f"error #{n}: {text}\n" for n, text in enumerate(self.texts))
        return error(code, f"{self}\n{details}")


class Expired(Unavailable):
    """--total-timeout is over."""

    def __init__(self) -> None:
        super().__init__(["context deadline exceeded"])

    def __str__(self) -> str:
        return self.texts[0]

    def failure(self, code: int = EXIT_SERVER) -> Failure:
        return error(code, str(self))


class Api:
    """The cluster behind the global flags."""

    def __init__(self, values: Values) -> None:
        self._debug = values.boolean("debug")
        self._timeout_s = values.integer("timeout") / NS_PER_S
        self._total_s = values.integer("total-timeout") / NS_PER_S
        self._end = monotonic() + self._total_s
        self._authorization = _authorization(values.string("username"))
        self._tls_files = tuple(
            values.string(name) or os.environ.get(f"ETCDCTL_{name.upper().replace('-', '_')}", "")
            for name in ("ca-file", "cert-file", "key-file")
        )
        self.endpoints: list[str] = _endpoints(values)
        if not values.boolean("no-sync"):
            self._sync()

    def begin_again(self) -> None:
        """Another round of a command without end: it has the whole --total-timeout."""
        self._end = monotonic() + self._total_s

    def get(self, path: str, query: Mapping[str, str] | None = None, **options: Any) -> Answer:
        return self.request("GET", path, query=query, **options)

    def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        document: Any = None,
        endpoints: Sequence[str] = (),
        wait: bool = False,
        once: bool = False,
    ) -> Answer:
        """The answer of the first endpoint that gives one. Raises ApiError, Unavailable.

        form: body of key writes; document: JSON body; wait: a long poll, without time limits;
        once: what may have arrived is not sent again, as its answer would mean something else.
        """
        target = quote(path, safe="/:@!$&'()*+,;=~") + (
            f"?{urlencode(sorted(query.items()))}" if query else ""
        )
        body, headers = _body(form, document)
        problems: list[str] = []
        served = False
        for endpoint in endpoints or self.endpoints:
            self._show(verb, endpoint + target, form)
            sent = True
            try:
                answer = self._once(verb, endpoint, target, body, headers, wait=wait)
            except (OSError, HTTPException) as failed:
                problem = _dial_text(endpoint, failed)
                sent = not isinstance(failed, ConnectionRefusedError)
                if isinstance(failed, TimeoutError) and not wait:  # else it is the kernel's
                    if monotonic() >= self._end:
                        raise Expired from None
                    problem = f"client: endpoint {endpoint} exceeded header timeout"
            else:
                if answer.status < 300:
                    return answer
                if answer.status < 500:
                    raise ApiError(answer.status, _refusal(answer))
                served = True
                problem = f"client: etcd member {endpoint} {_trouble(answer)}"
            if once and sent:
                raise error(EXIT_SERVER, problem)
            problems.append(problem)
        raise Unavailable(problems, served=served)

    def _once(
        self,
        verb: str,
        endpoint: str,
        target: str,
        body: bytes | None,
        headers: dict[str, str],
        *,
        wait: bool,
    ) -> Answer:
        """One endpoint, redirections followed."""
        url = endpoint + target
        for _ in range(REDIRECTS_MAX):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https"):
                raise HTTPException(f'unsupported protocol scheme "{parts.scheme}"')
            connection = self._connection(parts.scheme, parts.netloc, wait=wait)
            try:
                where = parts.path + (f"?{parts.query}" if parts.query else "")
                connection.request(verb, where or "/", body, headers | self._authorization)
                response = connection.getresponse()
                location = response.getheader("Location")
                if response.status in (301, 302, 307, 308) and location:
                    url = location
                    continue
                return _answer(response)
            finally:
                connection.close()
        raise HTTPException("client: too many redirects")

    def _connection(self, scheme: str, netloc: str, *, wait: bool) -> HTTPConnection:
        left_s = max(self._end - monotonic(), 0.001)
        timeout_s = None if wait else min(self._timeout_s, left_s)
        if scheme != "https":
            return HTTPConnection(netloc, timeout=timeout_s)
        import ssl

        ca_file, cert_file, key_file = self._tls_files
        context = ssl.create_default_context(cafile=ca_file or None)
        if cert_file:
            context.load_cert_chain(cert_file, key_file or None)
        return HTTPSConnection(netloc, timeout=timeout_s, context=context)

    def _sync(self) -> None:
        """Use all client URLs that the members publish; keep what was given if there are none."""
        if self._debug:
            _say(f"start to sync cluster using endpoints({','.join(self.endpoints)})")
        try:
            members: list[dict[str, list[str]]] = self.get("/v2/members").json().get("members", [])
        except ApiError:
            return
        except Unavailable as problem:
            code = EXIT_SERVER if problem.served else EXIT_BAD_CONNECTION
            raise problem.failure(code) from None
        urls = [url for member in members for url in member.get("clientURLs") or []]
        if urls:
            self.endpoints = urls
        if self._debug:
            _say(f"got endpoints({','.join(self.endpoints)}) after sync")
            _say(f"Cluster-Endpoints: {', '.join(self.endpoints)}")

    def _show(self, verb: str, url: str, form: Mapping[str, str] | None) -> None:
        if self._debug:
            data = "" if form is None else f' -d "{urlencode(form)}"'
            _say(f"cURL Command: curl -X {verb} {url}{data}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _body(form: Mapping[str, str] | None, document: Any) -> tuple[bytes | None, dict[str, str]]:
    if form is not None:
        return urlencode(form, errors="surrogateescape").encode(), {"Content-Type": FORM}
    if document is not None:
        return json.dumps(document).encode(), {"Content-Type": "application/json"}
    return None, {}


def _answer(response: HTTPResponse) -> Answer:
    return Answer(response.status, dict(response.getheaders()), response.read())


def _refusal(answer: Answer) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {"message": f"unexpected status code {answer.status}"}


def _trouble(answer: Answer) -> str:
    if answer.status in (500, 503):
        return "has no leader"
    return f"returns server error [{responses.get(answer.status, '')}]"


def _dial_text(endpoint: str, problem: Exception) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return f"dial tcp {urlsplit(endpoint).netloc}: connect: connection refused"
    return str(problem)


def _authorization(user: str) -> dict[str, str]:
    if not user:
        return {}
    name, colon, password = user.partition(":")
    if not colon:
        from corum.cli.secret import secret

        password = secret("Password: ")
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def _endpoints(values: Values) -> list[str]:
    """From the flags, DNS, the environment, or the two old default ports."""
    domain = values.string("discovery-srv") or os.environ.get("ETCDCTL_DISCOVERY_SRV", "")
    if domain:
        from corum.cli.command import ExitError
        from corum.cli.etcdctl.discovery import discover

        try:
            return list(discover(domain, "", accept_insecure=values.boolean("insecure-discovery")))
        except ExitError as problem:
            raise Failure(EXIT_BAD_ARGUMENTS, str(problem)) from None
    given = next(
        (values.string(n) for n in ("endpoints", "endpoint", "peers") if n in values.changed), ""
    )
    for name in ("ENDPOINTS", "ENDPOINT", "PEERS"):
        given = given or os.environ.get(f"ETCDCTL_{name}", "")
    urls = (given or DEFAULT_ENDPOINTS).split(",")
    return [url if "://" in url else f"http://{url}" for url in urls]
