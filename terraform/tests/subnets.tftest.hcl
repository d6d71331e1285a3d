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
  values = { id = "subnet-1", availability_zone = "eu-central-1a", vpc_id = "vpc-1" }
}

override_data {
  target = data.aws_subnet.given[1]
  values = { id = "subnet-2", availability_zone = "eu-central-1b", vpc_id = "vpc-1" }
}

run "private_subnets_are_accepted" {
  command = plan

  assert {
    condition     = length(data.aws_subnet.given) == 2 && length(data.aws_route_table.given) == 2
    error_message = "AWS is asked about each."
  }
  assert {
    condition     = alltrue([for table in data.aws_route_table.given : one(table.filter) == { name = "association.main", values = toset(["true"]) }])
    error_message = "Subnets that name no route table go by the VPC's main one."
  }
}

run "a_subnet_with_a_way_to_the_internet_is_refused" {
  command = plan

  override_data {
    target = data.aws_route_tables.named[1]
    values = { ids = ["rtb-public"] }
  }
  override_data {
    target = data.aws_route_table.given[1]
    values = { id = "rtb-public", routes = [{ cidr_block = "10.0.0.0/16", gateway_id = "local" }, { cidr_block = "0.0.0.0/0", gateway_id = "igw-1" }] }
  }

  expect_failures = [data.aws_route_table.given[1]]
}

run "a_subnet_behind_a_nat_gateway_is_private" {
  command = plan

  override_data {
    target = data.aws_route_tables.named[0]
    values = { ids = ["rtb-nat"] }
  }
  override_data {
    target = data.aws_route_table.given[0]
    values = { id = "rtb-nat", routes = [{ cidr_block = "10.0.0.0/16", gateway_id = "local" }, { cidr_block = "0.0.0.0/0", gateway_id = "", nat_gateway_id = "nat-1" }] }
  }

  assert {
    condition     = one(data.aws_route_table.given[0].filter) == { name = "association.subnet-id", values = toset(["subnet-1"]) }
    error_message = "A subnet that names a route table goes by that one."
  }
}

run "a_subnet_of_another_vpc_is_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.given[0]
    values = { id = "subnet-1", availability_zone = "eu-central-1a", vpc_id = "vpc-2" }
  }

  expect_failures = [data.aws_subnet.given[0]]
}

run "two_subnets_of_one_zone_are_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.given[1]
    values = { id = "subnet-2", availability_zone = "eu-central-1a", vpc_id = "vpc-1" }
  }

  expect_failures = [aws_elasticache_serverless_cache.this[0]]
}

run "a_plan_without_credentials_asks_about_no_subnet" {
  command = plan

  variables {
    check_subnets = false
  }

  assert {
    condition     = length(data.aws_subnet.given) == 0 && length(data.aws_route_tables.named) == 0 && length(data.aws_route_table.given) == 0
    error_message = "No data source is read."
  }
}
