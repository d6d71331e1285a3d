"""Spiders for all that can become of a request, each with the site that it reads."""

from tests.support.spiders.scenarios.callbacks import Callbacks, Inline
from tests.support.spiders.scenarios.failures import Failures, Retries
from tests.support.spiders.scenarios.links import Exempt, Links, Posting, Sessions, StartUrls, Tree
from tests.support.spiders.scenarios.media import Files, FilesFirst, FilesWithMeta, Images, Robots
from tests.support.spiders.scenarios.middlewares import Middlewares
from tests.support.spiders.scenarios.order import Asking, Held, Lazy, Parked, Urgent
from tests.support.spiders.scenarios.redirects import AwayAllowed, Redirects
from tests.support.spiders.scenarios.rescues import Rescued
from tests.support.spiders.scenarios.senders import Senders

__all__ = [
    "Asking",
    "AwayAllowed",
    "Callbacks",
    "Exempt",
    "Failures",
    "Files",
    "FilesFirst",
    "FilesWithMeta",
    "Held",
    "Images",
    "Inline",
    "Lazy",
    "Links",
    "Middlewares",
    "Parked",
    "Posting",
    "Redirects",
    "Rescued",
    "Retries",
    "Robots",
    "Senders",
    "Sessions",
    "StartUrls",
    "Tree",
    "Urgent",
]
