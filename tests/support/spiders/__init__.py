"""What runs in the processes of crawls: spiders, storages, pipelines."""
