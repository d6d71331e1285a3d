# The cache in a VPC that is there already, for spiders that run there already.
#
#   terraform init
#   terraform apply -var vpc_id=vpc-... -var 'subnet_ids=["subnet-...", "subnet-..."]' \
#     -var spider_security_group_id=sg-... -var spider_role_name=...
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
}

module "dedup" {
  source = "../.."

  vpc_id                    = var.vpc_id
  subnet_ids                = var.subnet_ids
  check_subnets             = var.check_subnets
  spider_security_group_ids = { spiders = var.spider_security_group_id }
  spider_role_names         = [var.spider_role_name]
  alarm_topic_arn           = var.alarm_topic_arn
}
