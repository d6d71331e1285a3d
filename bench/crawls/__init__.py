"""The processes of the benchmarks' crawls: their site and their spiders."""
