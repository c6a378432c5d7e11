"""Object stores that speak S3, by the variables that every program that speaks S3 reads.

`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_ENDPOINT_URL`, `AWS_REGION`,
or the profile of `~/.aws`.
"""

import os

from pyarrow import fs

from tapeworks.addresses import KEYS

SCHEME = "s3://"
REGION = "us-east-1"
CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S = 10, 60
# With back-off in between; then the error is told.
ATTEMPTS = 4
_DENIED = ("ACCESS_DENIED", "InvalidAccessKeyId", "INVALID_ACCESS_KEY", "SIGNATURE", "FORBIDDEN")


def is_object(name: str) -> bool:
    """Returns whether `name` is the address of an object, and not the path of a file."""
    return name.startswith(SCHEME)


def endpoint() -> str:
    """Returns the address of the service that the environment names; empty: that of AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def region() -> str:
    """Returns the region that the environment names."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or REGION


def file_system(fallback: str = "") -> fs.S3FileSystem:
    """Returns the service that the environment names, or else the one at `fallback`."""
    return fs.S3FileSystem(
        endpoint_override=endpoint() or fallback or None,
        region=region(),
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def refusal(address: str, error: OSError, fallback: str = "") -> str:
    """Returns in one line why a service refused, and what to look at."""
    told = str(error).split("Details:")[0].rstrip(" .;")
    why = f"{address} at {endpoint() or fallback or 'AWS'}: {told}"
    if any(word in told for word in _DENIED):
        why += f"; are {KEYS} in the environment the keys of this service?"
    return why
