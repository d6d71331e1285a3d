# A network, the cache in it, and what spiders on EC2 need: a subnet with a way to the internet, a security group, a
# role. The spiders themselves are yours.
#
#   terraform init
#   terraform apply -var alarm_email=you@example.com
#   terraform output -raw scrapy_settings

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = var.name }
  }
}

# The region's own zones; local ones, which have to be opted in to, are not for caches.
data "aws_availability_zones" "offered" {
  count = var.zones == null ? 1 : 0

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

# EC2, as the partition calls it.
data "aws_service_principal" "ec2" {
  service_name = "ec2"
}

locals {
  zones = var.zones == null ? slice(sort(one(data.aws_availability_zones.offered[*].names)), 0, 2) : var.zones
}

module "dedup" {
  source = "../.."

  name                      = var.name
  vpc_id                    = aws_vpc.this.id
  subnet_ids                = aws_subnet.cache[*].id
  spider_security_group_ids = { spiders = aws_security_group.spiders.id }
  spider_role_names         = [aws_iam_role.spiders.name]
  alarm_topic_arn           = aws_sns_topic.alarms.arn
  monthly_budget_usd        = var.alarm_email == null ? null : var.monthly_budget_usd
  budget_emails             = var.alarm_email[*]
}

# ---- Network

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:Flow logs of a crawl are long, and paid for by the gigabyte; switch them on where you need them
  cidr_block           = "10.20.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true # the name of the cache is resolved inside the VPC
  tags                 = { Name = var.name }
}

# Nothing uses the default group, and so it lets nothing through.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

# Private: the VPC's main route table, which has no route to the internet.
resource "aws_subnet" "cache" {
  count = length(local.zones)

  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, count.index)
  tags              = { Name = "${var.name}-cache-${local.zones[count.index]}" }
}

# For spiders. Give an instance a public address, or put a NAT gateway (about 33 USD a month) in between.
resource "aws_subnet" "spiders" {
  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[0]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, 100)
  tags              = { Name = "${var.name}-spiders" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_route_table" "spiders" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-spiders" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.spiders.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "spiders" {
  subnet_id      = aws_subnet.spiders.id
  route_table_id = aws_route_table.spiders.id
}

# ---- Spiders

resource "aws_security_group" "spiders" {
  #checkov:skip=CKV2_AWS_5:The spiders that wear it are not part of this example
  name        = "${var.name}-spiders"
  description = "Spiders: nobody calls them, they call the web and the cache"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_egress_rule" "web" {
  for_each = { http = 80, https = 443 }

  security_group_id = aws_security_group.spiders.id
  description       = "The web, ${each.key}"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_vpc_security_group_egress_rule" "cache" {
  security_group_id            = aws_security_group.spiders.id
  description                  = "The cache"
  referenced_security_group_id = module.dedup.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_iam_role" "spiders" {
  name        = "${var.name}-spiders"
  description = "Spiders on EC2"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = data.aws_service_principal.ec2.name }
    }]
  })
}

resource "aws_iam_instance_profile" "spiders" {
  name = "${var.name}-spiders"
  role = aws_iam_role.spiders.name
}

# ---- Alarms

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:CloudWatch cannot publish under the key that AWS manages, and the messages are names and thresholds
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_subscription" "email" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
