terraform {
  # What the tests run with. `terraform test` can mock a plan from 1.11 on.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Tested with 5.100. Version 6 may force a replacement where 5 does not; try it on a copy first.
      version = "~> 5.100"
    }
  }
}
