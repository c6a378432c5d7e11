"""What an address of an object store may hold; loads nothing, so that commands start at once."""

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def secret_in(name: str) -> str:
    """Returns why an address with keys in it is refused, without them; empty: it has none."""
    # A path has one slash where an address has two.
    bucket = name.removeprefix("s3:").lstrip("/").partition("/")[0]
    if not name.startswith("s3:/") or not set("@:") & set(bucket):
        return ""
    return f"expected s3://BUCKET/PREFIX, got an address with keys in it: set {KEYS} instead"
