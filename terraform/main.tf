# The ledger: a serverless cache of Valkey, and the key that encrypts it.

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  region = data.aws_region.current.id
  # Read off a resource: aws_caller_identity would ask AWS, and a plan would need credentials.
  account_id = aws_security_group.cache.owner_id
  root_arn   = "arn:${data.aws_partition.current.partition}:iam::${local.account_id}:root"

  tags = merge({ Name = var.name }, var.tags)
}

data "aws_subnet" "given" {
  count = var.check_subnets ? length(var.subnet_ids) : 0

  id = var.subnet_ids[count.index]

  lifecycle {
    postcondition {
      condition     = self.vpc_id == var.vpc_id
      error_message = "subnet_ids: ${self.id} is not in ${var.vpc_id}."
    }
    postcondition {
      condition     = !self.map_public_ip_on_launch
      error_message = "subnet_ids: ${self.id} gives out public addresses; a private subnet does not."
    }
  }
}

# What makes Terraform replace the cache, which forgets every post: another name, engine, major_engine_version,
# kms_key_id or other subnet_ids. prevent_destroy refuses such a plan, and `terraform destroy` too. Limits, snapshots,
# description, security groups, user group and tags change in place. README.md tells how to destroy on purpose.
resource "aws_elasticache_serverless_cache" "this" {
  name        = var.name
  description = var.description

  engine               = "valkey"
  major_engine_version = var.major_engine_version

  cache_usage_limits {
    data_storage {
      minimum = var.storage_minimum_gb
      maximum = var.storage_maximum_gb
      unit    = "GB"
    }
    ecpu_per_second {
      minimum = var.ecpu_minimum_per_second
      maximum = var.ecpu_maximum_per_second
    }
  }

  daily_snapshot_time      = var.snapshot_time
  snapshot_retention_limit = var.snapshot_retention_days
  snapshot_arns_to_restore = length(var.restore_from_snapshot_arns) > 0 ? var.restore_from_snapshot_arns : null

  kms_key_id         = aws_kms_key.cache.arn
  subnet_ids         = var.subnet_ids
  security_group_ids = [aws_security_group.cache.id]
  user_group_id      = aws_elasticache_user_group.spiders.user_group_id

  tags = local.tags

  lifecycle {
    prevent_destroy = true
    # A cache that is full of posts is not replaced because the snapshot it once came from is no longer named.
    ignore_changes = [snapshot_arns_to_restore]

    precondition {
      condition     = !var.check_subnets || length(distinct(data.aws_subnet.given[*].availability_zone)) == length(var.subnet_ids)
      error_message = "subnet_ids: two of them share an availability zone."
    }
  }
}

resource "aws_kms_key" "cache" {
  description             = "Encrypts ${var.name} (${var.description}) and its snapshots"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_days
  policy                  = local.key_policy
  tags                    = local.tags

  lifecycle {
    # Without it neither the cache nor any snapshot can be read.
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "cache" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.cache.key_id
}

locals {
  # In the policy of a key "*" as the resource means this key; every action and every principal is named.
  key_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = length(var.key_administrator_arns) > 0 ? sort(var.key_administrator_arns) : [local.root_arn] }
        Resource  = "*"
        # Nothing that decrypts, and no CreateGrant, which would hand on the right to.
        Action = [
          "kms:CancelKeyDeletion",
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:DescribeKey",
          "kms:DisableKey",
          "kms:DisableKeyRotation",
          "kms:EnableKey",
          "kms:EnableKeyRotation",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListGrants",
          "kms:ListKeyPolicies",
          "kms:ListKeyRotations",
          "kms:ListResourceTags",
          "kms:PutKeyPolicy",
          "kms:RevokeGrant",
          "kms:RotateKeyOnDemand",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
      },
      {
        Sid       = "UseThroughElastiCache"
        Effect    = "Allow"
        Principal = { AWS = [local.root_arn] }
        Resource  = "*"
        Action = [
          "kms:Decrypt",
          "kms:DescribeKey",
          "kms:Encrypt",
          "kms:GenerateDataKey",
          "kms:GenerateDataKeyWithoutPlaintext",
          "kms:ReEncryptFrom",
          "kms:ReEncryptTo",
        ]
        Condition = { StringEquals = local.through_elasticache }
      },
      {
        Sid       = "GrantThroughElastiCache"
        Effect    = "Allow"
        Principal = { AWS = [local.root_arn] }
        Resource  = "*"
        Action    = ["kms:CreateGrant"]
        Condition = {
          StringEquals = local.through_elasticache
          Bool         = { "kms:GrantIsForAWSResource" = "true" }
        }
      },
    ]
  })

  through_elasticache = {
    "kms:CallerAccount" = local.account_id
    "kms:ViaService"    = "elasticache.${local.region}.amazonaws.com"
  }
}
