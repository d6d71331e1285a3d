# The subnets are private ones of the VPC, each in a zone of its own.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2"]
  spider_security_group_ids = { spiders = "sg-spiders" }
}

override_data {
  target = data.aws_subnet.given[0]
  values = { id = "subnet-1", availability_zone = "eu-central-1a", vpc_id = "vpc-1", map_public_ip_on_launch = false }
}

override_data {
  target = data.aws_subnet.given[1]
  values = { id = "subnet-2", availability_zone = "eu-central-1b", vpc_id = "vpc-1", map_public_ip_on_launch = false }
}

run "private_subnets_are_accepted" {
  command = plan

  assert {
    condition     = length(data.aws_subnet.given) == 2
    error_message = "AWS is asked about each."
  }
}

run "a_subnet_that_gives_out_public_addresses_is_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.given[1]
    values = { id = "subnet-2", availability_zone = "eu-central-1b", vpc_id = "vpc-1", map_public_ip_on_launch = true }
  }

  expect_failures = [data.aws_subnet.given[1]]
}

run "a_subnet_of_another_vpc_is_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.given[0]
    values = { id = "subnet-1", availability_zone = "eu-central-1a", vpc_id = "vpc-2", map_public_ip_on_launch = false }
  }

  expect_failures = [data.aws_subnet.given[0]]
}

run "two_subnets_of_one_zone_are_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.given[1]
    values = { id = "subnet-2", availability_zone = "eu-central-1a", vpc_id = "vpc-1", map_public_ip_on_launch = false }
  }

  expect_failures = [aws_elasticache_serverless_cache.this]
}

run "a_plan_without_credentials_asks_about_no_subnet" {
  command = plan

  variables {
    check_subnets = false
  }

  assert {
    condition     = length(data.aws_subnet.given) == 0
    error_message = "No data source is read."
  }
}
