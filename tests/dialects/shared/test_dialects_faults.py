import pytest

from headgate.core.bounds import input_bound
from headgate.core.errors import UpstreamBusy, UpstreamRefused
from headgate.dialects.faults import LONGEST, classify, redact

# (status, code, type, message) as the providers word them → kind
KNOWN = [
    (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check", "quota"),
    (429, "rate_limit_exceeded", "requests", "Rate limit reached for gpt-5 in organization on requests", "rate_limit"),
    (429, None, "rate_limit_error", "This request would exceed your organization's rate limit", "rate_limit"),
    (400, "context_length_exceeded", None, "This model's maximum context length is 8192 tokens", "context_length"),
    (400, None, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
    (400, "INVALID_ARGUMENT", None, "The input token count (1200000) exceeds the maximum", "context_length"),
    (413, "rate_limit_exceeded", "tokens", "Request too large. Please reduce your message size", "context_length"),
    (400, "content_filter", None, "The response was filtered due to the prompt", "content_policy"),
    (401, "invalid_api_key", None, "Incorrect API key provided: sk-abc", "auth"),
    (400, "INVALID_ARGUMENT", None, "API key not valid. Please pass a valid API key. API_KEY_INVALID", "auth"),
    (403, None, "permission_error", "Your key has no access", "auth"),
    (
        401,
        None,
        None,
        "You have insufficient permissions for this operation. Missing scopes: api.responses.write. Check"
        " that you have the correct role.",
        "not_found",
    ),
    (
        401,
        None,
        None,
        "You have insufficient permissions for this operation. Missing scopes: model.read, model.request.",
        "auth",
    ),
    (403, "model_not_found", None, "Project does not have access to model `x`", "not_found"),
    (404, "model_not_found", None, "The model `x` does not exist", "not_found"),
    (400, "model_not_found", None, "The requested model 'x' does not exist.", "not_found"),
    (402, None, None, "Insufficient Balance", "quota"),
    (400, "billing_hard_limit_reached", "invalid_request_error", "Billing hard limit has been reached", "quota"),
    (400, None, "invalid_request_error", "Billing hard limit has been reached", "quota"),
    (403, None, "PERMISSION_DENIED", "This API method requires billing to be enabled", "quota"),
    (None, None, None, "Error: Your account has insufficient credits", "quota"),
    (400, None, None, "Your credit balance is too low to access the API", "quota"),
    (503, None, None, "The engine is currently overloaded", "overloaded"),
    (529, None, "overloaded_error", "Overloaded", "overloaded"),
    (None, None, "overloaded_error", "Overloaded", "overloaded"),
    (200, "429", None, "Too many requests", "rate_limit"),
    (500, None, "server_error", "The server had an error", "unavailable"),
    (502, None, None, "", "unavailable"),
    (408, None, None, "", "timeout"),
    (504, None, None, "", "timeout"),
    (409, None, None, "", "unavailable"),
    (422, None, None, "field required", "bad_request"),
    (400, "tool_use_failed", "invalid_request_error", "Failed to call a function", "invalid_answer"),
    (None, "INVALID_TOOL_GENERATION", None, "", "invalid_answer"),
    (None, None, None, "something odd", "invalid_answer"),
]


@pytest.mark.parametrize(("status", "code", "type", "message", "kind"), KNOWN)
def test_kinds(status: int | None, code: str | None, type: str | None, message: str, kind: str) -> None:
    found = classify(status=status, headers={}, message=message, code=code, type=type)
    assert found.kind == kind
    assert found.upstream_status == status
    assert found.native_code == (code or type)


# What one client with one key can have a provider say: it chooses fields, the names of tools and models, ids and texts.
FORGED = [
    "Invalid schema for function 'get_billing_info': None is not of type 'string'",
    "billing: Extra inputs are not permitted",
    "insufficient_quota: Extra inputs are not permitted",
    "invalid_api_key: Extra inputs are not permitted",
    "invalid_api_key[0]: Extra inputs are not permitted",
    "invalid_api_key.x[0]: a wording that nobody knows",
    "credit balance, x: Extra inputs are not permitted",
    "Your credit balance is too low to access the API. x: Extra inputs are not permitted",
    "invalid api key. x: Input should be a valid string",
    "Bad request: Incorrect API key provided: Field required",
    "Incorrect API key provided is not a valid model ID",
    "API key not valid. Please pass a valid API key does not exist",
    "payment required: must be string",
    "This organization has been disabled.: property is unknown",
    "Unknown tool: billing_account",
    "No tool output found for tool call invalid_api_key.",
    "[{'type': 'value_error', 'input': 'Incorrect API key. Insufficient quota. Payment required.'}]",
    "tools.0.name: 'out of credits' does not match '^[a-z]+$'",
    "Invalid API key: " + "a name so long that what is wrong with it was cut off " * 10,
    "Rate limit reached? Too many requests, we are overloaded, try again later",
]


@pytest.mark.parametrize("status", [400, 413, 422, 200, None])
@pytest.mark.parametrize("message", FORGED)
def test_what_a_client_sent_and_is_told_again_says_nothing_of_our_account(status: int | None, message: str) -> None:
    """Else one request with such a name would have each provider rest for a minute, for everybody."""
    found = classify(status=status, headers={}, message=message, code=None, type="invalid_request_error")
    assert found.kind in ("bad_request", "not_found")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, "not_found"),
        (405, "bad_request"),
        (409, "unavailable"),
        (413, "bad_request"),
        (415, "bad_request"),
        (422, "bad_request"),
        (500, "unavailable"),
        (503, "overloaded"),
        (504, "timeout"),
    ],
)
@pytest.mark.parametrize(
    "message",
    [
        "Response with id 'resp_invalid_api_key' not found.",
        "The model `Incorrect API key provided` does not exist or you do not have access to it.",
        "Incorrect API key provided",
        "Unsupported media type: invalid_api_key",
        "You exceeded your current quota, please check your plan and billing details.",
    ],
)
def test_a_status_that_is_about_what_was_asked_for_is_believed(status: int, kind: str, message: str) -> None:
    assert classify(status=status, message=message).kind == kind


