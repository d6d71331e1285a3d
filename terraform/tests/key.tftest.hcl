# Who administers the key, who uses it, and that it rotates.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2"]
  check_subnets             = false
  spider_security_group_ids = { spiders = "sg-spiders" }
}

run "the_key" {
  command = plan

  assert {
    condition     = aws_kms_key.cache[0].enable_key_rotation
    error_message = "The key rotates."
  }
  assert {
    condition     = aws_kms_key.cache[0].deletion_window_in_days == 30
    error_message = "A deleted key can be saved for 30 days."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache[0].policy).Statement :
      !can(regex("\\*", jsonencode([statement.Principal, statement.Action])))
    ])
    error_message = "Every principal and every action of the key's policy is named."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache[0].policy).Statement :
      statement.Effect == "Allow" && can(statement.Principal.AWS)
    ])
    error_message = "The policy allows principals of IAM, and nothing else."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache[0].policy).Statement :
      statement.Principal.AWS == ["arn:aws:iam::123456789012:root"]
    ])
    error_message = "Without administrators the account's own IAM policies decide."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache[0].policy).Statement :
      try(statement.Condition.StringEquals, null) == {
        "kms:CallerAccount" = "123456789012"
        "kms:ViaService"    = ["elasticache.eu-central-1.amazonaws.com"]
      }
      if length(setintersection(statement.Action, ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant"])) > 0
    ])
    error_message = "Only ElastiCache, for this account, encrypts and decrypts."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache[0].policy).Statement :
      try(statement.Condition.Bool, null) == { "kms:GrantIsForAWSResource" = "true" }
      if contains(statement.Action, "kms:CreateGrant")
    ])
    error_message = "Grants are for AWS's own resources."
  }
  assert {
    condition = toset(one([for statement in jsondecode(aws_kms_key.cache[0].policy).Statement : statement.Action if statement.Sid == "UseThroughElastiCache"])) == toset([
      "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext",
      "kms:ReEncryptFrom", "kms:ReEncryptTo",
    ])
    error_message = "What ElastiCache needs to encrypt a cache and its snapshots, and to read them again."
  }
  assert {
    condition     = [for statement in jsondecode(aws_kms_key.cache[0].policy).Statement : statement.Sid if contains(statement.Action, "kms:CreateGrant")] == ["GrantThroughElastiCache"]
    error_message = "ElastiCache works by grants, and nobody else makes any."
  }
  assert {
    # Nothing by which data could be read: neither Decrypt, nor ReEncrypt to a key of their own, nor a grant of either.
    condition = alltrue([
      for action in one([for statement in jsondecode(aws_kms_key.cache[0].policy).Statement : statement.Action if statement.Sid == "Administer"]) :
      !can(regex("^kms:(Decrypt|Encrypt|ReEncrypt|GenerateDataKey|CreateGrant|Generate|Derive|Sign|Verify)", action))
    ])
    error_message = "Administrators use the key for nothing."
  }
  assert {
    condition = length(setsubtract(
      # What the Terraform provider calls to make, read, change and delete a key with an alias and tags.
      ["kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKeyRotation", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateKeyDescription", "kms:UpdateAlias"],
      one([for statement in jsondecode(aws_kms_key.cache[0].policy).Statement : statement.Action if statement.Sid == "Administer"]),
    )) == 0
    error_message = "Anyone who runs Terraform can look after the key with it, describe it for one."
  }
  assert {
    condition     = aws_elasticache_serverless_cache.this[0].kms_key_id == aws_kms_key.cache[0].arn && output.key_arn == aws_kms_key.cache[0].arn
    error_message = "It encrypts the cache."
  }
  assert {
    condition     = aws_kms_alias.cache[0].name == "alias/post-dedup" && aws_kms_alias.cache[0].target_key_id == aws_kms_key.cache[0].key_id
    error_message = "The key has a name that people can read."
  }
}

run "administrators_of_the_key_are_named" {
  command = plan

  variables {
    key_administrator_arns = ["arn:aws:iam::123456789012:role/terraform"]
  }

  assert {
    condition     = jsondecode(aws_kms_key.cache[0].policy).Statement[0].Principal.AWS == ["arn:aws:iam::123456789012:role/terraform"]
    error_message = "Only the named ones administer the key."
  }
  assert {
    condition     = jsondecode(aws_kms_key.cache[0].policy).Statement[1].Principal.AWS == ["arn:aws:iam::123456789012:root"]
    error_message = "ElastiCache still uses it."
  }
}

run "a_key_of_your_own" {
  command = plan

  variables {
    create_key  = false
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/yours"
  }

  assert {
    condition     = aws_elasticache_serverless_cache.this[0].kms_key_id == "arn:aws:kms:eu-central-1:123456789012:key/yours" && output.key_arn == "arn:aws:kms:eu-central-1:123456789012:key/yours"
    error_message = "The given key encrypts the cache."
  }
  assert {
    condition     = length(aws_kms_key.cache) == 0 && length(aws_kms_alias.cache) == 0
    error_message = "The module makes none."
  }
}

run "a_key_of_aws" {
  command = plan

  variables {
    create_key = false
  }

  assert {
    condition     = aws_elasticache_serverless_cache.this[0].kms_key_id == null && output.key_arn == null
    error_message = "Without a key AWS encrypts with one of its own."
  }
  assert {
    condition     = length(aws_kms_key.cache) == 0 && length(aws_kms_alias.cache) == 0
    error_message = "The module makes none."
  }
}

run "another_partition" {
  command = plan

  variables {
    key_administrator_arns = []
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }
  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1", name = "cn-north-1" }
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_kms_key.cache[0].policy).Statement : statement.Principal.AWS == ["arn:aws-cn:iam::123456789012:root"]])
    error_message = "ARNs are those of the partition."
  }
  assert {
    condition     = jsondecode(aws_kms_key.cache[0].policy).Statement[1].Condition.StringEquals["kms:ViaService"] == ["elasticache.cn-north-1.amazonaws.com", "elasticache.cn-north-1.amazonaws.com.cn"]
    error_message = "ElastiCache by either of its names there."
  }
  assert {
    condition     = length(aws_kms_key.cache) == 1 && alltrue([for file in fileset(".", "*.tf") : !can(regex("(?m)^[^#]*arn:aws[:-]", file(file)))])
    error_message = "No file of the module names a partition."
  }
}
