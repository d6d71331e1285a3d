"""botocore's sessions: with short waits, and with the credentials of a role if one is assumed."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # without the extra nothing here is called
    from botocore.config import Config
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
    from botocore.exceptions import (
        ClientError,
        ConnectionError,  # noqa: A004 (botocore's)
        CredentialRetrievalError,
        HTTPClientError,
        MetadataRetrievalError,
        NoCredentialsError,
    )
    from botocore.session import Session

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
_LONGEST_NAME = 64  # characters of a role's session: docs of AssumeRole


class Sessions:
    """Makes sessions of a profile and a region; ``user`` names them where a role is assumed."""

    def __init__(
        self, profile: str | None, region: str | None, role_arn: str | None, user: str
    ) -> None:
        self._profile = profile
        self._region = region
        self._role_arn = role_arn
        self._user = user

    def new(self) -> Any:
        """A session whose credentials sign tokens."""
        session = self._own()
        if self._role_arn is not None:
            # botocore has no public way to give a session credentials that renew themselves.
            session._credentials = DeferredRefreshableCredentials(  # noqa: SLF001
                method="assume-role", refresh_using=self._assume_role
            )
        return session

    def _assume_role(self) -> dict[str, Any]:
        """Credentials of the role. Those that it is assumed with are looked up each time."""
        session = self._own()
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        fetcher = AssumeRoleCredentialFetcher(
            session.create_client,
            credentials,
            str(self._role_arn),
            extra_args={"RoleSessionName": f"scrapy-valkey-dedup-{self._user}"[:_LONGEST_NAME]},
        )
        found: dict[str, Any] = fetcher.fetch_credentials()
        return found

    def _own(self) -> Any:
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


def may_pass(error: Exception) -> bool:
    """Whether AWS may answer in a moment."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in _PASSING_CODES or status == _TOO_MANY or status >= _SERVER_ERRORS
    if isinstance(error, CredentialRetrievalError):
        return error.kwargs.get("provider") in _SERVICES
    return isinstance(error, ConnectionError | HTTPClientError | MetadataRetrievalError)


def keep_secrets_out_of_the_log() -> None:
    """At DEBUG, Scrapy's own level, botocore logs what it signs, and the keys that it is given.

    At INFO it says for each token where it found them. A level that the user has set is kept.
    """
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