# What an operator has to hear of, as providers word it: nobody can use such an account.
GONE = [
    (400, None, None, "Invalid API key: check the key of your project", "auth"),
    (400, None, None, "Bad request: Incorrect API key provided", "auth"),
    (
        400,
        None,
        None,
        "[400] Incorrect API key provided: sk-ab***yz. You can find your API key in the console.",
        "auth",
    ),
    (
        400,
        None,
        None,
        "Incorrect API key provided: na***ys. You can obtain an API key from https://console.x.ai.",
        "auth",
    ),
    (400, "400", None, "API Key not found. Please pass a valid API key.", "auth"),
    (400, "400", "INVALID_ARGUMENT", "API key expired. Please renew the API key.", "auth"),
    (400, "API_KEY_INVALID", "INVALID_ARGUMENT", "API key expired. Please renew the API key.", "auth"),
    (400, None, "invalid_request_error", "This organization has been disabled.", "auth"),
    (400, None, None, "invalid_api_key", "auth"),
    (404, "invalid_api_key", None, "whatever", "auth"),
    (500, "invalid_api_key", None, "whatever", "auth"),
    (None, None, None, "Error code: 400 - Invalid API key", "auth"),
    (401, None, None, "input: field", "auth"),
    (403, "permission-denied", None, "Access to the chat endpoint is denied.", "auth"),
    (
        400,
        None,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access",
        "quota",
    ),
    (
        400,
        None,
        None,
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing",
        "quota",
    ),
    (402, None, None, "Insufficient credits: add more. Unknown field", "quota"),
    (
        429,
        None,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota." + " * Quota exceeded for metric" * 20,
        "quota",
    ),
    (200, "402", None, "Provider returned error: Insufficient Balance", "quota"),
]


@pytest.mark.parametrize(("status", "code", "type", "message", "kind"), GONE)
def test_an_account_that_is_gone_is_known_for_it(
    status: int | None, code: str | None, type: str | None, message: str, kind: str
) -> None:
    assert classify(status=status, message=message, code=code, type=type).kind == kind


def test_what_one_prompt_violates_is_no_permission_that_our_key_lacks() -> None:
    """xAI says both with the same status and code; one such prompt must not have the provider rest for everybody."""
    violates = (
        "Content violates usage guidelines. Team: t, API key ID: k, Model: m, Failed check: SAFETY_CHECK_TYPE_BIO"
    )
    assert classify(status=403, code="permission-denied", message=violates).kind == "content_policy"


