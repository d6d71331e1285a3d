"""IAM authentication for Amazon ElastiCache. Needs the extra ``aws``."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from scrapy_valkey_dedup.model import (
    DedupError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettingsError,
)
from scrapy_valkey_dedup.parsing import flag, text

try:
    from botocore.config import Config
    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        DeferredRefreshableCredentials,
        RefreshableCredentials,
    )
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004 (botocore's)
        CredentialRetrievalError,
        HTTPClientError,
        MetadataRetrievalError,
        NoCredentialsError,
    )
    from botocore.session import Session
    from developer_toolkit_elasticache import generate_iam_auth_token
except ImportError as error:
    _missing = str(error)
else:
    _missing = ""

_T = TypeVar("_T")
_SECONDS = 3  # for one request to AWS's token service, and there are two: botocore tries minutes
_PASSING_CODES = {
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "IDPCommunicationError",
}
_SERVICES = {"iam-role", "container-role"}  # botocore's names: the machine's and the container's
_SERVER_ERRORS = 500
_TOO_MANY = 429
_LONGEST_SESSION = 64  # characters of a role's session: docs of AssumeRole


class ElastiCacheIAM:
    """Gives each new connection a token of AWS IAM as the password of an ElastiCache user.

    A token is signed on this machine, by AWS's own toolkit, with the AWS credentials that botocore
    finds: environment, profile, or the role of the container or the machine. It opens connections
    for 15 minutes; ElastiCache closes each connection after 12 hours, and the next one has a new
    token (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html).

    Args:
        user: the user's id, which for IAM is its name, too.
        cache: the name of the serverless cache, or the id of the replication group.
        region: such as ``"eu-central-1"``. None: ``AWS_REGION``, ``AWS_DEFAULT_REGION``, or the
            region of the AWS profile.
        serverless: whether it is a serverless cache; it is part of what is signed.
        profile: the AWS profile to use. None: ``AWS_PROFILE``, or the default one.
        role_arn: the role to assume with what was found; its credentials sign, and are renewed in
            time. None: what was found signs.

    Raises:
        SettingsError: names every fault of the arguments, or the extra that is missing.
    """

    needs_tls = True

    def __init__(  # noqa: PLR0913 (all are keywords)
        self,
        *,
        user: str,
        cache: str,
        region: str | None = None,
        serverless: bool | str = True,
        profile: str | None = None,
        role_arn: str | None = None,
    ) -> None:
        if _missing:
            cure = "pip install scrapy-valkey-dedup[aws]"
            raise SettingsError([f"ElastiCacheIAM needs the extra aws: {cure} ({_missing})"])
        faults: list[str] = []

        def checked(option: str, value: Any, parse: Callable[[Any], _T]) -> _T | None:
            try:
                return parse(value)
            except ValueError as error:
                faults.append(f"{option} = {value!r:.100}: {error}")
                return None

        self._user = checked("user", user, _user)
        self._cache = checked("cache", cache, _cache)
        self._profile = checked("profile", profile, _profile)
        self._role_arn = checked("role_arn", role_arn, _role_arn)
        self._region = checked("region", region, partial(_region, self._profile))
        self._serverless = checked("serverless", serverless, flag)
        if faults:
            raise SettingsError(faults)
        self._lock = threading.Lock()
        self._session: Any = None
        _keep_secrets_out_of_the_log()

    def get_credentials(self) -> tuple[str, str]:
        """User and token. It may ask AWS for credentials over the network.

        Raises:
            LedgerRefusedError: there are no AWS credentials, or AWS refuses them.
            LedgerUnavailableError: AWS cannot be asked for them at this moment.
        """
        with self._lock:
            try:
                token = self._sign(self._session or self._new_session())
            except Exception as error:  # noqa: BLE001 (files, processes and services can fail in any way)
                raise self._translated(error) from None
        return str(self._user), token

    def _sign(self, session: Any) -> str:
        name = "serverless_cache_name" if self._serverless else "replication_group_id"
        token = generate_iam_auth_token(
            user_id=str(self._user), region=self._region, session=session, **{name: self._cache}
        )
        # Credentials that renew themselves are kept. Keys from a file, or from the environment, are
        # read again the next time: they may have been exchanged.
        renews = isinstance(session.get_credentials(), RefreshableCredentials)
        self._session = session if renews else None
        return token

    def _new_session(self) -> Any:
        session = self._own_session()
        if self._role_arn is not None:
            # botocore has no public way to give a session credentials that renew themselves.
            session._credentials = DeferredRefreshableCredentials(  # noqa: SLF001
                method="assume-role", refresh_using=self._assume_role
            )
        return session

    def _assume_role(self) -> dict[str, Any]:
        """Credentials of the role. Those that it is assumed with are looked for anew each time."""
        session = self._own_session()
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        fetcher = AssumeRoleCredentialFetcher(
            session.create_client,
            credentials,
            str(self._role_arn),
            extra_args={"RoleSessionName": f"scrapy-valkey-dedup-{self._user}"[:_LONGEST_SESSION]},
        )
        found: dict[str, Any] = fetcher.fetch_credentials()
        return found

    def _own_session(self) -> Any:
        session = Session(profile=self._profile)
        session.set_default_client_config(
            Config(
                connect_timeout=_SECONDS,
                read_timeout=_SECONDS,
                retries={"total_max_attempts": 2},
            )
        )
        if not session.get_config_variable("region"):  # botocore does not know AWS_REGION
            session.set_config_variable("region", self._region)
        return session

    def _translated(self, error: Exception) -> DedupError:
        why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        what = (
            f"No token for the user {self._user!r} of the cache {self._cache!r} "
            f"(VALKEY_DEDUP_CREDENTIALS): {why:.300}"
        )
        if _is_passing(error):
            return LedgerUnavailableError(what)
        return LedgerRefusedError(f"{what}. Check the AWS credentials of this process")

    def __repr__(self) -> str:
        more = {"profile": self._profile, "role_arn": self._role_arn}
        return (
            f"ElastiCacheIAM(user={self._user!r}, cache={self._cache!r}, "
            f"region={self._region!r}, serverless={self._serverless!r}"
            + "".join(f", {name}={value!r}" for name, value in more.items() if value)
            + ")"
        )


def _user(value: Any) -> str:
    found = text(value).lower()
    if not re.fullmatch(r"(default\.)?[a-z][a-z0-9-]*", found, re.ASCII):
        raise ValueError(
            "write the id of an ElastiCache user: a letter, then letters, digits and -"
        )
    return found


def _cache(value: Any) -> str:
    """In lower case, as ElastiCache keeps it: it is the host for which the token is signed."""
    found = text(value).lower()
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", found, re.ASCII):
        raise ValueError(
            "write the name of the cache (of a cache with nodes: the id of its replication group), "
            'such as "posts", not its address or ARN'
        )
    return found


def _profile(value: Any) -> str | None:
    if value is None or value == "":
        return None
    found = text(value)
    try:
        known = Session().available_profiles
    except BotoCoreError as error:  # files that cannot be read
        raise ValueError(f"{error}; mend it, or leave profile out") from None
    if found not in known:
        names = ", ".join(map(repr, known)) or "none"
        raise ValueError(f"AWS's configuration files have no such profile; they have {names:.300}")
    return found


def _role_arn(value: Any) -> str | None:
    if value is None or value == "":
        return None
    found = text(value)
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,500}", found, re.ASCII):
        raise ValueError("write the ARN of a role, such as arn:aws:iam::123456789012:role/spiders")
    return found


def _region(profile: str | None, value: Any) -> str:
    cure = 'write a region such as "eu-central-1"'
    if value is None or value == "":
        try:
            session = Session(profile=profile)
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


def _is_passing(error: Exception) -> bool:
    """Whether AWS may answer in a moment."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in _PASSING_CODES or status == _TOO_MANY or status >= _SERVER_ERRORS
    if isinstance(error, CredentialRetrievalError):
        return error.kwargs.get("provider") in _SERVICES
    return isinstance(error, ConnectionError | HTTPClientError | MetadataRetrievalError)


def _keep_secrets_out_of_the_log() -> None:
    """At DEBUG, Scrapy's own level, botocore logs what it signs, and the keys that it is given.

    At INFO it says for each token where it found them. Who gives its logger a level gets that.
    """
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
