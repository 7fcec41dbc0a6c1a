"""An S3 server over a local folder (versitygw). Called by the command line and by the `object_store` fixture."""

import uuid
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import botocore.config
import botocore.session

from integration.services.golang import program
from integration.services.process import Run, free_port

_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_VERSION = "v1.8.0"
_ACCESS_KEY = "beam-unified"
_SECRET_KEY = "of-tests-only"
_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """A running S3 server.

    Args:
        run: Where it lives.
        endpoint_url: "http://host:port".
        access_key: Of its only user.
        secret_key: Of its only user.
    """

    name: ClassVar[str] = "s3"

    run: Run
    endpoint_url: str
    access_key: str
    secret_key: str

    @classmethod
    def start(cls, run: Run) -> Self:
        """Start a server on an empty folder."""
        versitygw = program(_PACKAGE, _VERSION)
        port = free_port()
        command = [str(versitygw), "--quiet", "--port", f"127.0.0.1:{port}", "--region", _REGION, "posix"]
        keys = {"ROOT_ACCESS_KEY": _ACCESS_KEY, "ROOT_SECRET_KEY": _SECRET_KEY}
        run.spawn(cls.name, [*command, str(run.path("s3", "buckets"))], environment=keys)
        store = cls(run=run, endpoint_url=f"http://127.0.0.1:{port}", access_key=_ACCESS_KEY, secret_key=_SECRET_KEY)
        run.wait_until("answer of the S3 server", store.ask, name=cls.name, timeout_s=20)
        return store

    def ask(self) -> None:
        """Raises unless the server lists its buckets to us."""
        client = self._client()
        try:
            client.list_buckets()
        finally:
            client.close()

    @property
    def storage_options(self) -> dict[str, Any]:
        """For s3fs, and for everything that passes options on to it."""
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "client_kwargs": {"endpoint_url": self.endpoint_url, "region_name": _REGION},
        }

    def make_bucket(self, prefix: str) -> str:
        """Make a new bucket, so that no test meets another's objects, and return its name: the prefix and an id."""
        return self.ensure_bucket(f"{prefix}-{uuid.uuid4().hex[:12]}")

    def ensure_bucket(self, name: str) -> str:
        """Make the bucket, if it is not there, and return its name."""
        client = self._client()
        try:
            client.create_bucket(Bucket=name)
        except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            pass
        finally:
            client.close()
        return name

    def _client(self) -> Any:
        settings = botocore.config.Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
        return botocore.session.Session().create_client(
            "s3", endpoint_url=self.endpoint_url, region_name=_REGION, config=settings,
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
        )  # fmt: skip
