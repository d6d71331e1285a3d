# What AWS would answer, for plans that ask nobody.

mock_data "aws_partition" {
  defaults = {
    partition  = "aws"
    dns_suffix = "amazonaws.com"
  }
}

mock_data "aws_region" {
  defaults = {
    id   = "eu-central-1"
    name = "eu-central-1"
  }
}

mock_data "aws_subnet" {
  defaults = {
    vpc_id = "vpc-1"
  }
}

# No subnet names a route table of its own, and the main one leads nowhere.
mock_data "aws_route_tables" {
  defaults = {
    ids = []
  }
}

mock_data "aws_route_table" {
  defaults = {
    id     = "rtb-main"
    routes = []
  }
}

mock_resource "aws_security_group" {
  defaults = {
    id       = "sg-cache"
    owner_id = "123456789012"
  }
}

mock_resource "aws_kms_key" {
  defaults = {
    arn    = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd"
    key_id = "1234abcd"
  }
}

mock_resource "aws_elasticache_user" {
  defaults = {
    arn = "arn:aws:elasticache:eu-central-1:123456789012:user:post-dedup-spider"
  }
}

mock_resource "aws_elasticache_serverless_cache" {
  defaults = {
    arn                 = "arn:aws:elasticache:eu-central-1:123456789012:serverlesscache:post-dedup"
    full_engine_version = "8.1"
    endpoint = [{
      address = "post-dedup-abc123.serverless.euc1.cache.amazonaws.com"
      port    = 6379
    }]
    reader_endpoint = [{
      address = "post-dedup-abc123.serverless.euc1.cache.amazonaws.com"
      port    = 6380
    }]
  }
}

mock_resource "aws_iam_policy" {
  defaults = {
    arn = "arn:aws:iam::123456789012:policy/post-dedup-connect"
  }
}
