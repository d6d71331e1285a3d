"""What tests of several rooms share, by purpose.

``servers`` has what stands on loopback: Valkeys, sites, stand-ins of AWS. ``crawls`` starts crawls
and reads what they leave, ``spiders`` is what runs in their processes, and ``processes`` is how
those start. Beside them: time, runs without a crawl, items.
"""