def test_a_rate_limit_that_points_to_the_pages_of_billing_is_one() -> None:
    message = "Rate limit reached for m on tokens per day. Upgrade at https://console.groq.com/settings/billing"
    assert classify(status=429, code="rate_limit_exceeded", type="tokens", message=message).kind == "rate_limit"


def test_classes_follow_kinds() -> None:
    assert isinstance(classify(status=429, headers={}, message="slow down"), UpstreamBusy)
    assert isinstance(classify(status=401, headers={}, message=""), UpstreamRefused)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5", "retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, 86_400.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert classify(status=429, headers=headers, message="").retry_after == seconds


# As providers word it where no header says it.
WAITS = [
    ("Rate limit reached for gpt-4 on requests per min. Limit: 3 / min. Please try again in 20s. Contact us", 20.0),
    (
        "Rate limit reached (TPM): Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s. Visit https://x.",
        9.816,
    ),
    ("Limit: 10000 / min. Please try again in 6ms.", 0.006),
    ("Please try again in 1m47.5854s. Visit https://console.groq.com/docs/rate-limits", 107.5854),
    ("Please try again in 2h3m4s.", 7384.0),
    ("Please try again in 850ms", 0.85),
    ("You exceeded your current quota.\nPlease retry in 25.512s.", 25.512),
    (
        "have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 3 seconds. Please go",
        3.0,
    ),
    ("Rate limit is exceeded. Try again in 30 seconds.", 30.0),
    ("Please wait 1 minute and 30 seconds before you ask again", 90.0),
    ("Please retry after 99999999 seconds", 86_400.0),
    ("Please try again in 2 days", 86_400.0),
    ("Try again in 5s. Or, try again in 2 s", 2.0),
    ("Rate limit for model `try again in 9h` reached", None),
    ("\"Please try again in 9h.\" is what you said, 'retry after 9h' too", None),
    ("Please try again in a few moments", None),
    ("Please try again in 20 steps", None),
    ("Please try again later", None),
    ("Wait, retry 5/5 in 3.32s", None),
    ("", None),
]


@pytest.mark.parametrize(("message", "seconds"), WAITS)
def test_a_wait_that_only_the_message_of_a_rate_limit_names_is_read(message: str, seconds: float | None) -> None:
    found = classify(status=429, message=message)
    assert found.retry_after == (None if seconds is None else pytest.approx(seconds))
    assert found.kind == "rate_limit" or seconds is None


def test_what_a_header_says_goes_first_and_no_other_answer_names_a_wait() -> None:
    message = "Please try again in 20s"
    assert classify(status=429, headers={"retry-after": "3"}, message=message).retry_after == 3.0
    for status in (400, 404, 413, 500, 503):
        assert classify(status=status, message=message).retry_after is None
    assert classify(status=None, message=f"No rate limit. {message}", type="invalid_request_error").retry_after is None


def test_a_wait_that_is_named_inside_a_stream_or_behind_a_router_is_read() -> None:
    message = "Rate limit reached for organization o (TPM): Limit 1, Used 1. Please try again in 6s."
    assert classify(status=None, code="rate_limit_exceeded", message=message).retry_after == 6.0
    assert classify(status=200, code="429", message=message).retry_after == 6.0


def test_an_account_that_is_used_up_stays_so_whatever_wait_is_named() -> None:
    found = classify(status=429, code="insufficient_quota", message="You exceeded your current quota. Try again in 5s.")
    assert found.kind == "quota"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123456",
        "sk-ant-api03-abcdefgh",
        "AIzaSyA1234567890abcdef",
        "gsk_abcdefghijklmnop1234",
        "xai-abcdefghijklmnop1234",
        "Bearer abcdefgh12345678",
        "hg-abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    ],
)
def test_keys_are_taken_out(secret: str) -> None:
    assert secret not in redact(f"bad key {secret}, see docs")
    assert redact(f"bad key {secret}, see docs").endswith("see docs")


def test_messages_are_cut_and_cleaned() -> None:
    assert len(redact("x" * 10_000)) == LONGEST
    assert redact("a\x1b[31mb\x00c") == "a [31mb c"
    assert "secret1234" not in redact("GET https://h/v1?key=secret1234&alt=sse failed")
    assert classify(status=500, headers={}, message="").message


def test_bound_grows_with_text_messages_and_media() -> None:
    assert input_bound(300, 1, 0) > 100
    assert input_bound(300, 2, 0) > input_bound(300, 1, 0)
    assert input_bound(0, 0, 1) > 1500
