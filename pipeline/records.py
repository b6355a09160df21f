"""The frozen types that cross from one module to the next, one per arrow, and the closed list of reasons."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum


def digest(text: str) -> str:
    """The SHA-256 of a text in UTF-8, 64 hexadecimal digits; texts, chunks and recipes are known by it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class State(str, Enum):
    """How a page stands (`pages.state`)."""

    QUEUED = "queued"
    FETCHED = "fetched"
    SUMMARIZED = "summarized"
    SKIPPED = "skipped"
    FAILED = "failed"
    DEFERRED = "deferred"


class Outcome(str, Enum):
    """What one run did with a page (`items.outcome`)."""

    WAITING = "waiting"
    SUMMARIZED = "summarized"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    DEFERRED = "deferred"


class Stage(str, Enum):
    """Where an attempt was made (`attempts.stage`)."""

    FETCH = "fetch"
    EXTRACT = "extract"
    MAP = "map"
    REDUCE = "reduce"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says of a page, and what its reader can do."""

    outcome: Outcome
    what: str
    advice: str
    exit_code: int = 3
    counts: bool = False
    """Whether it counts against the page: one that fails so again and again is asked less often, and at last never."""
    repeats: bool = False
    """Whether the same would come of it at once: a model gives the same answer to the same request."""


def _skip(what: str, advice: str) -> Meaning:
    return Meaning(Outcome.SKIPPED, what, advice, exit_code=0)


def _fail(what: str, advice: str) -> Meaning:
    return Meaning(Outcome.FAILED, what, advice, counts=True)


def _refuse(what: str, advice: str) -> Meaning:
    """What is refused here, by the settings, before anybody is asked."""
    return Meaning(Outcome.FAILED, what, advice)


def _unable(what: str) -> Meaning:
    """What a model could not do with a page."""
    return Meaning(Outcome.FAILED, what, _MODEL, counts=True, repeats=True)


def _defer(what: str, advice: str) -> Meaning:
    return Meaning(Outcome.DEFERRED, what, advice, counts=True)


def _wait(what: str, advice: str, exit_code: int) -> Meaning:
    return Meaning(Outcome.WAITING, what, advice, exit_code)


def _same(what: str) -> Meaning:
    return Meaning(Outcome.UNCHANGED, what, "nothing to do", exit_code=0)


_LATER = "nothing to do: a later run asks again"
_LOOK = "look at the page in a browser; take it off the list if it is gone for good"
_MODEL = "try another model: `retry` asks it at once, runs after a day and more"


class Reason(str, Enum):
    """The closed list of reasons: no other word is ever stored as one. `meaning` says what each is."""

    meaning: Meaning

    def __new__(cls, word: str, meaning: Meaning | None = None) -> Reason:
        assert meaning is not None, "each word has a meaning; a look-up by word does not come here"  # noqa: S101
        self = str.__new__(cls, word)
        self._value_ = word
        self.meaning = meaning
        return self

    # The line, the address.
    BAD_URL = "bad_url", _refuse("the line is not a URL that can be fetched", "correct the line in the list")
    BLOCKED_SCHEME = "blocked_scheme", _refuse("only http and https are fetched", "give an http or https address")
    BLOCKED_CREDENTIALS = (
        "blocked_credentials",
        _refuse("the URL carries a user name or a password", "take them out of the URL"),
    )
    BLOCKED_PORT = (
        "blocked_port",
        _refuse("the port is neither 80 nor 443", "`--allow-port` opens it, `--allow-private-network` all"),
    )
    BLOCKED_ADDRESS = (
        "blocked_address",
        _refuse("the address is not public", "`--allow-private-network` opens your own network"),
    )
    # The list.
    LIST = "list", _skip("it is a list of URLs, which are pages of their own", "nothing to do")
    BAD_LIST = "bad_list", _fail("the list, or the rest of it, cannot be read", "look at the list in a browser")
    # The way to the page.
    ROBOTS = "robots", _skip("the site's robots.txt forbids the page", "respect it; `--ignore-robots` on your own site")
    ROBOTS_UNREACHABLE = "robots_unreachable", _defer("the site's robots.txt could not be had", _LATER)
    NOAI = (
        "noai",
        _skip("the page asks not to be read by a model, or not to be indexed", "respect it, or drop `--respect-noai`"),
    )
    DNS_ERROR = "dns_error", _fail("the host name does not exist", _LOOK)
    DNS_TIMEOUT = "dns_timeout", _defer("the host name could not be looked up now", _LATER)
    CONNECT_ERROR = "connect_error", _defer("no connection to the host", _LATER)
    TLS_ERROR = "tls_error", _fail("the certificate of the host is not valid", _LOOK)
    TIMEOUT = "timeout", _defer("the site took too long", _LATER)
    TRUNCATED_BODY = "truncated_body", _defer("the page broke off before its end", _LATER)
    PROTOCOL_ERROR = "protocol_error", _fail("the site does not speak HTTP as it should", _LOOK)
    BAD_ENCODING = "bad_encoding", _fail("the page is packed in a way that cannot be read", _LOOK)
    BAD_REDIRECT = "bad_redirect", _fail("the site redirects to nowhere", _LOOK)
    TOO_MANY_REDIRECTS = "too_many_redirects", _fail("the site redirects more than five times", _LOOK)
    RATE_LIMITED = "rate_limited", _defer("the site asks for a pause", _LATER)
    HOST_DOWN = "host_down", _defer("the host gave no answer to other pages just now", _LATER)
    HTTP_401 = "http_401", _fail("the page wants a login", "save it by other means: logins are not supported")
    HTTP_403 = "http_403", _fail("the site refuses the page", _LOOK)
    HTTP_404 = "http_404", _fail("there is no such page", _LOOK)
    HTTP_410 = "http_410", _fail("the page is gone for good", "take it off the list")
    HTTP_451 = "http_451", _fail("the page is withheld for legal reasons", "take it off the list")
    HTTP_4XX = "http_4xx", _fail("the site refuses the request", _LOOK)
    HTTP_5XX = "http_5xx", _defer("the site has a fault of its own", _LATER)
    NO_CONTENT = "no_content", _fail("the site answers without a page", _LOOK)
    TOO_LARGE = "too_large", _fail("the page is larger than the limit", "save it by other means")
    UNSUPPORTED_TYPE = "unsupported_type", _skip("it is not a page of text", "save it by other means")
    GAVE_UP = (
        "gave_up",
        _refuse("it failed eight times in a row; no run asks for it any more", "take it off the list, or `retry` it"),
    )
    # The text in the page.
    NO_TEXT = "no_text", _fail("no text was found in the page", _LOOK)
    JS_SHELL = "js_shell", _fail("the page is empty without JavaScript", "look for a feed or a print version of it")
    CONSENT_WALL = "consent_wall", _fail("the page shows only a question about cookies", _LOOK)
    PAYWALL = "paywall", _fail("the text is for subscribers", "save it by other means: logins are not supported")
    LOGIN = "login", _fail("the page is a form to log in", "save it by other means: logins are not supported")
    SOFT_404 = "soft_404", _fail("there is no such page, though the site answers as if there were", _LOOK)
    ENCRYPTED = "encrypted", _fail("the document wants a password", "save it by other means")
    EXTRACT_TIMEOUT = "extract_timeout", _fail("taking the text out of the page took too long", _LOOK)
    EXTRACT_MEMORY = "extract_memory", _fail("taking the text out of the page needs too much memory", _LOOK)
    EXTRACT_CRASH = "extract_crash", _fail("the process that takes out the text crashed on the page", _LOOK)
    # The model.
    LLM_DOWN = (
        "llm_down",
        _wait("the model's server cannot be reached; the text is stored", "start the server: the next run goes on", 12),
    )
    LLM_TIMEOUT = "llm_timeout", _wait("the model took too long; the text is stored", "raise `--timeout`", 3)
    LLM_ERROR = (
        "llm_error",
        _refuse(
            "the model's server failed on this page each time", "look at the server's log; the next run asks again"
        ),
    )
    LLM_CONTEXT = (
        "llm_context",
        _refuse("the model was shown less than it was sent", "lower `--num-ctx`, update Ollama"),
    )
    LLM_TRUNCATED = "llm_truncated", _unable("the model found no end to its answer")
    LLM_EMPTY = "llm_empty", _unable("the model answered nothing")
    LLM_UNREAD = (
        "llm_unread",
        _refuse("the model did not call the tool that reads the page", "leave out `--tool-calls always`"),
    )
    OUTPUT_REJECTED = "output_rejected", _unable("what the model wrote is not a summary")
    REDUCE_GREW = "reduce_grew", _unable("the model wrote more than it was given to shorten")
    # The run.
    FETCH_ONLY = (
        "fetch_only",
        _wait("only its text was wanted; it is stored", "nothing to do: `run` summarizes it", 0),
    )
    INTERRUPTED = "interrupted", _wait("the run was stopped", _LATER, 0)
    OUT_OF_TIME = "out_of_time", _wait("`--max-duration` was over", "nothing to do: the next run goes on with it", 0)
    LIMIT = "limit", _wait("the run was told to take fewer pages", "run again, with a larger `--limit`", 0)
    BUG = "bug", _wait("the program itself failed at the page", "report it; in the next run the page comes last", 0)
    FRESH = "fresh", _same("the page was fetched less than `--max-age` ago")
    NOT_MODIFIED = "not_modified", _same("the site says that the page has not changed")
    SAME_RECIPE = "same_recipe", _same("its summary is by this model, these prompts and options already")
    SAME_TEXT = "same_text", _same("the page has the text that it had")


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a list: a URL, or a line that is none (then `reason` says why)."""

    url: str
    """As given; of a bad line, what may be shown of it: escaped, masked, at most 200 characters."""
    key: str
    """The normal form, unique in `pages`."""
    host: str
    """Whom politeness is owed: `host` or `host:port`, in lower case; empty for a bad line."""
    origin: str
    """The list that it came from, and where in it: a folder of bookmarks, a heading, the title of a feed."""
    tags: tuple[str, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    source: str = ""
    """The list alone, as it was given on the command line; empty if `origin` is just that."""


@dataclass(frozen=True, slots=True)
class Document:
    """The main text of a page, as Markdown, with what is known of it. All offsets are in `text`, in characters."""

    text: str
    title: str = ""
    author: str = ""
    site: str = ""
    language: str = ""
    published: str = ""
    hidden_characters: int = 0
    """That stood in the page but are hidden from its reader; they are not in `text`."""
    canonical: str = ""
    """Where the page says that it really lies; nobody goes there."""
    marks: tuple[str, ...] = ()
    """What the page, or the answer that it came with, asks of those who read it by machine: `noai`, `noindex`."""

    @property
    def hash(self) -> str:
        return digest(self.text)


@dataclass(frozen=True, slots=True)
class Task:
    """One page to be worked on, and all that is known of it."""

    page_id: int
    url: str
    host: str
    state: State = State.QUEUED
    etag: str = ""
    last_modified: str = ""
    text_hash: str = ""
    """Of the text that was last fetched; empty before the first."""
    summarized: bool = False
    """Whether that text has a summary, by any recipe."""
    document: Document | None = None
    """The stored text, if it has no summary yet, or is to have another one."""
    recipe: str = ""
    """Of the newest summary, if it is of that text."""
    summarized_hash: str = ""
    """Of the text that the newest summary is of."""
    tags: frozenset[str] = frozenset()
    """Of the lines that it stands in."""
    pauses: int = 0
    """How often its site has asked for a pause in this run, after which the page came again."""
    found: bool = False
    """Whether it stands in no list of the user's own, but only in pages that turned out to be lists."""

    @property
    def waits_for_model(self) -> bool:
        """Whether the page is fetched already and only the model's turn is to come."""
        return self.state is State.FETCHED and self.document is not None

    def to_be_fetched(self) -> Task:
        """The same page, whose site is asked though a text of it waits for the model."""
        return replace(self, state=State.QUEUED)

    def as_if_new(self) -> Task:
        """The same page, of which nothing is known that could spare its site a request, or the model its work."""
        return replace(
            self, etag="", last_modified="", text_hash="", summarized=False, summarized_hash="", document=None
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What a site answered to a request that ended well."""

    url: str
    final_url: str
    status: int
    content_type: str
    """The media type without parameters, in lower case; empty when the site named none."""
    charset: str
    """From the header only; empty when it names none."""
    body: bytes
    etag: str = ""
    last_modified: str = ""
    redirects: tuple[str, ...] = ()
    """The URLs between `url` and `final_url`, with `final_url` last; empty when there was no redirect."""
    marks: tuple[str, ...] = ()
    """As `Document.marks`, from the headers only."""
    canonical: str = ""
    """Where a `Link` header says that the page really lies, as it says it."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Whom all requests for pages are sent to instead of their sites; shown without its credentials."""

    url: str
    """`http://host:port`, no more."""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url.replace("//", "//***@") if self.user or self.password else self.url


@dataclass(frozen=True, slots=True)
class NotModified:
    """The site says that the page is as it was (HTTP 304)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no page or no text: the value that `fetch` and `extract` give instead of raising."""

    reason: Reason
    detail: str = ""
    """For people: at most 500 characters, safe to print."""
    status: int | None = None
    not_before: datetime | None = None
    """For `deferred` reasons: when the site may be asked again (UTC), if it said so."""
    tried: bool = True
    """Whether anybody was asked for this page; if not, it counts as no failure of its own."""


@dataclass(frozen=True, slots=True)
class Later:
    """The page has not ended: the turn of its host is some way off, and no worker waits for it."""

    seconds: float
    """So far off."""
    refusal: Refusal | None = None
    """What the site answered, if it was asked: that it wants a pause first."""


@dataclass(frozen=True, slots=True)
class RobotsFile:
    """A robots.txt as it was had, or that there is none."""

    text: str
    """Its lines without comments; empty if it has no rules, or is not there."""
    status: int
    """Of HTTP; 0: more redirects than are followed."""
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of a text: `text == document.text[start:end]`, and the parts joined are the text."""

    number: int
    start: int
    end: int
    text: str
    tokens: int
    """As counted by the tokenizer, without the model's ratio."""

    @property
    def hash(self) -> str:
        return digest(self.text)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model made it; nothing in it is trusted."""

    name: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `tool_name` is set on tool results, `calls` on what the assistant called."""

    role: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model is offered; `properties` maps a parameter's name to (JSON type, description)."""

    name: str
    description: str
    properties: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the model."""

    messages: tuple[Message, ...]
    num_predict: int
    tools: tuple[ToolSpec, ...] = ()
    schema: dict[str, object] | None = None
    """A JSON schema for the answer; never together with `tools`."""
    again: bool = False
    """The first answer was no good: another one, by another seed and a livelier temperature."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model that counts as one: it ended by itself and says something."""

    text: str
    calls: tuple[ToolCall, ...]
    prompt_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Partial:
    """A summary of one chunk, or of several partial summaries, with what it cost.

    `tool_calls` counts the calls that the model made, `tool_errors` those answered with an error;
    `primed` says that the result was put before the model without its asking.
    """

    summary: str
    tool_calls: int = 0
    tool_errors: int = 0
    primed: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Final:
    """The last step's answer: the summary of a page."""

    summary: str
    key_points: tuple[str, ...]
    flags: tuple[str, ...] = ()
    tool_calls: int = 0
    tool_errors: int = 0
    primed: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The passage of a source that carries a claim best."""

    number: int
    """Of the claim, from 0."""
    sentence: str
    """The claim."""
    start: int
    """Of the passage, in characters of the source; `start` < `end`."""
    end: int
    score: float
    """0–1: the share of the claim's terms, by weight, that stand in the passage; low where nothing carries it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to summarize. Same text and same `hash`: the same summary, so it is not asked for again."""

    model: str
    digest: str
    """The digest of the model's files, as its server tells it."""
    num_ctx: int
    """Noted, but not a part of the hash."""
    options: dict[str, object]
    prompts: dict[str, str]
    hash: str


# Events: what the store writes, each in one transaction.


@dataclass(frozen=True, slots=True)
class Added:
    """Lines of the list have become pages and items of this run; one event is one batch."""

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Pages that are known have become items of this run."""

    page_ids: tuple[int, ...]
    fetched: bool = True
    """Whether their sites are asked; if not, the pages of one site need not wait for each other."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page has a new text, which is stored; the model's turn is next."""

    task: Task
    page: Page
    document: Document
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Unchanged:
    """There is nothing to summarize: `reason` is `not_modified` or `same_text`."""

    task: Task
    reason: Reason
    started_at: datetime
    ended_at: datetime
    page: Page | None = None
    """With `same_text`: the answer, for its new validators."""
    document: Document | None = None
    """Likewise what was in it, for all but the text."""


@dataclass(frozen=True, slots=True)
class Chunked:
    """A text was cut; its chunks are kept, so that they stay where they are."""

    text_hash: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class ChunkSummarized:
    """A map answer: it is never paid for again."""

    task: Task
    chunk_hash: str
    recipe: str
    partial: Partial
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class PartsReduced:
    """A partial reduce's answer, known by the hash of what it was made from: never paid for again."""

    task: Task
    input_hash: str
    recipe: str
    partial: Partial
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Summarized:
    """A page has a new summary."""

    task: Task
    text_hash: str
    recipe: str
    final: Final
    language: str
    method: str
    """`verbatim`, `single` or `map_reduce`."""
    coverage: float
    """0–1: the share of the text's characters that the summary covers."""
    chunks: int
    started_at: datetime
    ended_at: datetime
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Chunk number → why it is not covered."""
    evidence: tuple[Evidence, ...] = ()
    parts: tuple[str, ...] = ()
    """The hashes of the chunks that it was made from, in order, those that are left out too."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What has been learned of a model's vocabulary: kind of script → (prompts seen, most tokens per unit)."""

    model: str
    """Its digest; its name where the server tells none."""
    ratios: Mapping[str, tuple[int, float]]


@dataclass(frozen=True, slots=True)
class HostSeen:
    """What is known of a site by now, so that the next run knows it too. In the table `hosts` it is a row."""

    origin: str
    """`https://a.example:8443`: scheme, host, and the port unless it is the scheme's own."""
    host: str
    """The same without its scheme, as in `Line`: whom politeness is owed."""
    seen_at: datetime
    robots: RobotsFile | None = None
    """In an event, only if it is new."""
    not_before: datetime | None = None
    """Until then it asks not to be asked."""
    pauses: int = 0
    """How many answers in a row were such a wish: HTTP 429 or 503, or any with a `Retry-After`."""
    failures: int = 0
    """How many requests in a row had no answer at all."""
    reason: Reason | None = None
    """Of the last of those."""


@dataclass(frozen=True, slots=True)
class Paused:
    """A site has asked for a pause so short that the page comes again in this run: a try that is not its last."""

    task: Task
    refusal: Refusal
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class NotDone:
    """A page ended for this run without a summary: failed, skipped, deferred or waiting, as its reason says."""

    task: Task
    stage: Stage | None
    """Where; `None` when nothing was tried (the run was stopping)."""
    refusal: Refusal
    started_at: datetime
    ended_at: datetime
    marks: tuple[str, ...] | None = None
    """As `Document.marks`; `None`: nothing is known of them now."""


Event = (
    Added
    | Chosen
    | Fetched
    | Unchanged
    | Chunked
    | ChunkSummarized
    | PartsReduced
    | Summarized
    | Measured
    | HostSeen
    | Paused
    | NotDone
)
