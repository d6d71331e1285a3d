"""The request filter: which pages are fetched, by which run, and when they are done.

Scrapy calls two modules, ``dupefilter`` and ``middleware``. A request goes on from there:

1. ``scheduling``: into the scheduler. It is marked to claim its page.
2. ``downloads``: just before its download. ``admission`` says when, the page is claimed, and a
   redirect (``redirects``) claims its target, too.
3. ``rescheduling``: back to the scheduler, if its page is known, or held by another run
   (``held_pages``).
4. ``scraping``: its response and the ``callback_output``. ``timelines`` decides on next pages.
5. ``pages``: the page ends, and its claims are settled.

``states`` has what a request is at any moment, ``in_progress`` the pages of this run, ``meta`` what
requests carry with them. ``closing`` says when the spider may close.
"""
