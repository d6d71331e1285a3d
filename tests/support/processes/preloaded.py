"""What processes of tests import, imported once, in the process that they are forked from."""

from __future__ import annotations
