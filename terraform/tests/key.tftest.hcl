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
    condition     = aws_kms_key.cache.enable_key_rotation
    error_message = "The key rotates."
  }
  assert {
    condition     = aws_kms_key.cache.deletion_window_in_days == 30
    error_message = "A deleted key can be saved for 30 days."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache.policy).Statement :
      !can(regex("\\*", jsonencode([statement.Principal, statement.Action])))
    ])
    error_message = "Every principal and every action of the key's policy is named."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache.policy).Statement :
      statement.Effect == "Allow" && can(statement.Principal.AWS)
    ])
    error_message = "The policy allows principals of IAM, and nothing else."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache.policy).Statement :
      statement.Principal.AWS == ["arn:aws:iam::123456789012:root"]
    ])
    error_message = "Without administrators the account's own IAM policies decide."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache.policy).Statement :
      try(statement.Condition.StringEquals, null) == {
        "kms:CallerAccount" = "123456789012"
        "kms:ViaService"    = "elasticache.eu-central-1.amazonaws.com"
      }
      if length(setintersection(statement.Action, ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant"])) > 0
    ])
    error_message = "Only ElastiCache, for this account, encrypts and decrypts."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.cache.policy).Statement :
      try(statement.Condition.Bool, null) == { "kms:GrantIsForAWSResource" = "true" }
      if contains(statement.Action, "kms:CreateGrant")
    ])
    error_message = "Grants are for AWS's own resources."
  }
  assert {
    condition     = length(setintersection(jsondecode(aws_kms_key.cache.policy).Statement[0].Action, ["kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:EnableKeyRotation"])) == 3
    error_message = "Somebody can administer the key."
  }
  assert {
    condition     = aws_kms_alias.cache.name == "alias/post-dedup" && aws_kms_alias.cache.target_key_id == aws_kms_key.cache.key_id
    error_message = "The key has a name that people can read."
  }
}

run "administrators_of_the_key_are_named" {
  command = plan

  variables {
    key_administrator_arns = ["arn:aws:iam::123456789012:role/terraform"]
  }

  assert {
    condition     = jsondecode(aws_kms_key.cache.policy).Statement[0].Principal.AWS == ["arn:aws:iam::123456789012:role/terraform"]
    error_message = "Only the named ones administer the key."
  }
  assert {
    condition     = jsondecode(aws_kms_key.cache.policy).Statement[1].Principal.AWS == ["arn:aws:iam::123456789012:root"]
    error_message = "ElastiCache still uses it."
  }
}
