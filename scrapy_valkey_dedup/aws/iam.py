"""The provider of credentials that signs ElastiCache's IAM tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from scrapy_valkey_dedup.aws import arguments
from scrapy_valkey_dedup.aws.sessions import Sessions, keep_secrets_out_of_the_log, may_pass
from scrapy_valkey_dedup.model import (
    DedupError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettingsError,
)
from scrapy_valkey_dedup.parsing import flag

try:
    import botocore.session  # noqa: F401 (here it is seen whether the extra is there)
    from botocore.credentials import RefreshableCredentials
    from developer_toolkit_elasticache import generate_iam_auth_token
except ImportError as error:
    _missing = str(error)
else:
    _missing = ""

_T = TypeVar("_T")


class ElastiCacheIAM:
    """Gives each new connection a token of AWS IAM as the password of an ElastiCache user.

    A token is signed on this machine, by AWS's own toolkit, with the AWS credentials that botocore
    finds: environment, profile, or the role of the container or the machine. It opens connections
    for 15 minutes; ElastiCache closes each connection after 12 hours, and the next one has a new
    token (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html).

    Args:
        user: the user's id, which for IAM is also its name.
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
            cure = 'pip install "scrapy-valkey-dedup[aws]"'
            raise SettingsError([f"ElastiCacheIAM needs the extra aws: {cure} ({_missing})"])
        faults: list[str] = []

        def checked(option: str, value: Any, parse: Callable[[Any], _T]) -> _T | None:
            try:
                return parse(value)
            except ValueError as error:
                faults.append(f"{option} = {value!r:.100}: {error}")
                return None

        self._user = checked("user", user, arguments.user)
        self._cache = checked("cache", cache, arguments.cache)
        self._profile = checked("profile", profile, arguments.profile)
        self._role_arn = checked("role_arn", role_arn, arguments.role_arn)
        self._region = checked("region", region, partial(arguments.region, self._profile))
        self._serverless = checked("serverless", serverless, flag)
        if faults:
            raise SettingsError(faults)
        self._sessions = Sessions(self._profile, self._region, self._role_arn, str(self._user))
        self._lock = threading.Lock()
        self._session: Any = None
        keep_secrets_out_of_the_log()

    def get_credentials(self) -> tuple[str, str]:
        """User and token. It may ask AWS for credentials over the network.

        Raises:
            LedgerRefusedError: there are no AWS credentials, or AWS refuses them.
            LedgerUnavailableError: AWS cannot be asked for them at this moment.
        """
        with self._lock:
            try:
                token = self._sign(self._session or self._sessions.new())
            except Exception as error:  # noqa: BLE001 (files, processes and services can fail in any way)
                raise self._translated(error) from None
        return str(self._user), token

    def _sign(self, session: Any) -> str:
        name = "serverless_cache_name" if self._serverless else "replication_group_id"
        token = generate_iam_auth_token(
            user_id=str(self._user), region=self._region, session=session, **{name: self._cache}
        )
        # Credentials that renew themselves are kept. Keys from a file, or from the environment, are
        # read again the next time: they may have been replaced.
        renews = isinstance(session.get_credentials(), RefreshableCredentials)
        self._session = session if renews else None
        return token

    def _translated(self, error: Exception) -> DedupError:
        why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        what = (
            f"No token for the user {self._user!r} of the cache {self._cache!r} "
            f"(VALKEY_DEDUP_CREDENTIALS): {why:.300}"
        )
        if may_pass(error):
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
