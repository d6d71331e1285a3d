# The ledger: a serverless cache of Valkey, and the key that encrypts it.

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  region = data.aws_region.current.id
  # Read off a resource: aws_caller_identity would ask AWS, and a plan would need credentials.
  account_id = join("", aws_security_group.cache[*].owner_id)
  root_arn   = "arn:${data.aws_partition.current.partition}:iam::${local.account_id}:root"

  # The key that encrypts: the module's own, yours, or AWS's (null).
  key_arn = var.create_key ? one(aws_kms_key.cache[*].arn) : var.kms_key_arn

  tags = merge({ Name = var.name }, var.tags)
}

# What makes Terraform replace the cache, which forgets every post: another name, engine, major_engine_version,
# kms_key_id or other subnet_ids. prevent_destroy refuses such a plan, and `terraform destroy` too. Limits, snapshots,
# description, security groups, user group and tags change in place. README.md tells how to destroy on purpose.
resource "aws_elasticache_serverless_cache" "this" {
  count = var.create ? 1 : 0

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

  kms_key_id         = local.key_arn
  subnet_ids         = var.subnet_ids
  security_group_ids = [aws_security_group.cache[0].id]
  user_group_id      = aws_elasticache_user_group.spiders[0].user_group_id

  tags = local.tags

  timeouts {
    create = var.timeouts.create
    update = var.timeouts.update
    delete = var.timeouts.delete
  }

  lifecycle {
    prevent_destroy = true
    # A cache that is full of posts is not replaced because the snapshot it once came from is no longer named.
    ignore_changes = [snapshot_arns_to_restore]

    precondition {
      condition     = !var.check_subnets || length(distinct(data.aws_subnet.given[*].availability_zone)) == length(data.aws_subnet.given)
      error_message = "subnet_ids: two of them share an availability zone."
    }
  }
}

resource "aws_kms_key" "cache" {
  count = var.create && var.create_key ? 1 : 0

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
  count = var.create && var.create_key ? 1 : 0

  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.cache[0].key_id
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
    # AWS's pages name the service in this way for every partition, and its names in China end otherwise: both.
    "kms:ViaService" = distinct([
      "elasticache.${local.region}.amazonaws.com",
      "elasticache.${local.region}.${data.aws_partition.current.dns_suffix}",
    ])
  }
}
