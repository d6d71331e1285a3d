"""The arguments of :class:`~scrapy_valkey_dedup.aws.ElastiCacheIAM`, one parser for each.

Each returns the value, or raises a ``ValueError`` whose message is the cure.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any

from scrapy_valkey_dedup.parsing import text

with suppress(ImportError):  # without the extra nothing here is called
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session


def user(value: Any) -> str:
    """The id of an ElastiCache user, in lower case as ElastiCache keeps it."""
    found = text(value).lower()
    if not re.fullmatch(r"(default\.)?[a-z][a-z0-9-]*", found, re.ASCII):
        raise ValueError(
            "write the id of an ElastiCache user: a letter, then letters, digits and -"
        )
    return found


def cache(value: Any) -> str:
    """The name of a cache, in lower case as ElastiCache keeps it: the token is signed for it."""
    found = text(value).lower()
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", found, re.ASCII):
        raise ValueError(
            "write the name of the cache (of a cache with nodes: the id of its replication group), "
            'such as "posts", not its address or ARN'
        )
    return found


def profile(value: Any) -> str | None:
    """The name of a profile in AWS's configuration files; None: the default one."""
    if value is None or value == "":
        return None
    found = text(value)
    try:
        known = Session().available_profiles
    except BotoCoreError as error:  # files that cannot be read
        raise ValueError(f"{error}; fix it, or leave profile out") from None
    if found not in known:
        names = ", ".join(map(repr, known)) or "none"
        raise ValueError(f"AWS's configuration files have no such profile; they have {names:.300}")
    return found


def role_arn(value: Any) -> str | None:
    """The ARN of a role; None: there is none."""
    if value is None or value == "":
        return None
    found = text(value)
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,500}", found, re.ASCII):
        raise ValueError("write the ARN of a role, such as arn:aws:iam::123456789012:role/spiders")
    return found


def region(aws_profile: str | None, value: Any) -> str:
    """A region; None: the one that AWS's own configuration names, with this profile."""
    cure = 'write a region such as "eu-central-1"'
    if value is None or value == "":
        try:
            session = Session(profile=aws_profile)
            value = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        except BotoCoreError as error:
            raise ValueError(f"{error}; {cure}") from None
        if not value:
            raise ValueError(
                f"neither AWS_REGION, AWS_DEFAULT_REGION nor the AWS profile names one; {cure}"
            )
        cure += f" (AWS's own configuration says {value!r:.60})"
    found = str(value).strip().lower()
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d+", found, re.ASCII):
        raise ValueError(cure)
    return found
