"""Feeds of the crawl tests and what they hold: local files, and an S3 on loopback that fails."""

from __future__ import annotations

import csv
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

BUCKET = "posts"


def feed(path: Path, format: str = "jsonlines", **options: Any) -> dict[str, dict[str, Any]]:  # noqa: A002
    """FEEDS with one local file, which is appended to."""
    return {str(path): {"format": format, "overwrite": False, **options}}


def lines_of(path: Path) -> list[str]:
    """The whole lines of a file; one that a kill has cut off at its end is none."""
    text = path.read_text() if path.exists() else ""
    return text.splitlines()[: text.count("\n")]


def posts_in(path: Path) -> Counter[str]:
    """How often each post stands in a file of JSON Lines, or of CSV with its headers."""
    lines = lines_of(path)
    if path.suffix == ".csv":
        rows = csv.reader(lines)
        return Counter(row[0] for row in rows if row and row[0] != "post_id")
    return Counter(str(json.loads(line)["post_id"]) for line in lines)


class S3:
    """A real S3 protocol on loopback (moto), which refuses some uploads."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.refuses: Callable[[], bool] = lambda: False
        """Asked for each upload of a file."""
        self.uploads = 0
        """How many files it was given."""
        moto = DomainDispatcherApplication(create_backend_app)

        def application(environment: Any, start_response: Any) -> Iterable[bytes]:
            is_upload = environment["REQUEST_METHOD"] == "PUT" and "." in environment["PATH_INFO"]
            if is_upload and self.refuses():
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [b"<Error><Code>AccessDenied</Code></Error>"]
            self.uploads += is_upload
            return moto(environment, start_response)

        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client().create_bucket(Bucket=BUCKET)

    @property
    def settings(self) -> dict[str, str]:
        """Scrapy's settings for it."""
        return {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION_NAME": "us-east-1",
        }

    def client(self) -> Any:
        """A boto3 client."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )

    def empty(self) -> None:
        """Forgets all files, and refuses none."""
        client = self.client()
        for name in self.files:
            client.delete_object(Bucket=BUCKET, Key=name)
        self.refuses = lambda: False

    @property
    def files(self) -> dict[str, bytes]:
        """The content of each file."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

    @property
    def posts(self) -> Counter[str]:
        """How often each post stands in its files of JSON Lines."""
        return Counter(
            str(json.loads(line)["post_id"])
            for content in self.files.values()
            for line in content.splitlines()
        )

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


def half_of_the_time(seed: int) -> Callable[[], bool]:
    """Whether to fail, this time."""
    chance = random.Random(seed)
    return lambda: chance.random() < 0.5
